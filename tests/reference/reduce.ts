// Reductions in float64, for understanding: each output element knows the list of input indices it stands for.
import { broadcastIndices } from './broadcast.ts';
import { type Numbers, type Shape, sizeOf } from './values.ts';

export interface ReduceOptions {
  /** The axes to reduce, negative from the end; all of them if left out. */
  dim?: number | readonly number[];
  keepdim?: boolean;
  unbiased?: boolean;
}

/** `groups[iy]` are the indices of x, in order, that element iy of y is made of. */
export interface ReduceGeometry {
  y: number[];
  groups: number[][];
}

export function reduceGeometry(x: Shape, { dim, keepdim = false }: ReduceOptions = {}): ReduceGeometry {
  const dims = [dim ?? x.map((_, axis) => axis)].flat().map((axis) => (axis < 0 ? axis + x.length : axis));
  const kept = x.map((extent, axis) => (dims.includes(axis) ? 1 : extent));
  const groups: number[][] = Array.from({ length: sizeOf(kept) }, () => []);
  broadcastIndices(kept, x).forEach((iy, ix) => {
    groups[iy]!.push(ix);
  });
  return { y: keepdim ? kept : kept.filter((_, axis) => !dims.includes(axis)), groups };
}

/** One number from many, and what each of the many gets of the gradient. */
export interface Reduction {
  f: (x: number[], options: ReduceOptions) => number;
  dx?: (x: number[], y: number, options: ReduceOptions) => number[];
}

const total = (x: number[]): number => x.reduce((sum, number) => sum + number, 0);
const mean = (x: number[]): number => total(x) / x.length;
const freedom = (x: number[], { unbiased = true }: ReduceOptions): number => (unbiased ? x.length - 1 : x.length);

/** Equal extremes share the gradient evenly, as in PyTorch's amax and amin. */
function extreme(f: (...numbers: number[]) => number): Reduction {
  return {
    f: (x) => f(...x),
    dx: (x, y) => x.map((number) => (number === y ? 1 / x.filter((other) => other === y).length : 0)),
  };
}

/** Position of the maximum: the first of equals, and the first NaN before all numbers. */
function indexOfMax(x: number[]): number {
  const nan = x.findIndex(Number.isNaN);
  return nan >= 0 ? nan : x.indexOf(Math.max(...x));
}

export const reductions: Record<'sum' | 'mean' | 'var' | 'max' | 'min' | 'argmax', Reduction> = {
  sum: { f: total, dx: (x) => x.map(() => 1) },
  mean: { f: mean, dx: (x) => x.map(() => 1 / x.length) },
  var: {
    f: (x, options) => total(x.map((number) => (number - mean(x)) ** 2)) / freedom(x, options),
    dx: (x, _, options) => x.map((number) => (2 * (number - mean(x))) / freedom(x, options)),
  },
  max: extreme(Math.max),
  min: extreme(Math.min),
  argmax: { f: indexOfMax },
};

export function reduce(op: Reduction, x: Numbers, shape: Shape, options: ReduceOptions = {}): Float64Array {
  const { groups } = reduceGeometry(shape, options);
  return Float64Array.from(groups, (group) =>
    op.f(
      group.map((index) => x[index]!),
      options,
    ),
  );
}

export function reduceGrad(
  op: Required<Reduction>,
  dy: Numbers,
  x: Numbers,
  shape: Shape,
  options: ReduceOptions = {},
): Float64Array {
  const dx = new Float64Array(sizeOf(shape));
  reduceGeometry(shape, options).groups.forEach((group, iy) => {
    const numbers = group.map((index) => x[index]!);
    const shares = op.dx(numbers, op.f(numbers, options), options);
    group.forEach((index, i) => {
      dx[index] = dy[iy]! * shares[i]!;
    });
  });
  return dx;
}
