// Views: another shape over the same memory. What a view cannot say (reshape of a permuted tensor) is copied first.
import { apply, checkReadable } from '../tensor/apply.ts';
import type { Op, OutputSpec } from '../tensor/op.ts';
import { checkShape, MAX_RANK, normalizeDim, show, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { contiguous } from './copy.ts';

/** A view of the first input. */
export function viewOf(x: Tensor, shape: readonly number[], strides: readonly number[], offset = 0): OutputSpec {
  return { shape, dtype: x.dtype, strides, view: { input: 0, offset: x.offset + offset } };
}

/** An op that only looks at memory differently: `view` says how, `backward` takes the gradient to the shape of x. */
export function viewOp<Options>(
  name: string,
  view: (x: Tensor, options: Options) => OutputSpec,
  backward: (dy: Tensor, xShape: readonly number[], options: Options) => Tensor,
): Op<Options, { readonly xShape: readonly number[]; readonly options: Options }> {
  return {
    name,
    infer: ([x], options) => ({ geometry: { xShape: x!.shape, options }, outputs: [view(x!, options)] }),
    lower() {},
    backward: ({ gradients: [dy], geometry: { xShape, options } }) => [backward(dy!, xShape, options)],
    saves: {},
  };
}

/** Strides under which memory laid out as `strides` over `from` reads as shape `to`, or null if none do. Both have the same size. */
export function viewStrides(
  from: readonly number[],
  strides: readonly number[],
  to: readonly number[],
): number[] | null {
  const result = new Array<number>(to.length).fill(1);
  let next = to.length - 1;
  for (let i = from.length - 1; i >= 0; ) {
    const run = runEndingAt(from, strides, i);
    i = run.before;
    let left = run.size;
    let stride = run.stride;
    while (next >= 0 && (left > 1 || to[next] === 1)) {
      if (left % to[next]!) return null;
      result[next] = stride;
      stride *= to[next]!;
      left /= to[next]!;
      next--;
    }
    if (left > 1) return null;
  }
  return result;
}

/** The longest group of dimensions that ends at `last` and is one even run through memory. */
function runEndingAt(
  shape: readonly number[],
  strides: readonly number[],
  last: number,
): { before: number; size: number; stride: number } {
  let i = last;
  let size = shape[i]!;
  let stride = strides[i]!;
  for (i--; i >= 0; i--) {
    if (size === 1) stride = strides[i]!;
    else if (shape[i] !== 1 && strides[i] !== stride * size) break;
    size *= shape[i]!;
  }
  return { before: i, size, stride };
}

const viewAsOp = viewOp<{ readonly shape: readonly number[] }>(
  'view',
  (x, { shape }) => {
    const strides = x.size === 0 ? shape.map(() => 1) : viewStrides(x.shape, x.strides, shape);
    if (!strides)
      throw new RangeError(
        `view: ${show(x.shape)} with strides ${show(x.strides)} cannot be seen as ${show(shape)} without a copy; use reshape`,
      );
    return viewOf(x, shape, strides);
  },
  (dy, xShape) => reshape(dy, xShape),
);

/** Replaces a single -1 by what the other extents leave. Throws unless the sizes agree. */
function completeShape(op: string, x: Tensor, shape: readonly number[]): number[] {
  checkShape(op, Array.isArray(shape) ? shape.map((extent) => (extent === -1 ? 0 : extent)) : shape);
  const open = shape.indexOf(-1);
  const known = shape.reduce((product, extent) => (extent === -1 ? product : product * extent), 1);
  const full = shape.map((extent, i) => (i === open ? x.size / known : extent));
  if (shape.lastIndexOf(-1) !== open) throw new RangeError(`${op}: shape ${show(shape)} has more than one -1`);
  if (sizeOf(full) !== x.size || !full.every(Number.isInteger))
    throw new RangeError(`${op}: ${show(x.shape)} with ${x.size} elements does not fit shape ${show(shape)}`);
  return full;
}

/**
 * The same memory under another shape; one extent may be -1. Source: torch.Tensor.view.
 *
 * @throws RangeError if the sizes differ or the layout in memory does not allow it without a copy
 * @example
 * ```ts
 * import { arange, init } from 'feathermap';
 * await init();
 * if (arange(6).view([2, -1]).shape.join() !== '2,3') throw new Error('wrong');
 * ```
 */
export function view(x: Tensor, shape: readonly number[]): Tensor {
  checkReadable('view', x);
  return apply(viewAsOp, [x], { shape: completeShape('view', x, shape) })[0]!;
}

/**
 * The elements in row-major order under another shape; one extent may be -1. A view where the layout in memory allows it, else a copy.
 * Source: torch.reshape.
 *
 * @throws RangeError if the sizes differ
 * @example
 * ```ts
 * import { arange, init, reshape } from 'feathermap';
 * await init();
 * if (reshape(arange(6), [3, -1]).shape.join() !== '3,2') throw new Error('wrong');
 * ```
 */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  checkReadable('reshape', x);
  const full = completeShape('reshape', x, shape);
  const possible = x.size === 0 || viewStrides(x.shape, x.strides, full);
  return apply(viewAsOp, [possible ? x : contiguous(x)], { shape: full })[0]!;
}

