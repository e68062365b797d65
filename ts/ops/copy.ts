// Copies: between layouts (contiguous, channelsLast, relayout, clone), between types (to), and in place (copy_, fill_, zero_).
import * as kernels from '../generated/kernels.ts';
import type { Emitter, Kernel, Location } from '../runtime/command.ts';
import { apply, checkReadable } from '../tensor/apply.ts';
import { emitFill } from '../tensor/create.ts';
import { checkDType, type DType, elementBytes } from '../tensor/dtype.ts';
import type { Op } from '../tensor/op.ts';
import {
  broadcastShapes,
  broadcastStrides,
  channelsLastStrides,
  coalesce,
  contiguousStrides,
  isDense,
  type Loop,
  show,
} from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { elementGrid, loopTable, type Strided, walkOf } from './loops.ts';

/** An operand of a copy: its memory and how it lies there. */
interface CopyOperand extends Strided {
  readonly location: Location;
}

/** Elements per tile of a transpose, as a band of whole rows. */
const TRANSPOSE_TILE = 8192;

/** Emits y = x for tensors of one shape and dtype. `into` says that y is part of a tensor whose other elements stay. */
export function emitCopy(emit: Emitter, y: Tensor, x: Tensor, into = false): void {
  const operands = [y, x].map(({ strides, dtype }) => ({ strides, dtype })) as [Strided, Strided];
  emitStridedCopy(
    emit,
    y.shape,
    { ...operands[0], location: locationOf(y) },
    { ...operands[1], location: locationOf(x) },
    into,
  );
}

function emitStridedCopy(emit: Emitter, shape: readonly number[], y: CopyOperand, x: CopyOperand, into: boolean): void {
  if (y.dtype !== 'u8' && !into && (emitTranspose(emit, shape, y, x) || emitShortRows(emit, shape, y, x))) return;
  const walk = walkOf(emit, shape, [y, x]);
  const grid = elementGrid(walk.count, 0.3);
  const operands = { y: y.location, x: x.location, ...walk };
  if (into) emit.command(y.dtype === 'u8' ? kernels.copyBytesInto : kernels.copyInto, operands, grid);
  else emit.command(y.dtype === 'u8' ? kernels.copyBytes : kernels.copy, operands, grid);
}

/** Elements that one load and one store move, by how many lie side by side in both operands. */
const TOGETHER: Readonly<Record<number, Kernel<kernels.CopyArgs>>> = { 2: kernels.copyPairs, 4: kernels.copyFours };

/**
 * Copies whose innermost rows have less than four elements, or exactly four: a call per row would cost more than the row. Pairs and
 * fours that lie side by side move as one; then the longest dimension is walked innermost.
 */
function emitShortRows(emit: Emitter, shape: readonly number[], y: CopyOperand, x: CopyOperand): boolean {
  const loops = coalesce(shape, [y.strides, x.strides]);
  const inner = loops.at(-1);
  if (!inner || loops.length < 2 || inner.size > 4) return false;
  const together = inner.strides.every((stride) => stride === 1) ? TOGETHER[inner.size] : undefined;
  if (inner.size === 4 && !together) return false;
  const left = together ? loops.slice(0, -1) : loops;
  const longest = left.reduce((best, loop) => (loop.size > best.size ? loop : best));
  const walked = [...left.filter((loop) => loop !== longest), longest];
  const count = walked.reduce((product, { size }) => product * size, 1);
  const dims = loopTable(emit, walked, [4, 4]);
  const operands = { y: y.location, x: x.location, dims, rank: walked.length, count };
  emit.command(together ?? kernels.copy, operands, elementGrid(count, 0.6));
  return true;
}

/** Copies by 4 x 4 blocks if one dimension is innermost in y and another one in x. */
function emitTranspose(emit: Emitter, shape: readonly number[], y: CopyOperand, x: CopyOperand): boolean {
  const loops = coalesce(shape, [y.strides, x.strides]);
  const inner = loops.at(-1)!;
  const rowLoop = loops.findIndex((loop) => loop !== inner && loop.strides[1] === 1);
  if (inner.strides[0] !== 1 || inner.strides[1]! <= 1 || rowLoop < 0) return false;
  const { size: rows, strides } = loops[rowLoop]!;
  if (rows < 4) return false;
  const around = loops.filter((loop, i) => loop !== inner && i !== rowLoop);
  const band = Math.min(Math.ceil(rows / 4) * 4, Math.max(16, 4 * Math.ceil(TRANSPOSE_TILE / 4 / inner.size)));
  const bands = Math.ceil(rows / band);
  const planes = around.reduce((product: number, loop: Loop) => product * loop.size, 1);
  emit.command(
    kernels.transpose,
    {
      y: y.location,
      x: x.location,
      dims: loopTable(emit, around, [4, 4]),
      rank: around.length,
      rows,
      columns: inner.size,
      yStride: strides[0]! * 4,
      xStride: inner.strides[1]! * 4,
      band,
      bands,
    },
    { tiles: planes * bands, work: planes * rows * inner.size * 0.5 },
  );
  return true;
}

