// Sums over any axes, and expand: each is the gradient of the other. What all reductions share stands here too.
import * as kernels from '../generated/kernels.ts';
import type { Emitter, Location } from '../runtime/command.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import { checkFlag, checkOptions } from '../tensor/create.ts';
import type { DType } from '../tensor/dtype.ts';
import type { Op, OutputSpec } from '../tensor/op.ts';
import { checkShape, show } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import {
  axesOf,
  emitPass,
  type PlanOptions,
  planParts,
  planReduction,
  type ReductionKernels,
  type ReductionPlan,
  reducedShape,
  reducedStrides,
} from './reduction.ts';
import { reshape, viewOf, viewOp } from './shape.ts';
import { checkFloat } from './unary-op.ts';

/** Options of reductions. */
export interface ReduceOptions {
  /** The dimension or dimensions to reduce, negative from the end. Default: all; an empty list means all too. */
  dim?: number | readonly number[] | undefined;
  /** Leaves reduced dimensions in the shape, with extent 1. Default false. */
  keepdim?: boolean | undefined;
}

/** Names of `ReduceOptions`. */
export const REDUCE_OPTIONS = ['dim', 'keepdim'];

/** What every reduction knows about its shapes. */
export interface ReductionGeometry {
  readonly plan: ReductionPlan;
  /** The reduced dimensions. */
  readonly axes: readonly number[];
  /** Shape of x, and of y with the reduced dimensions as 1. */
  readonly from: readonly number[];
  readonly kept: readonly number[];
}

/** Axes and shapes of a reduction of x. */
export function inferReduction(
  op: string,
  x: Tensor,
  { dim, keepdim = false }: ReduceOptions,
  options: PlanOptions,
): ReductionGeometry & { readonly spec: (dtype: DType) => OutputSpec } {
  checkFlag(op, 'keepdim', keepdim);
  const axes = axesOf(op, dim, x.shape.length);
  const plan = planReduction(x.shape, x.strides, axes, options);
  const shape = reducedShape(x.shape, axes, keepdim);
  const strides = reducedStrides(plan, axes, keepdim);
  const spec = (dtype: DType): OutputSpec => ({ shape, dtype, strides });
  return { plan, axes, from: x.shape, kept: reducedShape(x.shape, axes, true), spec };
}

/** A tensor of the reduced shape, repeated to the shape of x. */
export function spread(y: Tensor, { kept, from }: ReductionGeometry): Tensor {
  return expand(reshape(y, kept), from);
}

/** Emits a reduction that is a sum of parts. */
export function emitSum<Extra>(
  emit: Emitter,
  plan: ReductionPlan,
  first: ReductionKernels<Extra & { divisor: number }>,
  operands: { y: Location; x: Location; divisor: number } & Extra,
): void {
  if (plan.parts === 1) {
    emitPass(emit, first, plan, operands);
  } else {
    const partial = emit.temporary(4 * plan.outputs * plan.parts);
    emitPass(emit, first, plan, { ...operands, y: partial, divisor: 1 });
    emitPass(emit, SUM, planParts(plan), { y: operands.y, x: partial, divisor: operands.divisor });
  }
}

/** Sums of f32 numbers. */
export const SUM: ReductionKernels<{ divisor: number }> = {
  rows: kernels.sumRows,
  columns: kernels.sumColumns,
  cost: 0.12,
};
const INTEGERS: ReductionKernels<{ bytes: number }> = {
  rows: kernels.sumIntegers,
  columns: kernels.sumIntegers,
  cost: 0.2,
};
export interface SumGeometry extends ReductionGeometry {
  /** What the sum is divided by. */
  readonly divisor: number;
}

/** Exact sums of integers have no kernel by columns. */
const INTEGER_PLAN: PlanOptions = { byColumns: false };

function emitIntegerSum(emit: Emitter, plan: ReductionPlan, x: Tensor, y: Tensor): void {
  const bytes = x.dtype === 'u8' ? 1 : 4;
  if (plan.parts === 1) {
    emitPass(emit, INTEGERS, plan, { y: locationOf(y), x: locationOf(x), bytes });
  } else {
    const partial = emit.temporary(4 * plan.outputs * plan.parts);
    emitPass(emit, INTEGERS, plan, { y: partial, x: locationOf(x), bytes });
    emitPass(emit, INTEGERS, planParts(plan, INTEGER_PLAN), { y: locationOf(y), x: partial, bytes: 4 });
  }
}

