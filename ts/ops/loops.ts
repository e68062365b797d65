// What ops hand to the strided kernels: loops over several operands as a table, and the grid of elementwise work.
import { ELEMENT_TILE } from '../generated/kernels.ts';
import type { Emitter, Grid, Location } from '../runtime/command.ts';
import { elementBytes } from '../tensor/dtype.ts';
import { coalesce, contiguousStrides, isDense, type Loop } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';

/** A walk over `shape` by several operands, in the words of assembly/strided.ts. */
export interface Walk {
  readonly dims: Location;
  readonly rank: number;
  readonly count: number;
}

/** The grid of `count` elements that take `nanoseconds` each. */
export function elementGrid(count: number, nanoseconds: number): Grid {
  return { tiles: Math.ceil(count / ELEMENT_TILE), work: count * nanoseconds };
}

/** Sizes and byte strides of loops (outermost first), innermost first as the kernels read them. */
export function loopTable(emit: Emitter, loops: readonly Loop[], bytes: readonly number[]): Location {
  return emit.table(
    [...loops].reverse().flatMap(({ size, strides }) => [size, ...strides.map((s, i) => s * bytes[i]!)]),
  );
}

/** The walk of `operands`, each with strides along all of `shape`; the order of the loops is that of the first one. */
export function walkOf(emit: Emitter, shape: readonly number[], operands: readonly Strided[]): Walk {
  const loops = coalesce(
    shape,
    operands.map(({ strides }) => strides),
  );
  const bytes = operands.map(({ dtype }) => elementBytes(dtype));
  const count = shape.reduce((product, extent) => product * extent, 1);
  return { dims: loopTable(emit, loops, bytes), rank: loops.length, count };
}

/** What a walk needs to know of an operand. */
export type Strided = Pick<Tensor, 'strides' | 'dtype'>;

/** Dense strides of `shape` whose dimensions lie in memory in the same order as those of `like`. */
export function stridesLike(shape: readonly number[], like: readonly number[]): number[] {
  const order = shape.map((_, i) => i).sort((a, b) => like[b]! - like[a]! || a - b);
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (const i of order.reverse()) {
    strides[i] = stride;
    stride *= Math.max(1, shape[i]!);
  }
  return strides;
}

/** Strides of an elementwise result: those of the first operand that has its shape and is dense, else row-major. */
export function resultStrides(shape: readonly number[], operands: readonly Tensor[]): readonly number[] {
  const same = (x: Tensor): boolean =>
    x.shape.length === shape.length && x.shape.every((extent, i) => extent === shape[i]);
  return operands.find((x) => same(x) && isDense(x.shape, x.strides))?.strides ?? contiguousStrides(shape);
}

/** Part of a tensor's memory under another shape; for lowering only, it is not on the tape. */
export function part(x: Tensor, shape: readonly number[], strides: readonly number[], offset = 0): Tensor {
  return new Tensor({ storage: x.storage, shape, dtype: x.dtype, strides, offset: x.offset + offset });
}
