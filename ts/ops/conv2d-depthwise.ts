// Emits depthwise convolution, every channel with a kernel of its own, and its gradients (assembly/depthwise.ts, depthwise-weight-grad.ts).
// A channel with several kernels (a channel multiplier) is repeated first: that is one of the nine or more reads of each output.
import * as kernels from '../generated/kernels.ts';
import { type Emitter, type Location, NOWHERE } from '../runtime/command.ts';
import type { Storage } from '../runtime/storage.ts';
import type { Operand } from '../tensor/op.ts';
import { channelsLastStrides, sizeOf } from '../tensor/shape.ts';
import { locationOf, Tensor } from '../tensor/tensor.ts';
import type {
  Conv2dEmitters,
  Conv2dGeometry,
  ForwardOperands,
  Four,
  InputGradOperands,
  WeightGradOperands,
} from './conv2d-geometry.ts';
import { forwardTaps, gradientPhases, type Phase, type Tap, tapOffset, withChannelsInside } from './conv2d-phases.ts';
import { emitCopy } from './copy.ts';
import { part } from './loops.ts';
import { evenBlock, MAC_NANOSECONDS, temporaryCopy } from './product.ts';

/** Taps as a grid of kernel rows x taps at even distances. */
interface TapGrid {
  readonly kernelRows: number;
  readonly taps: number;
  readonly dy: number;
  readonly dx: number;
  readonly dilationY: number;
  readonly dilationX: number;
}

/** The grid of a phase: its taps are a product of rows and columns, in order. */
function gridOf(taps: readonly Tap[]): TapGrid {
  const [first] = taps;
  if (!first) return { kernelRows: 0, taps: 1, dy: 0, dx: 0, dilationY: 1, dilationX: 1 };
  const { dy, dx } = first;
  const perRow = taps.filter((tap) => tap.dy === dy).length;
  return {
    kernelRows: taps.length / perRow,
    taps: perRow,
    dy,
    dx,
    dilationY: taps.length > perRow ? taps[perRow]!.dy - dy : 1,
    dilationX: perRow > 1 ? taps[1]!.dx - dx : 1,
  };
}

/** Offsets of all phases' taps in the weight, each phase begun by its bias. */
function packedWords(phases: readonly Phase[]): number[] {
  return phases.flatMap(({ taps }) => [kernels.BIAS_WORD, ...taps.map(({ offset }) => offset)]);
}

/** Emits the packing of a depthwise weight, times `scale` per channel, with the bias of every phase. */
function packDepthwise(
  emit: Emitter,
  weight: Tensor,
  bias: Operand,
  scale: Operand,
  phases: readonly Phase[],
): Location {
  const channels = weight.shape[0]!;
  const eights = Math.ceil(channels / 8);
  const words = packedWords(phases);
  const panels = emit.temporary(32 * eights * words.length);
  emit.command(
    kernels.packDepthwise,
    {
      panels,
      w: locationOf(weight),
      bias: bias ? locationOf(bias) : NOWHERE,
      scale: scale ? locationOf(scale) : NOWHERE,
      taps: emit.table(words),
      words: words.length,
      channels,
      strideChannel: weight.strides[0]!,
    },
    { tiles: Math.ceil(eights / kernels.PACK_PANELS), work: eights * words.length * 8 },
  );
  return panels;
}

/** Multiply-adds per tile, about: 10 to 20 us. */
const TILE_MACS = 250000;
/**
 * Floats of input and output from which on they are fetched in order: what no cache holds. What only the nearer caches do not hold is worth it
 * if a strip's pixels are so few bytes that the processor's own prefetching hardly begins before they end.
 */
const STREAM_FLOATS = 2e6;
const NARROW_STREAM_FLOATS = 3e5;
const NARROW_CHANNELS = 128;

interface Depthwise extends Omit<ForwardOperands, 'weight' | 'bias' | 'scale'> {
  readonly panels: Location;
  readonly phases: readonly Phase[];
  /** Distance between windows on x, and between the pixels of a phase on y. */
  readonly step: readonly [number, number];
  readonly spread: readonly [number, number];
  readonly lo: number;
  readonly hi: number;
}