interface LayoutOptions {
  readonly strides: readonly number[];
}

const relayoutOp: Op<LayoutOptions, null> = {
  name: 'relayout',
  infer: ([x], { strides }) => ({ geometry: null, outputs: [{ shape: x!.shape, dtype: x!.dtype, strides }] }),
  lower(emit, _geometry, [x], [y]) {
    emitCopy(emit, y!, x!);
  },
  backward: ({ gradients: [dy] }) => [dy!],
  saves: {},
};

/** Whether two stride lists walk a shape alike; dimensions of extent 1 do not count. */
function sameStrides(shape: readonly number[], a: readonly number[], b: readonly number[]): boolean {
  return shape.every((extent, i) => extent === 1 || a[i] === b[i]);
}

/** The same tensor with these dense strides: x itself if it has them, else a copy. For ops whose operands must share a layout. */
export function relayout(x: Tensor, strides: readonly number[]): Tensor {
  if (sameStrides(x.shape, x.strides, strides)) return x;
  return apply(relayoutOp, [x], { strides })[0]!;
}

/**
 * The tensor with its elements in row-major order in memory: x itself if they are, else a copy.
 * Source: torch.Tensor.contiguous.
 *
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * await init();
 * const x = tensor([[1, 2, 3], [4, 5, 6]]).transpose(0, 1).contiguous();
 * if (x.strides.join() !== '2,1') throw new Error('wrong');
 * ```
 */
export function contiguous(x: Tensor): Tensor {
  checkReadable('contiguous', x);
  return relayout(x, contiguousStrides(x.shape));
}

/**
 * The tensor [N,C,H,W] with channels innermost in memory, as convolutions want it: x itself if they are or if it has not four
 * dimensions, else a copy. Shape and values stay. Source: torch.channels_last.
 *
 * @example
 * ```ts
 * import { channelsLast, init, zeros } from 'feathermap';
 * await init();
 * if (channelsLast(zeros([1, 3, 2, 2])).strides.join() !== '12,1,6,3') throw new Error('wrong');
 * ```
 */
export function channelsLast(x: Tensor): Tensor {
  checkReadable('channelsLast', x);
  return x.shape.length === 4 ? relayout(x, channelsLastStrides(x.shape)) : x;
}

/** The tensor itself if its elements fill its memory without gaps, in any order of dimensions, else a row-major copy. */
export function dense(x: Tensor): Tensor {
  return isDense(x.shape, x.strides) ? x : contiguous(x);
}

/**
 * A copy with memory of its own, in the same layout. Gradients flow through it. Source: torch.clone.
 *
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * await init();
 * const x = tensor([1, 2]);
 * const y = x.clone();
 * x.zero_();
 * if (y.data()[1] !== 2) throw new Error('shared');
 * ```
 */
export function clone(x: Tensor): Tensor {
  checkReadable('clone', x);
  const strides = isDense(x.shape, x.strides) ? x.strides : contiguousStrides(x.shape);
  return apply(relayoutOp, [x], { strides })[0]!;
}

interface CastOptions {
  readonly dtype: DType;
}

const CASTS: Record<string, Kernel<kernels.CopyArgs>> = {
  'f32 i32': kernels.castF32ToI32,
  'f32 u8': kernels.castF32ToU8,
  'i32 f32': kernels.castI32ToF32,
  'i32 u8': kernels.castI32ToU8,
  'u8 i32': kernels.castU8ToI32,
};

function emitCast(emit: Emitter, y: Tensor, x: Tensor): void {
  const walk = { y: locationOf(y), x: locationOf(x), ...walkOf(emit, y.shape, [y, x]) };
  const grid = elementGrid(walk.count, 0.6);
  const kernel = CASTS[`${x.dtype} ${y.dtype}`];
  if (kernel) emit.command(kernel, walk, grid);
  else emit.command(kernels.scaleBytes, { ...walk, scale: 1, shift: 0 }, grid);
}

