// Two-dimensional convolution (cross-correlation) and its two gradients. The three are closed under differentiation: each is linear
// in both operands, and its derivatives are the other two.
//
//   y[n, o, i, j] = b[o] + sum over c, r, s of x[n, c, i stride + r dilation - top, j stride + s dilation - left] w[o, c, r, s]
//
// All three are matrix products whose patches are gathered tile by tile (assembly/convolution.ts). Images are read and written
// channels-last; a tensor in another layout is copied first.
import * as kernels from '../generated/kernels.ts';
import { type Emitter, type Location, NOWHERE } from '../runtime/command.ts';
import { apply } from '../tensor/apply.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Op, Operand } from '../tensor/op.ts';
import { channelsLastStrides, isChannelsLast, show, sizeOf } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import {
  checkFloat,
  emitPack,
  evenBlock,
  KC,
  LEAST_COLUMNS,
  MAC_NANOSECONDS,
  productBlocks,
  scratchRows,
  TILE_MACS,
  temporaryCopy,
} from './product.ts';
import { sum } from './reduce.ts';
import { type Padding, type Pair, pairOf, type WindowAxis, windowAxes } from './window.ts';

export { pairOf };

/** Options of `conv2d`. */
export interface Conv2dOptions {
  /** Distance between windows, one number or [vertical, horizontal]. Default 1. */
  stride?: Pair | undefined;
  /** Zeros around the input: a number, [vertical, horizontal], [[top, bottom], [left, right]], or 'same' (PyTorch's rule). Default 0. */
  padding?: Padding | undefined;
  /** Distance between the taps of a window. Default 1. */
  dilation?: Pair | undefined;
  /** Parts into which the channels are divided; each output part sees one input part. Default 1. */
  groups?: number | undefined;
}

type Four = readonly [number, number, number, number];

/** What all three know: shapes [N,C,H,W], [O,C/groups,KH,KW], [N,O,OH,OW] and where the windows lie. */
export interface Conv2dGeometry {
  readonly x: Four;
  readonly weight: Four;
  readonly y: Four;
  readonly rows: WindowAxis;
  readonly columns: WindowAxis;
  readonly groups: number;
  /** Bounds of the output: an activation fused by compile. */
  readonly lo: number;
  readonly hi: number;
  /** Multiply-adds, those with padding included. */
  readonly macs: number;
}

// ---- Checks ---------------------------------------------------------------------------------------------------------------

function checkRank(op: string, name: string, x: Tensor, axes: string): void {
  if (x.shape.length !== 4)
    throw new RangeError(`${op}: ${name} must have 4 dimensions ${axes}, got shape ${show(x.shape)}`);
}

function checkGroups(op: string, x: readonly number[], weight: readonly number[], groups: number): void {
  if (!Number.isInteger(groups) || groups < 1)
    throw new RangeError(`${op}: groups must be a whole number >= 1, got ${groups}`);
  const [channels, outputs] = [x[1]!, weight[0]!];
  if (channels % groups || outputs % groups)
    throw new RangeError(
      `${op}: groups ${groups} must divide ${channels} input channels and ${outputs} output channels`,
    );
  if (weight[1] !== channels / groups)
    throw new RangeError(
      `${op}: input ${show(x)} has ${channels} channels, weight ${show(weight)} with groups ${groups} expects ${weight[1]! * groups}`,
    );
}

/** Validates operands and options, resolves the windows. */
export function conv2dGeometry(x: Tensor, weight: Tensor, bias: Operand, options: Conv2dOptions): Conv2dGeometry {
  checkFloat('conv2d', { input: x, weight, bias });
  checkRank('conv2d', 'input', x, '[N,C,H,W]');
  checkRank('conv2d', 'weight', weight, '[O,C/groups,KH,KW]');
  const { groups = 1 } = options;
  checkGroups('conv2d', x.shape, weight.shape, groups);
  const [outputs, channels, kh, kw] = weight.shape as Four;
  if (sizeOf(weight.shape) === 0) throw new RangeError(`conv2d: weight ${show(weight.shape)} is empty`);
  if (bias && show(bias.shape) !== `[${outputs}]`)
    throw new RangeError(
      `conv2d: bias ${show(bias.shape)} does not fit weight ${show(weight.shape)}, expected [${outputs}]`,
    );
  const [rows, columns] = windowAxes('conv2d', [x.shape[2]!, x.shape[3]!], [kh, kw], options);
  const y: Four = [x.shape[0]!, outputs, rows.outputs, columns.outputs];
  const macs = sizeOf(y) * channels * kh * kw;
  const bounds = { lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY };
  return { x: x.shape as Four, weight: weight.shape as Four, y, rows, columns, groups, ...bounds, macs };
}

