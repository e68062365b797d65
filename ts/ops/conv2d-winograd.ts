// Emits 3 x 3 and 5 x 5 convolutions with step 1, and their input gradients, by Winograd's algorithm (assembly/winograd.ts). Dilated ones
// are several ordinary ones with the same weights (conv2d-dilated.ts).
import * as kernels from '../generated/kernels.ts';
import { type Emitter, type Location, NOWHERE } from '../runtime/command.ts';
import type { Operand } from '../tensor/op.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { type DilatedAxis, type Piece, pieces } from './conv2d-dilated.ts';
import type { Conv2dEmitters, Conv2dGeometry, ForwardOperands, Four, InputGradOperands } from './conv2d-geometry.ts';
import { tapOffset, withChannelsInside } from './conv2d-phases.ts';
import { evenBlock, KC, MAC_NANOSECONDS } from './product.ts';

/** Side of the squares of outputs, the m of F(m x m, r x r). */
export type Side = 2 | 4;

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

/** A weight as the transform reads it: r x r taps, and elements between neighbouring channels of the source and of the result. */
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
function emitWinogradWeight(emit: Emitter, alpha: number, taps: Taps): Location {
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
      tapCount: offsets.length,
      channels,
      ...strides,
      n,
      uPlane,
      alpha,
    },
    {
      tiles: Math.ceil(n / 8),
      work: alpha ** 2 * uPlane * 0.3,
      scratch: kernels.WINOGRAD_BLOCK + 4 * 8 * offsets.length * channels + 64,
    },
  );
  return u;
}

/** Operands and sizes of a Winograd convolution. */
interface Convolution extends Pick<Piece, 'x' | 'y' | 'residual'> {
  readonly side: Side;
  readonly taps: Taps;
  readonly bias: Operand;
  readonly rows: DilatedAxis;
  readonly columns: DilatedAxis;
  readonly lo: number;
  readonly hi: number;
}

/** Tiles per block, channels per kernel tile: what is transformed and what is summed (half a megabyte of 64 channels) stays near. */
const BLOCK = 30;
const CHANNELS = 64;
/** Kernel tiles that there should be for several threads, and tiles and channels that a kernel tile keeps for it. */
const WANTED_TILES = 8;
const LEAST_BLOCK = 18;
const LEAST_CHANNELS = 32;
/** Transformed weights in bytes up to which reading them once more for every block costs little. */
const NEAR_BYTES = 4e6;

/** How the output is cut: tiles per block, channels per kernel tile, length of a k block. */
function winogradBlocks(tiles: number, channels: number, n: number, uBytes: number) {
  const wanted = Math.ceil(WANTED_TILES / Math.ceil(n / CHANNELS));
  const most = uBytes < NEAR_BYTES ? Math.max(LEAST_BLOCK, Math.min(BLOCK, Math.ceil(tiles / wanted))) : BLOCK;
  const block = evenBlock(tiles, most, 1);
  const parts = Math.ceil(WANTED_TILES / Math.max(1, Math.ceil(tiles / block)));
  const nc = evenBlock(n, Math.max(LEAST_CHANNELS, Math.min(CHANNELS, Math.ceil(n / parts))), 8);
  return { block, nc, kc: evenBlock(channels, KC, 4) };
}

function emitWinograd(emit: Emitter, convolution: Convolution): void {
  const { side, taps, rows, columns } = convolution;
  const alpha = side + Math.sqrt(taps.offsets.length) - 1;
  const u = emitWinogradWeight(emit, alpha, taps);
  for (const piece of pieces(convolution, rows, columns)) emitPiece(emit, convolution, alpha, u, piece);
}

function emitPiece(
  emit: Emitter,
  { side, taps, bias, lo, hi }: Convolution,
  alpha: number,
  u: Location,
  { x, y, residual, top, left }: Piece,
): void {
  const { channels, n } = taps;
  const [images, , rows, columns] = y.shape as Four;
  const [xImage, , xRow, xColumn] = x.strides as Four;
  const [yImage, , yRow, yColumn] = y.strides as Four;
  const tiles = images * Math.ceil(rows / side) * Math.ceil(columns / side);
  const blocks = winogradBlocks(tiles, channels, n, 4 * alpha ** 2 * weightPlane(channels, n));
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
      side,
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

/** Side of the kernels that each F(m x m, r x r) takes. */
const KERNELS: Readonly<Record<Side, readonly number[]>> = { 4: [3], 2: [3, 5] };

/** The output squares that apply, the larger first: none unless the kernel is 3 x 3 or 5 x 5, without strides and groups. */
export function winogradSides({ rows, columns, groups }: Pick<Conv2dGeometry, 'rows' | 'columns' | 'groups'>): Side[] {
  const plain = rows.stride === 1 && columns.stride === 1;
  if (!plain || groups !== 1 || rows.kernel !== columns.kernel) return [];
  return ([4, 2] as const).filter((side) => KERNELS[side].includes(rows.kernel));
}

function forward(emit: Emitter, side: Side, geometry: Conv2dGeometry, operands: ForwardOperands): void {
  const { rows, columns, lo, hi } = geometry;
  const { y, weight, bias, residual, scale } = operands;
  const x = withChannelsInside(emit, operands.x);
  const [n, channels, kernel] = weight.shape as Four;
  const range = [...Array(kernel).keys()];
  const offsets = range.flatMap((r) => range.map((s) => tapOffset(weight, r, s)));
  const taps = { weight, scale, offsets, channels, strideChannel: weight.strides[1]!, n, strideN: weight.strides[0]! };
  emitWinograd(emit, { side, y, x, taps, bias, residual, rows, columns, lo, hi });
}

/** The same with dy as the source: taps in reverse, channels of source and result exchanged, the padding that is left. */
function inputGrad(
  emit: Emitter,
  side: Side,
  { rows, columns, lo, hi }: Conv2dGeometry,
  { dx, dy, weight }: InputGradOperands,
): void {
  const [channels, n, kernel] = weight.shape as Four;
  const reversed = [...Array(kernel).keys()].reverse();
  const offsets = reversed.flatMap((r) => reversed.map((s) => tapOffset(weight, r, s)));
  const strides = { strideChannel: weight.strides[0]!, strideN: weight.strides[1]! };
  const taps = { weight, scale: null, offsets, channels, n, ...strides };
  const turned = ({ dilation, before }: DilatedAxis) => ({ dilation, before: (kernel - 1) * dilation - before });
  const axes = { rows: turned(rows), columns: turned(columns) };
  emitWinograd(emit, { side, y: dx, x: dy, taps, bias: null, residual: null, ...axes, lo, hi });
}

function emitters(side: Side): Conv2dEmitters {
  return {
    forward: (emit, geometry, operands) => forward(emit, side, geometry, operands),
    inputGrad: (emit, geometry, operands) => inputGrad(emit, side, geometry, operands),
  };
}

/** F(4x4, 3x3); F(2x2, 3x3) and F(2x2, 5x5). */
export const winograd4 = emitters(4);
export const winograd2 = emitters(2);