const toOp: Op<CastOptions, null> = {
  name: 'to',
  infer([x], { dtype }) {
    checkDType('to', dtype);
    const strides = isDense(x!.shape, x!.strides) ? x!.strides : contiguousStrides(x!.shape);
    return { geometry: null, outputs: [{ shape: x!.shape, dtype, strides }] };
  },
  lower(emit, _geometry, [x], [y]) {
    emitCast(emit, y!, x!);
  },
  backward: { notDifferentiable: 'i32 and u8 have no gradients' },
  saves: {},
};

/**
 * The tensor in another dtype: x itself if it has it, else a copy. f32 to i32 truncates, saturates at the ends of i32 and
 * turns NaN into 0; anything to u8 keeps the low 8 bits of the whole number. Gradients end here. Source: torch.Tensor.to.
 *
 * @throws TypeError for an unknown dtype
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * await init();
 * if (tensor([1.7, -1.7]).to('i32').data().join() !== '1,-1') throw new Error('wrong');
 * ```
 */
export function to(x: Tensor, dtype: DType): Tensor {
  checkReadable('to', x);
  return x.dtype === dtype ? x : apply(toOp, [x], { dtype })[0]!;
}

interface ScaleOptions {
  readonly scale: number;
  readonly shift: number;
}

const scaleImageOp: Op<ScaleOptions, ScaleOptions> = {
  name: 'scaleImage',
  infer([x], { scale, shift }) {
    if (x!.dtype !== 'u8') throw new TypeError(`scaleImage: expected a u8 tensor, got ${x!.dtype}`);
    if (!Number.isFinite(scale) || !Number.isFinite(shift))
      throw new RangeError(`scaleImage: scale and shift must be finite, got ${scale} and ${shift}`);
    const strides = isDense(x!.shape, x!.strides) ? x!.strides : contiguousStrides(x!.shape);
    return { geometry: { scale, shift }, outputs: [{ shape: x!.shape, dtype: 'f32', strides }] };
  },
  lower(emit, { scale, shift }, [x], [y]) {
    const walk = walkOf(emit, y!.shape, [y!, x!]);
    const args = { y: locationOf(y!), x: locationOf(x!), ...walk, scale, shift };
    emit.command(kernels.scaleBytes, args, elementGrid(walk.count, 0.6));
  },
  backward: { notDifferentiable: 'u8 has no gradients' },
  saves: {},
};

/**
 * Bytes as numbers, `x scale + shift`, in one pass: u8 pixels to [0, 1] with `scale` 1 / 255 (the default).
 *
 * @throws TypeError unless x is u8, RangeError for a scale or shift that is not finite
 * @example
 * ```ts
 * import { init, scaleImage, tensor } from 'feathermap';
 * await init();
 * const pixels = tensor(new Uint8Array([0, 51, 255]));
 * if (Math.abs(scaleImage(pixels).data()[1] - 0.2) > 1e-6) throw new Error('wrong');
 * ```
 */
export function scaleImage(x: Tensor, scale: number = 1 / 255, shift = 0): Tensor {
  checkReadable('scaleImage', x);
  return apply(scaleImageOp, [x], { scale, shift })[0]!;
}

const copyInPlaceOp: Op<null, null> = {
  name: 'copy_',
  infer([target, source]) {
    const shape = broadcastShapes('copy_', target!.shape, source!.shape);
    if (show(shape) !== show(target!.shape))
      throw new RangeError(
        `copy_: source ${show(source!.shape)} does not broadcast to the target's shape ${show(target!.shape)}`,
      );
    if (source!.dtype !== target!.dtype)
      throw new TypeError(`copy_: source is ${source!.dtype}, target is ${target!.dtype}`);
    return { geometry: null, outputs: [] };
  },
  lower(emit, _geometry, [target, source]) {
    const strides = broadcastStrides(source!.shape, source!.strides, target!.shape);
    const y = { strides: target!.strides, dtype: target!.dtype, location: locationOf(target!) };
    emitStridedCopy(emit, target!.shape, y, { strides, dtype: source!.dtype, location: locationOf(source!) }, true);
  },
  backward: { notDifferentiable: 'copy_ writes into memory that is there' },
  saves: {},
  mutates: [0],
};

