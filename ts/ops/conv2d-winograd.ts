// Emits 3 x 3 convolutions with step 1, and their input gradients, by Winograd's algorithm (assembly/winograd.ts).
import * as kernels from '../generated/kernels.ts';
import { type Emitter, type Location, NOWHERE } from '../runtime/command.ts';
import type { Operand } from '../tensor/op.ts';
import { channelsLastStrides } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import type { Conv2dEmitters, Conv2dGeometry, ForwardOperands, Four, InputGradOperands } from './conv2d-geometry.ts';
import { tapOffset } from './conv2d-phases.ts';
import { evenBlock, KC, MAC_NANOSECONDS } from './product.ts';

/** Side of the squares that F(m x m, 3 x 3) reads: m + 2. */
export type Alpha = 4 | 6;

const optional = (x: Operand): Location => (x ? locationOf(x) : NOWHERE);

/** Floats from one row of transformed tiles to the next, and of a plane of them; as the kernels compute them. */
export function transformedRow(channels: number): number {
  return 8 * Math.ceil(channels / 8) + kernels.SCRATCH_ROW_SLACK;
}

/** Bytes of a plane of `rows` rows: an odd number of cache lines. */
export function planeBytes(rows: number, row: number): number {
  const lines = Math.ceil((rows * row) / 16);
  return 64 * (lines % 2 ? lines : lines + 1);
}

/** Floats of one matrix of transformed weights; an odd number of cache lines lies between two. */
function weightPlane(channels: number, n: number): number {
  return planeBytes(Math.ceil(n / 8), 8 * (channels + 1)) / 4;
}

/** A weight as the transform reads it: nine taps, and elements between neighbouring channels of the source and of the result. */
interface Taps {
  readonly weight: Tensor;
  readonly scale: Operand;
  readonly offsets: readonly number[];
  readonly channels: number;
  readonly strideChannel: number;
  readonly n: number;
  readonly strideN: number;
}

/** Emits the transform of the weights. It depends on parameters alone, so compile runs it once. */
function emitWinogradWeight(emit: Emitter, alpha: Alpha, taps: Taps): Location {
  const { weight, scale, offsets, channels, n, ...strides } = taps;
  const uPlane = weightPlane(channels, n);
  const u = emit.temporary(4 * alpha ** 2 * uPlane);
  emit.command(
    kernels.winogradWeight,
    {
      u,
      w: locationOf(weight),
      scale: optional(scale),
      taps: emit.table(offsets),
      tapCount: 9,
      channels,
      ...strides,
      n,
      uPlane,
      alpha,
    },
    {
      tiles: Math.ceil(n / 8),
      work: alpha ** 2 * uPlane * 0.3,
      scratch: kernels.WINOGRAD_BLOCK + 4 * 72 * channels + 64,
    },
  );
  return u;
}

/** Operands and sizes of one Winograd convolution. */
interface Convolution {
  readonly alpha: Alpha;
  readonly y: Tensor;
  readonly x: Tensor;
  readonly taps: Taps;
  readonly bias: Operand;
  readonly residual: Operand;
  readonly top: number;
  readonly left: number;
  readonly lo: number;
  readonly hi: number;
}

/** Tiles per block, channels per kernel tile: what is transformed and what is summed (half a megabyte of 64 channels) stays near. */
const BLOCK = 30;
const CHANNELS = 64;
/** Kernel tiles that there should be for several threads, and channels that a kernel tile keeps for it. */
const WANTED_TILES = 4;
const LEAST_CHANNELS = 32;

/** How the output is cut: tiles per block, channels per kernel tile, length of a k block. */
function winogradBlocks(tiles: number, channels: number, n: number) {
  const block = evenBlock(tiles, BLOCK, 1);
  const parts = Math.ceil(WANTED_TILES / Math.max(1, Math.ceil(tiles / block)));
  const nc = evenBlock(n, Math.max(LEAST_CHANNELS, Math.min(CHANNELS, Math.ceil(n / parts))), 8);
  return { block, nc, kc: evenBlock(channels, KC, 4) };
}