/**
 * Merges the dimensions from `startDim` to `endDim` into one. Source: torch.flatten.
 *
 * @throws RangeError for dimensions out of range or in the wrong order
 * @example
 * ```ts
 * import { flatten, init, zeros } from 'feathermap';
 * await init();
 * if (flatten(zeros([2, 3, 4]), 1).shape.join() !== '2,12') throw new Error('wrong');
 * ```
 */
export function flatten(x: Tensor, startDim = 0, endDim = -1): Tensor {
  checkReadable('flatten', x);
  const rank = x.shape.length;
  const start = normalizeDim('flatten', startDim, rank);
  const end = normalizeDim('flatten', endDim, rank);
  if (start > end) throw new RangeError(`flatten: startDim ${startDim} comes after endDim ${endDim}`);
  const merged = sizeOf(x.shape.slice(start, end + 1));
  return reshape(x, [...x.shape.slice(0, start), merged, ...x.shape.slice(end + 1)]);
}

const permuteOp = viewOp<{ readonly dims: readonly number[] }>(
  'permute',
  (x, { dims }) =>
    viewOf(
      x,
      dims.map((d) => x.shape[d]!),
      dims.map((d) => x.strides[d]!),
    ),
  (dy, _shape, { dims }) =>
    permute(
      dy,
      dims.map((_, i) => dims.indexOf(i)),
    ),
);

/**
 * The dimensions in another order, as a view. Source: torch.permute.
 *
 * @throws RangeError unless `dims` names each dimension once, TypeError unless it is an array
 * @example
 * ```ts
 * import { init, permute, zeros } from 'feathermap';
 * await init();
 * if (permute(zeros([2, 3, 4]), [2, 0, 1]).shape.join() !== '4,2,3') throw new Error('wrong');
 * ```
 */
export function permute(x: Tensor, dims: readonly number[]): Tensor {
  checkReadable('permute', x);
  if (!Array.isArray(dims)) throw new TypeError(`permute: dims must be an array of numbers, got ${typeof dims}`);
  const rank = x.shape.length;
  const order = dims.map((d) => normalizeDim('permute', d, rank));
  if (order.length !== rank || new Set(order).size !== rank)
    throw new RangeError(
      `permute: dims ${show(dims)} must name each of the ${rank} dimensions of ${show(x.shape)} once`,
    );
  return apply(permuteOp, [x], { dims: order })[0]!;
}

/**
 * Two dimensions exchanged, as a view. Source: torch.transpose.
 *
 * @throws RangeError for a dimension out of range
 * @example
 * ```ts
 * import { init, tensor, transpose } from 'feathermap';
 * await init();
 * if (transpose(tensor([[1, 2], [3, 4]]), 0, 1).data().join() !== '1,3,2,4') throw new Error('wrong');
 * ```
 */