/** The phases in the words of the kernel, and all their packed words. */
function phaseTable(phases: readonly Phase[]): { table: number[]; words: number } {
  let words = 0;
  const table = phases.flatMap(({ rows, columns, offset, taps }) => {
    const { kernelRows, taps: perRow, dy, dx, dilationY, dilationX } = gridOf(taps);
    const phase = [rows, columns, offset, words, kernelRows, perRow, dy, dx, dilationY, dilationX];
    words += 1 + taps.length;
    return phase;
  });
  return { table, words };
}

function emitDepthwise(emit: Emitter, { y, x, panels, residual, phases, step, spread, lo, hi }: Depthwise): void {
  const [images, channels, height, width] = x.shape as Four;
  const [xImage, , xRow, xColumn] = x.strides as Four;
  const [yImage, , yRow, yColumn] = channelsLastStrides(y.shape) as unknown as Four;
  const { table, words } = phaseTable(phases);
  const most = (of: (phase: Phase) => number) => Math.max(1, ...phases.map(of));
  const rowMacs = most((phase) => phase.columns * phase.taps.length) * channels;
  const tileRows = evenBlock(
    most(({ rows }) => rows),
    Math.max(1, Math.floor(TILE_MACS / rowMacs)),
    1,
  );
  const macs = phases.reduce(
    (sum, { rows, columns, taps }) => sum + images * rows * columns * channels * taps.length,
    0,
  );
  emit.command(
    kernels.depthwise,
    {
      y: locationOf(y),
      x: locationOf(x),
      panels,
      residual: residual ? locationOf(residual) : NOWHERE,
      phases: emit.table(table),
      phaseCount: phases.length,
      images,
      height,
      width,
      channels,
      xImage,
      xRow,
      xColumn,
      stepY: step[0],
      stepX: step[1],
      yImage,
      yRow: yRow * spread[0],
      yColumn: yColumn * spread[1],
      words,
      tileRows,
      stream: x.size + y.size > (channels <= NARROW_CHANNELS ? NARROW_STREAM_FLOATS : STREAM_FLOATS) ? 1 : 0,
      lo,
      hi,
    },
    {
      tiles: images * phases.reduce((sum, { rows }) => sum + Math.ceil(rows / tileRows), 0),
      work: 2 * macs * MAC_NANOSECONDS,
      scratch: kernels.DEPTHWISE_SCRATCH,
    },
  );
}

/** The source with every channel repeated until there is one for each output; itself without a channel multiplier. */
function repeated(emit: Emitter, x: Tensor, outputs: number): Tensor {
  const [images, channels, height, width] = x.shape as Four;
  if (outputs === channels) return withChannelsInside(emit, x);
  const shape = [images, outputs, height, width];
  const strides = channelsLastStrides(shape);
  const copy = temporaryLike(emit, { shape, dtype: x.dtype, strides, size: sizeOf(shape) });
  const times = outputs / channels;
  const everyTime = [strides[0]!, times, strides[2]!, strides[3]!];
  for (let offset = 0; offset < times; offset++) emitCopy(emit, part(copy, x.shape, everyTime, offset), x, true);
  return copy;
}

function emitForward(emit: Emitter, geometry: Conv2dGeometry, operands: ForwardOperands): void {
  const { rows, columns, lo, hi } = geometry;
  const { y, weight, bias, residual, scale } = operands;
  const x = repeated(emit, operands.x, y.shape[1]!);
  const taps = forwardTaps(geometry, (r, s) => tapOffset(weight, r, s));
  const phases = [{ rows: rows.outputs, columns: columns.outputs, offset: 0, taps }];
  emitDepthwise(emit, {
    y,
    x,
    panels: packDepthwise(emit, weight, bias, scale, phases),
    residual,
    phases,
    step: [rows.stride, columns.stride],
    spread: [1, 1],
    lo,
    hi,
  });
}