function emitWinograd(emit: Emitter, convolution: Convolution): void {
  const { alpha, y, x, taps, bias, residual, top, left, lo, hi } = convolution;
  const { channels, n } = taps;
  const [images, , rows, columns] = y.shape as Four;
  const [xImage, , xRow, xColumn] = x.strides as Four;
  const [yImage, , yRow, yColumn] = channelsLastStrides(y.shape) as unknown as Four;
  const side = alpha - 2;
  const tiles = images * Math.ceil(rows / side) * Math.ceil(columns / side);
  const blocks = winogradBlocks(tiles, channels, n);
  const u = emitWinogradWeight(emit, alpha, taps);
  const vBytes = alpha ** 2 * planeBytes(blocks.block, transformedRow(channels));
  const mBytes = alpha ** 2 * planeBytes(blocks.block, transformedRow(blocks.nc));
  emit.command(
    kernels.winogradConvolve,
    {
      y: locationOf(y),
      x: locationOf(x),
      u,
      bias: optional(bias),
      residual: optional(residual),
      height: x.shape[2]!,
      width: x.shape[3]!,
      channels,
      xImage,
      xRow,
      xColumn,
      top,
      left,
      images,
      alpha,
      rows,
      columns,
      n,
      yImage,
      yRow,
      yColumn,
      uPlane: weightPlane(channels, n),
      ...blocks,
      lo,
      hi,
    },
    {
      tiles: Math.ceil(tiles / blocks.block) * Math.ceil(n / blocks.nc),
      work: 1.3 * tiles * alpha ** 2 * channels * n * MAC_NANOSECONDS,
      scratch: kernels.WINOGRAD_HEAD + vBytes + mBytes,
    },
  );
}

const RANGE = [0, 1, 2] as const;

/** Whether the algorithm applies: 3 x 3, neither strides nor gaps nor groups. */
export function isWinograd({ rows, columns, groups }: Pick<Conv2dGeometry, 'rows' | 'columns' | 'groups'>): boolean {
  return groups === 1 && [rows, columns].every((axis) => axis.kernel === 3 && axis.stride === 1 && axis.dilation === 1);
}

function forward(emit: Emitter, alpha: Alpha, geometry: Conv2dGeometry, operands: ForwardOperands): void {
  const { rows, columns, lo, hi } = geometry;
  const { y, x, weight, bias, residual, scale } = operands;
  const [n, channels] = weight.shape as Four;
  const offsets = RANGE.flatMap((r) => RANGE.map((s) => tapOffset(weight, r, s)));
  const taps = { weight, scale, offsets, channels, strideChannel: weight.strides[1]!, n, strideN: weight.strides[0]! };
  emitWinograd(emit, { alpha, y, x, taps, bias, residual, top: rows.before, left: columns.before, lo, hi });
}

/** The same with dy as the source: taps in reverse, channels of source and result exchanged, the padding that is left. */
function inputGrad(
  emit: Emitter,
  alpha: Alpha,
  { rows, columns, lo, hi }: Conv2dGeometry,
  { dx, dy, weight }: InputGradOperands,
): void {
  const [channels, n] = weight.shape as Four;
  const offsets = RANGE.flatMap((r) => RANGE.map((s) => tapOffset(weight, 2 - r, 2 - s)));
  const strides = { strideChannel: weight.strides[0]!, strideN: weight.strides[1]! };
  const taps = { weight, scale: null, offsets, channels, n, ...strides };
  const [top, left] = [2 - rows.before, 2 - columns.before];
  emitWinograd(emit, { alpha, y: dx, x: dy, taps, bias: null, residual: null, top, left, lo, hi });
}

function emitters(alpha: Alpha): Conv2dEmitters {
  return {
    forward: (emit, geometry, operands) => forward(emit, alpha, geometry, operands),
    inputGrad: (emit, geometry, operands) => inputGrad(emit, alpha, geometry, operands),
  };
}

/** F(4x4, 3x3) and F(2x2, 3x3). */
export const winograd4 = emitters(6);
export const winograd2 = emitters(4);