/** The op of a sum; `gradient` takes dy to the shape of x. */
export function sumOp(
  name: 'sum' | 'mean',
  gradient: (dy: Tensor, geometry: SumGeometry) => Tensor,
): Op<ReduceOptions, SumGeometry> {
  return {
    name,
    infer([x], options) {
      if (name === 'mean') checkFloat(name, x!);
      const integers = x!.dtype !== 'f32';
      const { spec, ...geometry } = inferReduction(name, x!, options, integers ? INTEGER_PLAN : {});
      const divisor = name === 'mean' ? geometry.plan.count : 1;
      return { geometry: { ...geometry, divisor }, outputs: [spec(integers ? 'i32' : 'f32')] };
    },
    lower(emit, { plan, divisor }, [x], [y]) {
      if (x!.dtype !== 'f32') emitIntegerSum(emit, plan, x!, y!);
      else emitSum(emit, plan, SUM, { y: locationOf(y!), x: locationOf(x!), divisor });
    },
    backward: ({ gradients: [dy], geometry }) => [gradient(dy!, geometry)],
    saves: {},
  };
}

const sumOfOp = sumOp('sum', spread);

/**
 * Sum over `dim` (default: all dimensions). f32 sums are blocked, so that their error hardly grows with their length; i32 and u8
 * (the results of comparisons) are summed exactly, in i32. Source: torch.sum.
 *
 * @throws RangeError for a dimension out of range or named twice, TypeError for an unknown option
 * @example
 * ```ts
 * import { init, sum, tensor } from 'feathermap';
 * await init();
 * const x = tensor([[1, 2], [3, 4]]);
 * if (sum(x).item() !== 10 || sum(x, { dim: 0 }).data().join() !== '4,6') throw new Error('wrong');
 * ```
 */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  checkOptions('sum', options, REDUCE_OPTIONS);
  return apply(sumOfOp, [x], options)[0]!;
}

/** Sums a gradient over the dimensions in which an operand of shape `shape` was repeated. */
export function sumTo(gradient: Tensor, shape: readonly number[]): Tensor {
  const shift = gradient.shape.length - shape.length;
  const repeated = (i: number): boolean => i < shift || (shape[i - shift] === 1 && gradient.shape[i] !== 1);
  const dim = gradient.shape.map((_, i) => i).filter(repeated);
  if (dim.length) gradient = sum(gradient, { dim, keepdim: true });
  return shift ? reshape(gradient, shape) : gradient;
}

const expandOp = viewOp<{ readonly shape: readonly number[] }>(
  'expand',
  (x, { shape }) => {
    const shift = shape.length - x.shape.length;
    const strides = shape.map((extent, i) => (i < shift || x.shape[i - shift] !== extent ? 0 : x.strides[i - shift]!));
    return viewOf(x, shape, strides);
  },
  (dy, xShape) => sumTo(dy, xShape),
);

/**
 * A view in which dimensions of extent 1 are repeated, and new ones stand in front; -1 keeps an extent. Source: torch.Tensor.expand.
 *
 * @throws RangeError if an extent other than 1 had to change
 * @example
 * ```ts
 * import { expand, init, tensor } from 'feathermap';
 * await init();
 * if (expand(tensor([[1], [2]]), [2, 3]).data().join() !== '1,1,1,2,2,2') throw new Error('wrong');
 * ```
 */
export function expand(x: Tensor, shape: readonly number[]): Tensor {
  checkReadable('expand', x);
  const shift = Array.isArray(shape) ? shape.length - x.shape.length : 0;
  const full = Array.isArray(shape)
    ? shape.map((extent, i) => (extent === -1 ? (x.shape[i - shift] ?? -1) : extent))
    : shape;
  checkShape('expand', full);
  const fits = x.shape.every((extent, i) => extent === 1 || extent === full[i + shift]);
  if (shift < 0 || !fits) throw new RangeError(`expand: ${show(x.shape)} does not expand to ${show(shape)}`);
  return apply(expandOp, [x], { shape: full })[0]!;
}