/** With a channel multiplier dx is a sum: of the first kernels' gradients of all channels, the second ones' and so on. */
function emitInputGrad(emit: Emitter, geometry: Conv2dGeometry, { dx, dy, weight }: InputGradOperands): void {
  const { rows, columns, lo, hi } = geometry;
  const [images, channels] = dx.shape as Four;
  const [outputs, ...kernel] = weight.shape as Four;
  const times = outputs / channels;
  const phases = gradientPhases(geometry, weight);
  const [image, , row, column] = dy.strides as Four;
  const own = [images, channels, dy.shape[2]!, dy.shape[3]!];
  const [output, ...tap] = weight.strides;
  let residual: Operand = null;
  for (let i = 0; i < times; i++) {
    const gradient = part(dy, own, [image, times, row, column], i);
    const first = part(weight, [channels, ...kernel], [times * output!, ...tap], i * output!);
    const y = i === times - 1 ? dx : temporaryLike(emit, dx);
    emitDepthwise(emit, {
      y,
      x: times === 1 ? dy : temporaryCopy(emit, gradient, channelsLastStrides(own)),
      panels: packDepthwise(emit, first, null, null, phases),
      residual,
      phases,
      step: [1, 1],
      spread: [rows.stride, columns.stride],
      lo,
      hi,
    });
    residual = y;
  }
}

function temporaryLike(
  emit: Emitter,
  { shape, dtype, strides, size }: Pick<Tensor, 'shape' | 'dtype' | 'strides' | 'size'>,
): Tensor {
  const { storage } = emit.temporary(4 * size);
  return new Tensor({ storage: storage as Storage, shape, dtype, strides });
}

/** Multiply-adds per split of a weight gradient, about, and floats of all partial sums at most. */
const SPLIT_MACS = 1e6;
const MOST_PARTIALS = 2e6;
/** Cache lines of a block of rows, of x and of dy: two thirds of a first-level cache. */
const BLOCK_LINES = 360;

/** How the weight gradient is cut: output rows per split and per block. */
function weightGradBlocks({ y, rows, columns, macs }: Conv2dGeometry, floats: number) {
  const all = y[0] * rows.outputs;
  const wanted = Math.min(Math.ceil(macs / SPLIT_MACS), Math.floor(MOST_PARTIALS / floats), all);
  const splitRows = Math.max(1, Math.ceil(all / Math.max(1, wanted)));
  const lines = rows.stride * columns.size + columns.outputs;
  const halo = Math.max(0, (rows.kernel - 1) * rows.dilation + 1 - rows.stride) * columns.size;
  const fitting = Math.max(1, Math.floor((BLOCK_LINES - halo) / Math.max(1, lines)));
  return { splitRows, blockRows: evenBlock(rows.outputs, fitting, 1), splits: Math.max(1, Math.ceil(all / splitRows)) };
}

function emitWeightGrad(emit: Emitter, geometry: Conv2dGeometry, { dw, x: source, dy }: WeightGradOperands): void {
  const { y, rows, columns, macs } = geometry;
  const x = repeated(emit, source, y[1]);
  const [images, channels, height, width] = x.shape as Four;
  const [xImage, , xRow, xColumn] = x.strides as Four;
  const taps = rows.kernel * columns.kernel;
  const vectors = Math.ceil(channels / 4);
  const { splits, ...blocks } = weightGradBlocks(geometry, 4 * vectors * taps);
  const partials = emit.temporary(16 * splits * vectors * taps);
  emit.command(
    kernels.depthwiseWeightGrad,
    {
      partials,
      x: locationOf(x),
      dy: locationOf(dy),
      images,
      rows: y[2],
      columns: y[3],
      height,
      width,
      channels,
      xImage,
      xRow,
      xColumn,
      stepY: rows.stride,
      stepX: columns.stride,
      dilationY: rows.dilation,
      dilationX: columns.dilation,
      kernelRows: rows.kernel,
      taps: columns.kernel,
      top: rows.before,
      left: columns.before,
      ...blocks,
      stream: x.size + dy.size > STREAM_FLOATS ? 1 : 0,
    },
    { tiles: splits, work: 2 * macs * MAC_NANOSECONDS },
  );
  emit.command(
    kernels.sumDepthwise,
    { dw: locationOf(dw), partials, splits, channels, taps },
    { tiles: Math.ceil(vectors / kernels.SUM_VECTORS), work: splits * vectors * taps },
  );
}

/** Depthwise convolution: `groups` equals the channels of the input. */
export const depthwise: Conv2dEmitters = {
  forward: emitForward,
  inputGrad: emitInputGrad,
  weightGrad: emitWeightGrad,
};
