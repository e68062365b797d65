// Emits the weight gradient of a convolution: by rows of the source if the weight is small (assembly/row-convolution.ts), else by
// gathered patches (assembly/convolution-weight-grad.ts). The pixels are split, and the partial gradients of the splits are added up.
import * as kernels from '../generated/kernels.ts';
import type { Emitter, Location } from '../runtime/command.ts';
import { channelsLastStrides, sizeOf } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import type { Conv2dGeometry, Four, WeightGradOperands } from './conv2d-geometry.ts';
import {
  forwardTaps,
  isAdjacent,
  isPlanar,
  LEAST_ROW,
  type RowPhase,
  readByRows,
  rowPhase,
  runsOf,
  sourceOf,
  withChannelsInside,
} from './conv2d-phases.ts';
import { LINE_BYTES } from './conv2d-product.ts';
import { part } from './loops.ts';
import { evenBlock, MAC_NANOSECONDS, scratchRows, TILE_MACS, temporaryCopy } from './product.ts';

/** k and output channels per tile of the weight gradient, pixels per block: its two scratch blocks fill half a second-level cache. */
const GRADIENT_K = 288;
const GRADIENT_OUTPUTS = 128;
const GRADIENT_PIXELS = 256;
/** Floats of patches gathered before they are spread over panels: half a first-level cache. */
const PATCH_FLOATS = 4096;
/** Pixels per split: fewer make the partial gradients cost more than the product, more lose accuracy. */
const LEAST_SPLIT = 512;
const MOST_SPLIT = 4096;
/** Floats of all partial gradients together. */
const MOST_PARTIALS = 4e6;

/** Pixels per partial gradient, where `tiles` others share the work on each. */
function splitPixels({ weight, y, macs }: Conv2dGeometry, tiles: number): number {
  const pixels = y[0] * y[2] * y[3];
  const wanted = Math.min(Math.ceil(macs / tiles / TILE_MACS), Math.max(1, Math.floor(pixels / LEAST_SPLIT)));
  const allowed = Math.max(1, Math.floor(MOST_PARTIALS / sizeOf(weight)));
  const some = Math.max(1, Math.min(Math.max(wanted, Math.ceil(pixels / MOST_SPLIT)), allowed));
  return Math.max(1, Math.ceil(pixels / some));
}

/** How the weight gradient is cut: tiles over k, output channels and groups, then splits of the pixels. */
function weightGradBlocks(geometry: Conv2dGeometry) {
  const { weight, y, groups } = geometry;
  const n = weight[0] / groups;
  const k = weight[1] * weight[2] * weight[3];
  const pixels = y[0] * y[2] * y[3];
  const kc = evenBlock(k, GRADIENT_K, 8);
  const nc = evenBlock(n, GRADIENT_OUTPUTS, 6);
  const tiles = groups * Math.ceil(n / nc) * Math.ceil(k / kc);
  const pixelsPerSplit = splitPixels(geometry, tiles);
  const splits = Math.max(1, Math.ceil(pixels / pixelsPerSplit));
  const mc = evenBlock(pixelsPerSplit, GRADIENT_PIXELS, 4);
  const patchPixels = Math.max(8, Math.min(mc, Math.floor(PATCH_FLOATS / kc)));
  const scratch = 32 + scratchRows(4 * Math.ceil(nc / 4), mc) + 4 * kc * mc + scratchRows(patchPixels, kc) + LINE_BYTES;
  return { n, k, splitPixels: pixelsPerSplit, mc, nc, kc, patchPixels, splits, tiles: splits * tiles, scratch };
}

/** Where the partial gradients of the splits go: the gradient itself if there is one. */
export function partialsOf(emit: Emitter, dw: Tensor, splits: number): Location {
  return splits > 1 ? emit.temporary(4 * splits * dw.size) : locationOf(dw);
}

/** Adds the partial gradients up. */
export function emitSumPartials(emit: Emitter, dw: Tensor, partials: Location, splits: number): void {
  if (splits === 1) return;
  emit.command(
    kernels.sumPartials,
    { y: locationOf(dw), partials, splits, count: dw.size },
    { tiles: Math.ceil(dw.size / kernels.PARTIALS_TILE), work: splits * dw.size * 0.1 },
  );
}

/** Floats of a weight whose gradient is summed by rows: larger ones gain more from panels that stay in the first-level cache. */
const MOST_ROW_WEIGHT = 12288;
/** Floats of source rows and gradients per window: most of a first-level cache. */
const GRADIENT_WINDOW = 6144;

/** The kernel of an ungrouped convolution in the form that `convolveRowsWeightGrad` takes, if it has it and is small. */
function weightGradRows(geometry: Conv2dGeometry): RowPhase | null {
  const { x, rows, columns, weight } = geometry;
  if (columns.outputs < LEAST_ROW || sizeOf(weight) > MOST_ROW_WEIGHT) return null;
  const taps = forwardTaps(geometry, () => 0);
  return rowPhase({ rows: rows.outputs, columns: columns.outputs, offset: 0, taps }, x[1]);
}