/** The same geometry without an epilogue, for gradients. */
function unbounded(geometry: Conv2dGeometry): Conv2dGeometry {
  return { ...geometry, lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY };
}

// ---- Lowering -------------------------------------------------------------------------------------------------------------

/** An operand whose channels are neighbours in memory: itself, or a copy. */
function withChannelsInside(emit: Emitter, x: Tensor): Tensor {
  if (x.shape[1] === 1 || x.strides[1] === 1) return x;
  return temporaryCopy(emit, x, channelsLastStrides(x.shape));
}

/** A tap of the kernel: where it reads, relative to the first tap of an unpadded window, and its place in the weight. */
interface Tap {
  readonly dy: number;
  readonly dx: number;
  readonly offset: number;
}

function tapOffset(weight: Tensor, r: number, s: number): number {
  return r * weight.strides[2]! + s * weight.strides[3]!;
}

function forwardTaps({ rows, columns }: Conv2dGeometry, offset: (r: number, s: number) => number): Tap[] {
  const taps: Tap[] = [];
  for (let r = 0; r < rows.kernel; r++)
    for (let s = 0; s < columns.kernel; s++)
      taps.push({
        dy: r * rows.dilation - rows.before,
        dx: s * columns.dilation - columns.before,
        offset: offset(r, s),
      });
  return taps;
}

/** Taps by which outputs reach inputs at `phase` of the stride, nearest output first, with the distance of that output. */
function reachingTaps(
  { kernel, stride, dilation, before }: WindowAxis,
  phase: number,
): [tap: number, distance: number][] {
  const taps: [number, number][] = [];
  for (let tap = kernel - 1; tap >= 0; tap--) {
    const distance = (phase + before - tap * dilation) / stride;
    if (Number.isInteger(distance)) taps.push([tap, distance]);
  }
  return taps;
}

/** Output pixels that one set of taps computes: a grid of rows x columns, first at element `offset` of the output. */
interface Phase {
  readonly rows: number;
  readonly columns: number;
  readonly offset: number;
  readonly taps: readonly Tap[];
}

/** The input gradient by residues of the input position modulo the stride: each is a convolution of dy with the taps that reach it. */
function gradientPhases({ x, rows, columns }: Conv2dGeometry, weight: Tensor): Phase[] {
  const [, channels, height, width] = x;
  const phases: Phase[] = [];
  for (let i = 0; i < Math.min(rows.stride, height); i++)
    for (let j = 0; j < Math.min(columns.stride, width); j++) {
      const taps = reachingTaps(rows, i).flatMap(([r, dy]) =>
        reachingTaps(columns, j).map(([s, dx]) => ({ dy, dx, offset: tapOffset(weight, r, s) })),
      );
      phases.push({
        rows: Math.ceil((height - i) / rows.stride),
        columns: Math.ceil((width - j) / columns.stride),
        offset: (i * width + j) * channels,
        taps,
      });
    }
  return phases;
}

/** Taps as runs (dy, first dx, count): neighbours in a row whose channels follow one another in memory are one run. */
function runsOf(taps: readonly Tap[], adjacent: boolean): [dy: number, dx: number, taps: number][] {
  const runs: [number, number, number][] = [];
  for (const { dy, dx } of taps) {
    const last = runs.at(-1);
    if (adjacent && last && last[0] === dy && last[1] + last[2] === dx) last[2]++;
    else runs.push([dy, dx, 1]);
  }
  return runs;
}

/** Source of patches in the words of the kernels; `channels` are those of a group. */
function sourceOf(
  x: Tensor,
  groups: number,
): Record<'height' | 'width' | 'xImage' | 'xRow' | 'xColumn' | 'channels', number> {
  const [, channels, height, width] = x.shape as Four;
  const [xImage, , xRow, xColumn] = x.strides as Four;
  return { height, width, xImage, xRow, xColumn, channels: channels / groups };
}

