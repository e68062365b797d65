// Parts of a tensor as views, and constant padding: each is the gradient of the other.
import { apply, checkReadable } from '../tensor/apply.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Op } from '../tensor/op.ts';
import { checkSize, normalizeDim, show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { emitConstant, emitCopy } from './copy.ts';
import { part, stridesLike } from './loops.ts';
import { squeeze, viewOf, viewOp } from './shape.ts';

interface NarrowOptions {
  readonly dim: number;
  readonly start: number;
  readonly length: number;
}

const narrowOp = viewOp<NarrowOptions>(
  'narrow',
  (x, { dim, start, length }) => {
    const shape = x.shape.map((extent, i) => (i === dim ? length : extent));
    return viewOf(x, shape, x.strides, start * x.strides[dim]!);
  },
  (dy, xShape, { dim, start, length }) => {
    const around = xShape.map((extent, i): [number, number] => (i === dim ? [start, extent - start - length] : [0, 0]));
    return pad(dy, around.reverse().flat());
  },
);

/**
 * The `length` elements from `start` along `dim`, as a view. Source: torch.narrow.
 *
 * @throws RangeError if they are not inside the tensor
 * @example
 * ```ts
 * import { arange, init, narrow } from 'feathermap';
 * await init();
 * if (narrow(arange(5), 0, 1, 3).data().join() !== '1,2,3') throw new Error('wrong');
 * ```
 */
export function narrow(x: Tensor, dim: number, start: number, length: number): Tensor {
  checkReadable('narrow', x);
  const axis = normalizeDim('narrow', dim, x.shape.length);
  const extent = x.shape[axis] ?? 0;
  const from = start < 0 ? start + extent : start;
  if (!Number.isInteger(from) || !Number.isInteger(length) || from < 0 || length < 0 || from + length > extent)
    throw new RangeError(`narrow: ${length} elements from ${start} do not lie in dimension ${dim} of ${show(x.shape)}`);
  return apply(narrowOp, [x], { dim: axis, start: from, length })[0]!;
}

/** Where to cut each dimension: `[start, end]`, either counting from the end if negative, or undefined for all of it. */
export type SliceRange = readonly [start: number, end?: number] | undefined;

/**
 * A part of the tensor as a view: one `[start, end]` per dimension, as x[start:end, ...] in Python; missing ones take all.
 * Source: NumPy basic slicing.
 *
 * @throws RangeError for more ranges than dimensions or bounds that are not whole numbers
 * @example
 * ```ts
 * import { arange, init, slice } from 'feathermap';
 * await init();
 * const x = arange(6).reshape([2, 3]);
 * if (slice(x, [undefined, [1]]).data().join() !== '1,2,4,5') throw new Error('wrong');
 * ```
 */
export function slice(x: Tensor, ranges: readonly SliceRange[]): Tensor {
  checkReadable('slice', x);
  if (ranges.length > x.shape.length)
    throw new RangeError(`slice: ${ranges.length} ranges for a tensor with ${x.shape.length} dimensions`);
  let y = x;
  ranges.forEach((range, dim) => {
    if (!range) return;
    const extent = x.shape[dim]!;
    const [start, end] = [cut(range[0], extent), cut(range[1] ?? extent, extent)];
    y = narrow(y, dim, start, Math.max(0, end - start));
  });
  return y;
}

/** A bound as Python reads it: from the end if negative, clipped to the extent. */
function cut(bound: number, extent: number): number {
  if (!Number.isInteger(bound)) throw new RangeError(`slice: bound ${bound} is not a whole number`);
  return Math.min(extent, Math.max(0, bound < 0 ? bound + extent : bound));
}

/**
 * The part of the tensor at `index` of dimension `dim`, without that dimension, as a view. Source: torch.select.
 *
 * @throws RangeError for an index or a dimension out of range
 * @example
 * ```ts
 * import { init, select, tensor } from 'feathermap';
 * await init();
 * if (select(tensor([[1, 2], [3, 4]]), 1, 0).data().join() !== '1,3') throw new Error('wrong');
 * ```
 */
export function select(x: Tensor, dim: number, index: number): Tensor {
  checkReadable('select', x);
  const axis = normalizeDim('select', dim, x.shape.length);
  const extent = x.shape[axis] ?? 0;
  const at = index < 0 ? index + extent : index;
  if (!Number.isInteger(at) || at < 0 || at >= extent)
    throw new RangeError(`select: index ${index} is out of range for dimension ${dim} of ${show(x.shape)}`);
  return squeeze(narrow(x, axis, at, 1), axis);
}

/** Options of `pad`. */
export interface PadOptions {
  /** What stands around the tensor; default 0. */
  value?: number | undefined;
}

interface PadGeometry {
  readonly shape: readonly number[];
  /** Elements before and after, per dimension. */
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly value: number;
}

const padOp: Op<Omit<PadGeometry, 'shape'>, PadGeometry> = {
  name: 'pad',
  infer([x], { before, after, value }) {
    const shape = x!.shape.map((extent, i) => extent + before[i]! + after[i]!);
    checkSize('pad', shape);
    const outputs = [{ shape, dtype: x!.dtype, strides: stridesLike(shape, x!.strides) }];
    return { geometry: { shape: x!.shape, before, after, value }, outputs };
  },
  lower(emit, { before, value }, [x], [y]) {
    emitConstant(emit, y!, value);
    const offset = before.reduce((sum, count, i) => sum + count * y!.strides[i]!, 0);
    emitCopy(emit, part(y!, x!.shape, y!.strides, offset), x!, true);
  },
  backward: ({ gradients: [dy], geometry: { shape, before, after } }) => {
    let dx = dy!;
    shape.forEach((extent, i) => {
      if (before[i] || after[i]) dx = narrow(dx, i, before[i]!, extent);
    });
    return [dx];
  },
  saves: {},
};

/**
 * Puts a constant around a tensor. `padding` lists [before, after] pairs starting with the *last* dimension, flat, as in PyTorch:
 * `[left, right, top, bottom]` for images. Source: torch.nn.functional.pad, mode 'constant'.
 *
 * @throws RangeError for an odd or too long list, or a negative entry; TypeError for an unknown option
 * @example
 * ```ts
 * import { init, pad, tensor } from 'feathermap';
 * await init();
 * if (pad(tensor([[1, 2]]), [1, 0], { value: 7 }).data().join() !== '7,1,2') throw new Error('wrong');
 * ```
 */
export function pad(x: Tensor, padding: readonly number[], options: PadOptions = {}): Tensor {
  checkReadable('pad', x);
  checkOptions('pad', options, ['value']);
  const rank = x.shape.length;
  if (!Array.isArray(padding) || padding.length % 2 || padding.length > 2 * rank)
    throw new RangeError(`pad: padding ${show(padding)} must list up to ${rank} pairs, the last dimension first`);
  if (!padding.every((count) => Number.isInteger(count) && count >= 0))
    throw new RangeError(`pad: padding ${show(padding)} must hold whole numbers >= 0`);
  const { value = 0 } = options;
  if (typeof value !== 'number') throw new TypeError(`pad: value must be a number, got ${typeof value}`);
  const side = (which: number): number[] => x.shape.map((_, i) => padding[2 * (rank - 1 - i) + which] ?? 0);
  return apply(padOp, [x], { before: side(0), after: side(1), value })[0]!;
}