export function transpose(x: Tensor, dim0: number, dim1: number): Tensor {
  checkReadable('transpose', x);
  const rank = x.shape.length;
  const a = normalizeDim('transpose', dim0, rank);
  const b = normalizeDim('transpose', dim1, rank);
  const order = x.shape.map((_, i) => (i === a ? b : i === b ? a : i));
  return apply(permuteOp, [x], { dims: order })[0]!;
}

/** A view without the dimensions that `drop` chooses, which have extent 1. */
function without(x: Tensor, drop: (i: number) => boolean): Tensor {
  const shape = x.shape.filter((_, i) => !drop(i));
  return apply(squeezeOp, [x], { shape, strides: x.strides.filter((_, i) => !drop(i)) })[0]!;
}

interface Squeezed {
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

const squeezeOp = viewOp<Squeezed>(
  'squeeze',
  (x, { shape, strides }) => viewOf(x, shape, strides),
  (dy, xShape) => reshape(dy, xShape),
);

/**
 * A view without the dimensions of extent 1: all of them, or only `dim` if it has extent 1. Source: torch.squeeze.
 *
 * @throws RangeError for a dimension out of range
 * @example
 * ```ts
 * import { init, squeeze, zeros } from 'feathermap';
 * await init();
 * if (squeeze(zeros([1, 3, 1])).shape.join() !== '3') throw new Error('wrong');
 * ```
 */
export function squeeze(x: Tensor, dim?: number): Tensor {
  checkReadable('squeeze', x);
  const only = dim === undefined ? undefined : normalizeDim('squeeze', dim, x.shape.length);
  return without(x, (i) => x.shape[i] === 1 && (only === undefined || i === only));
}

/**
 * A view with a dimension of extent 1 put in at `dim`. Source: torch.unsqueeze.
 *
 * @throws RangeError for a position out of range, or if the result had more than 8 dimensions
 * @example
 * ```ts
 * import { init, unsqueeze, zeros } from 'feathermap';
 * await init();
 * if (unsqueeze(zeros([2, 3]), -1).shape.join() !== '2,3,1') throw new Error('wrong');
 * ```
 */
export function unsqueeze(x: Tensor, dim: number): Tensor {
  checkReadable('unsqueeze', x);
  const rank = x.shape.length;
  if (!Number.isInteger(dim) || dim < -rank - 1 || dim > rank)
    throw new RangeError(
      `unsqueeze: dim ${dim} is out of range for a tensor with ${rank} dimensions, expected ${-rank - 1} to ${rank}`,
    );
  const at = dim < 0 ? dim + rank + 1 : dim;
  if (rank === MAX_RANK) throw new RangeError(`unsqueeze: ${show(x.shape)} already has ${MAX_RANK} dimensions`);
  const insert = (list: readonly number[], value: number): number[] => [...list.slice(0, at), value, ...list.slice(at)];
  const stride = at < rank ? x.strides[at]! * x.shape[at]! : 1;
  return apply(squeezeOp, [x], { shape: insert(x.shape, 1), strides: insert(x.strides, stride) })[0]!;
}

const detachOp: Op<null, null> = {
  name: 'detach',
  infer: ([x]) => ({ geometry: null, outputs: [viewOf(x!, x!.shape, x!.strides)] }),
  lower() {},
  backward: { notDifferentiable: 'detach ends the graph' },
  saves: {},
};

/**
 * The same memory outside the graph: gradients do not flow through it. Source: torch.Tensor.detach.
 *
 * @example
 * ```ts
 * import { detach, init, tensor } from 'feathermap';
 * await init();
 * const x = tensor([1, 2], { requiresGrad: true });
 * if (detach(x.mul(2)).requiresGrad) throw new Error('attached');
 * ```
 */
export function detach(x: Tensor): Tensor {
  return apply(detachOp, [x], null)[0]!;
}