/** Whether the channels of neighbouring pixels follow one another without a gap. */
function isAdjacent(source: { xColumn: number; channels: number }): boolean {
  return source.xColumn === source.channels;
}

/** Scratch for a row of the source with zeros around it. */
const LINE_BYTES = 4 * (kernels.LINE_FLOATS + 4);

interface Convolution {
  readonly y: Tensor;
  readonly x: Tensor;
  readonly panels: Location;
  readonly phases: readonly Phase[];
  /** Distance between windows on x, and between the pixels of a phase on y. */
  readonly step: readonly [number, number];
  readonly spread: readonly [number, number];
  readonly groups: number;
  readonly lo: number;
  readonly hi: number;
}

/** Emits y = all phases of a convolution of x. */
function emitConvolution(emit: Emitter, convolution: Convolution): void {
  const phases = rowPhases(convolution);
  if (phases) emitRowConvolution(emit, convolution, phases);
  else emitPatchConvolution(emit, convolution);
}

/** A phase whose patches are `runs` runs of `taps` taps each, one in every dilation-th source row. */
interface RowPhase {
  readonly rows: number;
  readonly columns: number;
  readonly offset: number;
  readonly depth: number;
  readonly runs: number;
  readonly taps: number;
  readonly dy: number;
  readonly dx: number;
  readonly dilation: number;
}

/** The phase in that form, if it has it. */
function rowPhase({ rows, columns, offset, taps }: Phase, channels: number): RowPhase | null {
  const runs = runsOf(taps, true);
  const [dy, dx, length] = runs[0] ?? [0, 0, 0];
  const dilation = runs.length > 1 ? runs[1]![0] - dy : 0;
  const regular = runs.every(([y, x, count], r) => y === dy + r * dilation && x === dx && count === length);
  const depth = taps.length * channels;
  return regular ? { rows, columns, offset, depth, runs: runs.length, taps: length, dy, dx, dilation } : null;
}

/**
 * All phases in that form, or null if patches have to be gathered (gaps between taps or channels) or should be: rows too short for
 * strips, or single taps at pixels that lie apart, which gathering brings together once for all panels.
 */
function rowPhases({ x, phases, step, spread, groups }: Convolution): RowPhase[] | null {
  const source = sourceOf(x, groups);
  const sparse = Math.max(...step, ...spread) > 1 && phases.every(({ taps }) => taps.length < 2);
  if (!isAdjacent(source) || sparse) return null;
  const rows = phases.map((phase) => rowPhase(phase, source.channels));
  const dilation = Math.max(1, ...rows.map((phase) => phase?.dilation ?? 0));
  const fits = (phase: RowPhase | null): phase is RowPhase =>
    phase !== null && phase.columns >= LEAST_ROW && (phase.runs < 2 || phase.dilation === dilation);
  return rows.every(fits) ? rows : null;
}

/** Outputs per row below which patches of several rows make better strips. */
const LEAST_ROW = 4;
/** Columns of a tile at most, and outputs that it should have before its channels are divided. */
const MOST_COLUMNS = 120;
const LEAST_PIXELS = 48;
/** Floats of source rows that a tile reads, about: half a second-level cache. */
const WINDOW_FLOATS = 40960;

/** Tile sizes of a convolution by rows. */
function rowBlocks(phases: readonly RowPhase[], stepY: number, stepX: number, channels: number, n: number) {
  const most = (of: (phase: RowPhase) => number) => Math.max(...phases.map(of));
  const [rows, columns, k] = [
    most((p) => p.rows),
    most((p) => p.columns),
    Math.max(
      1,
      most((p) => p.depth),
    ),
  ];
  const tileColumns = Math.min(columns, evenBlock(columns, MOST_COLUMNS, 12));
  const line = 4 * Math.ceil((((tileColumns - 1) * stepX + most((p) => p.taps)) * channels) / 4);
  const halo = most((p) => (p.runs - 1) * p.dilation);
  const fewest = Math.min(rows, Math.ceil(LEAST_PIXELS / tileColumns));
  const share = Math.floor(TILE_MACS / (fewest * tileColumns * k) / 8) * 8;
  const nc = evenBlock(n, Math.max(LEAST_COLUMNS, share), 8);
  const affordable = Math.floor(TILE_MACS / (tileColumns * k * Math.min(n, nc)));
  const room = Math.floor((WINDOW_FLOATS / line - halo - 1) / stepY) + 1;
  const tileRows = evenBlock(rows, Math.max(fewest, Math.min(affordable, room)), 1);
  const scratch = 4 * (kernels.WINDOW_HEAD + ((tileRows - 1) * stepY + Math.max(0, halo) + 1) * line + 4);
  return { tileRows, tileColumns, nc, kc: KC, scratch };
}