/** Whether writing one tensor may change what is yet to be read of the other. The same view of the same memory is safe. */
function overlap(target: Tensor, source: Tensor): boolean {
  if (target.storage !== source.storage) return false;
  const [a, b] = [locationOf(target), locationOf(source)];
  const same = a.byteOffset === b.byteOffset && show(target.shape) === show(source.shape);
  if (same && sameStrides(target.shape, target.strides, source.strides)) return false;
  return a.byteOffset < b.byteOffset + b.bytes && b.byteOffset < a.byteOffset + a.bytes;
}

/**
 * Writes `source` into `target`, broadcasting and casting it, and returns `target`. The two may overlap in memory. Gradients do
 * not flow through it.
 * Source: torch.Tensor.copy_.
 *
 * @throws RangeError if the source does not broadcast to the target's shape, Error if the target is part of a recorded graph
 * @example
 * ```ts
 * import { init, tensor, zeros } from 'feathermap';
 * await init();
 * const x = zeros([2, 2]).copy_(tensor([1, 2]));
 * if (x.data().join() !== '1,2,1,2') throw new Error('wrong');
 * ```
 */
export function copy_(target: Tensor, source: Tensor): Tensor {
  for (const operand of [target, source]) checkReadable('copy_', operand);
  const values = to(source, target.dtype);
  apply(copyInPlaceOp, [target, overlap(target, values) ? clone(values) : values], null);
  return target;
}

interface FillOptions {
  readonly value: number;
}

const bits = new DataView(new ArrayBuffer(4));

/** The bits of one element, in the low bytes. */
function elementBits(value: number, dtype: DType): number {
  if (dtype === 'f32') bits.setFloat32(0, value);
  else bits.setInt32(0, dtype === 'u8' ? value & 255 : value);
  return bits.getInt32(0);
}

/** Emits y = value, for all of a buffer or a part of it. */
export function emitConstant(emit: Emitter, y: Tensor, value: number): void {
  const { shape, strides, dtype, storage } = y;
  const whole = y.size * elementBytes(dtype) === storage.bytes && isDense(shape, strides);
  if (whole && dtype !== 'u8') {
    emitFill(emit, y, value, dtype);
    return;
  }
  const one = { strides: shape.map(() => 0), dtype, location: emit.table([elementBits(value, dtype)]) };
  emitStridedCopy(emit, shape, { strides, dtype, location: locationOf(y) }, one, !whole);
}

function checkValue(value: number, dtype: DType): void {
  if (typeof value !== 'number') throw new TypeError(`fill_: value must be a number, got ${typeof value}`);
  const [lo, hi] = dtype === 'i32' ? [-(2 ** 31), 2 ** 31 - 1] : [0, 255];
  if (dtype !== 'f32' && !(Number.isInteger(value) && value >= lo && value <= hi))
    throw new RangeError(`fill_: value ${value} is not a whole number from ${lo} to ${hi}, as ${dtype} needs`);
}

const fillInPlaceOp: Op<FillOptions, FillOptions> = {
  name: 'fill_',
  infer([x], { value }) {
    checkValue(value, x!.dtype);
    return { geometry: { value }, outputs: [] };
  },
  lower(emit, { value }, [x]) {
    emitConstant(emit, x!, value);
  },
  backward: { notDifferentiable: 'fill_ writes into memory that is there' },
  saves: {},
  mutates: [0],
};

/**
 * Sets every element to `value` and returns the tensor. Source: torch.Tensor.fill_.
 *
 * @throws TypeError for another kind of value, RangeError for one that the dtype cannot hold
 * @example
 * ```ts
 * import { init, zeros } from 'feathermap';
 * await init();
 * if (zeros([3]).fill_(7).data()[2] !== 7) throw new Error('wrong');
 * ```
 */
export function fill_(x: Tensor, value: number): Tensor {
  checkReadable('fill_', x);
  apply(fillInPlaceOp, [x], { value });
  return x;
}

/**
 * Sets every element to 0 and returns the tensor. Source: torch.Tensor.zero_.
 *
 * @throws Error if the tensor is part of a recorded graph
 * @example
 * ```ts
 * import { init, tensor, zero_ } from 'feathermap';
 * await init();
 * if (zero_(tensor([1, 2])).data().join() !== '0,0') throw new Error('wrong');
 * ```
 */
export function zero_(x: Tensor): Tensor {
  checkReadable('zero_', x);
  return fill_(x, 0);
}