/** For x and dy of the first group; those of the next follow, each behind all images of the one before. */
function emitRowWeightGrad(
  emit: Emitter,
  geometry: Conv2dGeometry,
  { dw, x, dy }: WeightGradOperands,
  phase: RowPhase,
): void {
  const { y, rows, columns, groups, macs } = geometry;
  const images = y[0];
  const n = y[1] / groups;
  const source = sourceOf(x, 1);
  const { runs, taps, dy: top, dx: left, depth } = phase;
  const dilation = Math.max(1, phase.dilation);
  const splitRows = Math.max(1, Math.ceil(splitPixels(geometry, groups) / Math.max(1, columns.outputs)));
  const splits = Math.max(1, Math.ceil((images * rows.outputs) / splitRows));
  const line = 4 * Math.ceil((((columns.outputs - 1) * columns.stride + taps) * source.channels) / 4);
  const halo = (runs - 1) * dilation + 1 - rows.stride;
  const fitting = Math.floor((GRADIENT_WINDOW - halo * line) / (rows.stride * line + columns.outputs * n));
  const tileRows = evenBlock(rows.outputs, Math.max(1, fitting), 1);
  const floats =
    depth * 8 * Math.ceil(n / 8) + kernels.WINDOW_HEAD + (halo + tileRows * rows.stride) * line + kernels.WINDOW_SLACK;
  const partials = partialsOf(emit, dw, splits);
  emit.command(
    kernels.convolveRowsWeightGrad,
    {
      dw: partials,
      x: locationOf(x),
      dy: locationOf(dy),
      images,
      groups,
      xGroup: x.size,
      rows: rows.outputs,
      columns: columns.outputs,
      ...source,
      xChannel: isPlanar(x, 1) ? x.strides[1]! : 1,
      stepY: rows.stride,
      stepX: columns.stride,
      dilation,
      n,
      runs,
      taps,
      top,
      left,
      splitRows,
      tileRows,
    },
    { tiles: groups * splits, work: macs * MAC_NANOSECONDS, scratch: 4 * floats },
  );
  emitSumPartials(emit, dw, partials, splits);
}

function emitPatchWeightGrad(emit: Emitter, geometry: Conv2dGeometry, { dw, x, dy }: WeightGradOperands): void {
  const { rows, columns, groups, macs } = geometry;
  const source = sourceOf(x, groups);
  const runs = runsOf(
    forwardTaps(geometry, () => 0),
    isAdjacent(source),
  );
  const { splits, tiles, scratch, ...blocks } = weightGradBlocks(geometry);
  const partials = partialsOf(emit, dw, splits);
  emit.command(
    kernels.conv2dWeightGrad,
    {
      dw: partials,
      x: locationOf(x),
      dy: locationOf(dy),
      runs: emit.table(runs.flat()),
      runCount: runs.length,
      images: geometry.x[0],
      rows: rows.outputs,
      columns: columns.outputs,
      ...source,
      stepY: rows.stride,
      stepX: columns.stride,
      groups,
      ...blocks,
    },
    { tiles, work: macs * MAC_NANOSECONDS, scratch },
  );
  emitSumPartials(emit, dw, partials, splits);
}

/** The channels of every group on their own, channels-last, in one copy: the first group's, which the others follow. */
function channelGroups(emit: Emitter, x: Tensor, groups: number): Tensor {
  const [images, all, height, width] = x.shape as Four;
  const channels = all / groups;
  const [image, channel, row, column] = x.strides as Four;
  const shape = [groups, images, height, width, channels];
  const copy = temporaryCopy(emit, part(x, shape, [channels * channel, image, row, column, channel]));
  const own = [images, channels, height, width];
  return part(copy, own, channelsLastStrides(own));
}

/** Channels of a group up to which gathering its patches costs more than copies of x and dy: 1.2 to 2 times, measured on Zen 4. */
const FEW_CHANNELS = 16;

/** The kernel of one group in the form that `convolveRowsWeightGrad` takes, if all groups in copies of their own are faster. */
function groupRows(geometry: Conv2dGeometry): RowPhase | null {
  const { groups, weight, x, rows, columns } = geometry;
  const windows = weight[2] * weight[3] > 1 && rows.stride === 1 && columns.stride === 1;
  if (groups === 1 || weight[1] > FEW_CHANNELS || !windows) return null;
  const [outputs, ...kernel] = weight;
  const [images, channels, ...extent] = x;
  return weightGradRows({
    ...geometry,
    weight: [outputs / groups, ...kernel],
    x: [images, channels / groups, ...extent],
    groups: 1,
  });
}

/** Emits the weight gradient. */
export function emitWeightGrad(emit: Emitter, geometry: Conv2dGeometry, operands: WeightGradOperands): void {
  const { groups } = geometry;
  const ofGroup = groupRows(geometry);
  if (ofGroup) {
    const dy = channelGroups(emit, operands.dy, groups);
    emitRowWeightGrad(emit, geometry, { ...operands, x: channelGroups(emit, operands.x, groups), dy }, ofGroup);
    return;
  }
  const x = readByRows(emit, operands.x, groups);
  const readable = groups === 1 && (isPlanar(x, 1) || isAdjacent(sourceOf(x, 1)));
  const phase = readable ? weightGradRows(geometry) : null;
  if (phase) emitRowWeightGrad(emit, geometry, { ...operands, x }, phase);
  else emitPatchWeightGrad(emit, geometry, { ...operands, x: withChannelsInside(emit, x) });
}