/** A 1 x 1 kernel that meets every pixel of a dense source: all images are one long row. */
function isPointwise({ x, y, step, spread }: Convolution, phases: readonly RowPhase[]): boolean {
  const [phase] = phases;
  const pixels = sizeOf(x.shape) / x.shape[1]!;
  return (
    phases.length === 1 &&
    phase!.runs * phase!.taps === 1 &&
    Math.max(...step, ...spread) === 1 &&
    phase!.dy === 0 &&
    phase!.dx === 0 &&
    sizeOf(y.shape) / y.shape[1]! === pixels &&
    isChannelsLast(x.shape, x.strides)
  );
}

function emitRowConvolution(emit: Emitter, convolution: Convolution, rowPhases: readonly RowPhase[]): void {
  const { y, x, panels, step, spread, lo, hi } = convolution;
  const { xImage, xRow, channels } = sourceOf(x, 1);
  const n = y.shape[1]!;
  const [yImage, , yRow, yColumn] = channelsLastStrides(y.shape) as unknown as Four;
  const pixels = sizeOf(y.shape) / n;
  const flat = isPointwise(convolution, rowPhases);
  const phases = flat ? [{ ...rowPhases[0]!, rows: 1, columns: pixels }] : rowPhases;
  const [images, height, width] = flat ? [1, 1, pixels] : [x.shape[0]!, x.shape[2]!, x.shape[3]!];
  const words: number[] = [];
  let k = 0;
  for (const { rows, columns, offset, depth, runs, taps, dy, dx } of phases) {
    words.push(rows, columns, offset, k, runs, taps, dy, dx);
    k += depth;
  }
  const { scratch, ...blocks } = rowBlocks(phases, step[0], step[1], channels, n);
  const tiles = phases.map(
    ({ rows, columns }) => Math.ceil(rows / blocks.tileRows) * Math.ceil(columns / blocks.tileColumns),
  );
  const macs = phases.reduce((sum, { rows, columns, depth }) => sum + images * rows * columns * n * depth, 0);
  emit.command(
    kernels.convolveRows,
    {
      y: locationOf(y),
      x: locationOf(x),
      panels,
      phases: emit.table(words),
      phaseCount: phases.length,
      images,
      height,
      width,
      channels,
      xImage,
      xRow,
      stepY: step[0],
      stepX: step[1],
      dilation: Math.max(1, ...phases.map(({ dilation }) => dilation)),
      n,
      yImage,
      yRow: yRow * spread[0],
      yColumn: yColumn * spread[1],
      k,
      ...blocks,
      lo,
      hi,
    },
    {
      tiles: images * tiles.reduce((sum, count) => sum + count, 0) * Math.ceil(n / blocks.nc),
      work: macs * MAC_NANOSECONDS,
      scratch,
    },
  );
}

/** The same, with patches gathered tile by tile. */
function emitPatchConvolution(
  emit: Emitter,
  { y, x, panels, phases, step, spread, groups, lo, hi }: Convolution,
): void {
  const source = sourceOf(x, groups);
  const images = y.shape[0]!;
  const [yImage, , yRow, yColumn] = channelsLastStrides(y.shape) as unknown as Four;
  const n = y.shape[1]! / groups;
  const phaseWords: number[] = [];
  const runWords: number[] = [];
  let k = 0;
  let macs = 0;
  for (const { rows, columns, offset, taps } of phases) {
    const runs = runsOf(taps, isAdjacent(source));
    const depth = taps.length * source.channels;
    phaseWords.push(rows, columns, offset, runWords.length / kernels.RUN_WORDS, runs.length, k, depth);
    runWords.push(...runs.flat());
    k += depth;
    macs += images * rows * columns * n * depth * groups;
  }
  const pixels = phases.map(({ rows, columns }) => images * rows * columns);
  const deepest = Math.max(...phases.map(({ taps }) => taps.length * source.channels));
  const blocks = productBlocks(Math.max(...pixels), n, deepest);
  const rowBlocks = pixels.reduce((count, m) => count + Math.ceil(m / blocks.mc), 0);
  emit.command(
    kernels.conv2d,
    {
      y: locationOf(y),
      x: locationOf(x),
      panels,
      phases: emit.table(phaseWords),
      runs: emit.table(runWords.length ? runWords : [0]),
      phaseCount: phases.length,
      images,
      ...source,
      stepY: step[0],
      stepX: step[1],
      groups,
      n,
      yImage,
      yRow: yRow * spread[0],
      yColumn: yColumn * spread[1],
      k,
      ...blocks,
      lo,
      hi,
    },
    {
      tiles: groups * rowBlocks * Math.ceil(n / blocks.nc),
      work: macs * MAC_NANOSECONDS,
      scratch: scratchRows(blocks.mc, blocks.kc) + LINE_BYTES,
    },
  );
}

/** Weights packed for the forward pass: columns are output channels. */
function packForward(emit: Emitter, weight: Tensor, bias: Operand, taps: readonly Tap[], groups: number): Location {
  const [outputs, channels] = weight.shape as Four;
  return emitPack(emit, {
    b: locationOf(weight),
    bias: bias ? locationOf(bias) : NOWHERE,
    taps: taps.map(({ offset }) => offset),
    channels,
    n: outputs / groups,
    strideChannel: channels === 1 ? 1 : weight.strides[1]!,
    strideN: weight.strides[0]!,
    matrices: groups,
    strideMatrix: (outputs / groups) * weight.strides[0]!,
  });
}

/** Weights packed for the input gradient: columns are input channels, k runs over (tap, output channel). */
function packBackward(emit: Emitter, weight: Tensor, phases: readonly Phase[], groups: number): Location {
  const [outputs, channels] = weight.shape as Four;
  return emitPack(emit, {
    b: locationOf(weight),
    bias: NOWHERE,
    taps: phases.flatMap(({ taps }) => taps.map(({ offset }) => offset)),
    channels: outputs / groups,
    n: channels,
    strideChannel: weight.strides[0]!,
    strideN: channels === 1 ? 1 : weight.strides[1]!,
    matrices: groups,
    strideMatrix: (outputs / groups) * weight.strides[0]!,
  });
}

// ---- Ops ------------------------------------------------------------------------------------------------------------------

const conv2dOp: Op<Conv2dOptions, Conv2dGeometry> = {
  name: 'conv2d',
  infer([x, weight, bias], options) {
    const geometry = conv2dGeometry(x!, weight!, bias ?? null, options);
    const { y } = geometry;
    return { geometry, outputs: [{ shape: y, dtype: 'f32', strides: channelsLastStrides(y) }] };
  },
  lower(emit, geometry, [input, weight, bias], [y]) {
    const { rows, columns, groups, lo, hi } = geometry;
    const x = withChannelsInside(emit, input!);
    const taps = forwardTaps(geometry, (r, s) => tapOffset(weight!, r, s));
    emitConvolution(emit, {
      y: y!,
      x,
      panels: packForward(emit, weight!, bias ?? null, taps, groups),
      phases: [{ rows: rows.outputs, columns: columns.outputs, offset: 0, taps }],
      step: [rows.stride, columns.stride],
      spread: [1, 1],
      groups,
      lo,
      hi,
    });
  },
  backward({ geometry, inputs: [x, weight], gradients: [dy], needs }) {
    return [
      needs[0] ? conv2dInputGrad(dy!, weight!, geometry) : null,
      needs[1] ? conv2dWeightGrad(x!, dy!, geometry) : null,
      needs[2] ? sum(dy!, { dim: [0, 2, 3] }) : null,
    ];
  },
  saves: { inputs: [0, 1] },
};

/** Gradient operands must have the shapes of the convolution they belong to. */
function checkShapes(
  op: string,
  expected: readonly (readonly [name: string, x: Tensor, shape: readonly number[]])[],
): void {
  for (const [name, x, shape] of expected)
    if (show(x.shape) !== show(shape))
      throw new RangeError(`${op}: ${name} has shape ${show(x.shape)}, expected ${show(shape)}`);
}

const conv2dInputGradOp: Op<Conv2dGeometry, Conv2dGeometry> = {
  name: 'conv2dInputGrad',
  infer([dy, weight], geometry) {
    checkShapes('conv2dInputGrad', [
      ['dy', dy!, geometry.y],
      ['weight', weight!, geometry.weight],
    ]);
    const outputs = [{ shape: geometry.x, dtype: 'f32' as const, strides: channelsLastStrides(geometry.x) }];
    return { geometry: unbounded(geometry), outputs };
  },
  lower(emit, geometry, [gradient, weight], [dx]) {
    const { rows, columns, groups, lo, hi } = geometry;
    const phases = gradientPhases(geometry, weight!);
    emitConvolution(emit, {
      y: dx!,
      x: withChannelsInside(emit, gradient!),
      panels: packBackward(emit, weight!, phases, groups),
      phases,
      step: [1, 1],
      spread: [rows.stride, columns.stride],
      groups,
      lo,
      hi,
    });
  },
  backward({ geometry, inputs: [dy, weight], gradients: [ddx], needs }) {
    return [
      needs[0] ? convolve(ddx!, weight!, geometry) : null,
      needs[1] ? conv2dWeightGrad(ddx!, dy!, geometry) : null,
    ];
  },
  saves: { inputs: [0, 1] },
};

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

/** Operands of the weight gradient: x with its channels inside, dy channels-last. */
interface WeightGrad {
  readonly dw: Tensor;
  readonly x: Tensor;
  readonly dy: Tensor;
}

/** Where the partial gradients of the splits go: the gradient itself if there is one. */
function partialsOf(emit: Emitter, dw: Tensor, splits: number): Location {
  return splits > 1 ? emit.temporary(4 * splits * dw.size) : locationOf(dw);
}

/** Adds the partial gradients up. */
function emitSumPartials(emit: Emitter, dw: Tensor, partials: Location, splits: number): void {
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

/** The kernel in the form that `convolveRowsWeightGrad` takes, if it has it and is small. */
function weightGradRows(geometry: Conv2dGeometry, x: Tensor): RowPhase | null {
  const { rows, columns, groups, weight } = geometry;
  const source = sourceOf(x, groups);
  if (!isAdjacent(source) || columns.outputs < LEAST_ROW || sizeOf(weight) > MOST_ROW_WEIGHT) return null;
  const taps = forwardTaps(geometry, () => 0);
  return rowPhase({ rows: rows.outputs, columns: columns.outputs, offset: 0, taps }, source.channels);
}

function emitRowWeightGrad(emit: Emitter, geometry: Conv2dGeometry, { dw, x, dy }: WeightGrad, phase: RowPhase): void {
  const { y, rows, columns, macs } = geometry;
  const [images, n] = y;
  const { xColumn: _, ...source } = sourceOf(x, 1);
  const { runs, taps, dy: top, dx: left, depth } = phase;
  const dilation = Math.max(1, phase.dilation);
  const splitRows = Math.max(1, Math.ceil(splitPixels(geometry, 1) / Math.max(1, columns.outputs)));
  const splits = Math.max(1, Math.ceil((images * rows.outputs) / splitRows));
  const line = 4 * Math.ceil((((columns.outputs - 1) * columns.stride + taps) * source.channels) / 4);
  const halo = (runs - 1) * dilation + 1 - rows.stride;
  const fitting = Math.floor((GRADIENT_WINDOW - halo * line) / (rows.stride * line + columns.outputs * n));
  const tileRows = evenBlock(rows.outputs, Math.max(1, fitting), 1);
  const floats = depth * 8 * Math.ceil(n / 8) + kernels.WINDOW_HEAD + (halo + tileRows * rows.stride) * line + 4;
  const partials = partialsOf(emit, dw, splits);
  emit.command(
    kernels.convolveRowsWeightGrad,
    {
      dw: partials,
      x: locationOf(x),
      dy: locationOf(dy),
      images,
      rows: rows.outputs,
      columns: columns.outputs,
      ...source,
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
    { tiles: splits, work: macs * MAC_NANOSECONDS, scratch: 4 * floats },
  );
  emitSumPartials(emit, dw, partials, splits);
}

function emitPatchWeightGrad(emit: Emitter, geometry: Conv2dGeometry, { dw, x, dy }: WeightGrad): void {
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

const conv2dWeightGradOp: Op<Conv2dGeometry, Conv2dGeometry> = {
  name: 'conv2dWeightGrad',
  infer([x, dy], geometry) {
    checkShapes('conv2dWeightGrad', [
      ['x', x!, geometry.x],
      ['dy', dy!, geometry.y],
    ]);
    const outputs = [{ shape: geometry.weight, dtype: 'f32' as const, strides: channelsLastStrides(geometry.weight) }];
    return { geometry: unbounded(geometry), outputs };
  },
  lower(emit, geometry, [input, gradient], [dw]) {
    const x = withChannelsInside(emit, input!);
    const dy = isChannelsLast(gradient!.shape, gradient!.strides)
      ? gradient!
      : temporaryCopy(emit, gradient!, channelsLastStrides(gradient!.shape));
    const operands = { dw: dw!, x, dy };
    const phase = weightGradRows(geometry, x);
    if (phase) emitRowWeightGrad(emit, geometry, operands, phase);
    else emitPatchWeightGrad(emit, geometry, operands);
  },
  backward({ geometry, inputs: [x, dy], gradients: [ddw], needs }) {
    return [needs[0] ? conv2dInputGrad(dy!, ddw!, geometry) : null, needs[1] ? convolve(x!, ddw!, geometry) : null];
  },
  saves: { inputs: [0, 1] },
};

/** The convolution that a geometry describes. */
function convolve(x: Tensor, weight: Tensor, { rows, columns, groups }: Conv2dGeometry): Tensor {
  return conv2d(x, weight, null, {
    stride: [rows.stride, columns.stride],
    dilation: [rows.dilation, columns.dilation],
    padding: [
      [rows.before, rows.after],
      [columns.before, columns.after],
    ],
    groups,
  });
}

/** Gradient of a convolution with respect to its input: dy [N,O,OH,OW], weight [O,C/groups,KH,KW] to [N,C,H,W]. */
export function conv2dInputGrad(dy: Tensor, weight: Tensor, geometry: Conv2dGeometry): Tensor {
  return apply(conv2dInputGradOp, [dy, weight], geometry)[0]!;
}

/** Gradient of a convolution with respect to its weight: x [N,C,H,W], dy [N,O,OH,OW] to [O,C/groups,KH,KW]. */
export function conv2dWeightGrad(x: Tensor, dy: Tensor, geometry: Conv2dGeometry): Tensor {
  return apply(conv2dWeightGradOp, [x, dy], geometry)[0]!;
}

const OPTIONS = ['stride', 'padding', 'dilation', 'groups'];

/**
 * Two-dimensional cross-correlation: input [N,C,H,W], weight [O,C/groups,KH,KW], bias [O] or null, to [N,O,OH,OW] with
 * OH = floor((H + top + bottom - dilation (KH - 1) - 1) / stride) + 1, OW alike. Source: torch.nn.functional.conv2d.
 *
 * @throws RangeError for shapes that do not fit, a stride or dilation below 1, negative padding, a kernel larger than the padded
 *   input, 'same' with a stride; TypeError for other dtypes and unknown options
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * const x = tensor([[[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]]);
 * const y = F.conv2d(x, tensor([[[[0, 1], [2, 3]]]]));
 * if (y.data().join() !== '19,25,37,43') throw new Error('wrong');
 * ```
 */
export function conv2d(x: Tensor, weight: Tensor, bias?: Operand, options: Conv2dOptions = {}): Tensor {
  checkOptions('conv2d', options, OPTIONS);
  return apply(conv2dOp, [x, weight, bias ?? null], options)[0]!;
}
