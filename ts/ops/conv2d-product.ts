// Emits the products of a convolution and of its input gradient: by rows of the source (assembly/row-convolution.ts), or by gathered
// patches (assembly/convolution.ts).
import * as kernels from '../generated/kernels.ts';
import { type Emitter, type Location, NOWHERE } from '../runtime/command.ts';
import type { Operand } from '../tensor/op.ts';
import { channelsLastStrides, isChannelsLast, sizeOf } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { isColumn, lyingDown, type Placed } from './conv2d-column.ts';
import type { Conv2dGeometry, ForwardOperands, Four, InputGradOperands } from './conv2d-geometry.ts';
import {
  forwardTaps,
  gradientPhases,
  isAdjacent,
  isPlanar,
  LEAST_ROW,
  type Phase,
  type RowPhase,
  readByRows,
  rowPhase,
  runsOf,
  sourceOf,
  type Tap,
  tapOffset,
  withChannelsInside,
} from './conv2d-phases.ts';
import { part } from './loops.ts';
import {
  emitPack,
  evenBlock,
  KC,
  LEAST_COLUMNS,
  MAC_NANOSECONDS,
  PANELS,
  productBlocks,
  scratchRows,
  temporaryCopy,
  tileMacs,
} from './product.ts';

function optionalLocation(x: Operand): Location {
  return x ? locationOf(x) : NOWHERE;
}

/** Scratch for a row of the source with zeros around it. */
export const LINE_BYTES = 4 * (kernels.LINE_FLOATS + 4);

interface Convolution extends Placed {
  readonly panels: Location;
  /** Added to y, in its layout. */
  readonly residual: Operand;
  readonly groups: number;
  readonly lo: number;
  readonly hi: number;
}

/** Emits y = all phases of a convolution of x. */
function emitConvolution(emit: Emitter, given: Convolution): void {
  const convolution = isColumn(given) ? lyingDown(given) : given;
  const phases = rowPhases(convolution);
  const { x, groups } = convolution;
  if (phases) emitRowConvolution(emit, { ...convolution, x: readByRows(emit, x, groups) }, phases);
  else emitPatchConvolution(emit, { ...convolution, x: withChannelsInside(emit, x) });
}

/**
 * All phases as runs of source rows, or null if patches have to be gathered (gaps between taps) or should be: rows too short for
 * strips, or single taps at pixels that lie apart, which gathering brings together once for all panels.
 */
function rowPhases({ x, phases, step, spread, groups }: Convolution): RowPhase[] | null {
  const sparse = Math.max(...step, ...spread) > 1 && phases.every(({ taps }) => taps.length < 2);
  if (sparse) return null;
  const rows = phases.map((phase) => rowPhase(phase, x.shape[1]! / groups));
  const dilation = Math.max(1, ...rows.map((phase) => phase?.dilation ?? 0));
  const fits = (phase: RowPhase | null): phase is RowPhase =>
    phase !== null && phase.columns >= LEAST_ROW && (phase.runs < 2 || phase.dilation === dilation);
  return rows.every(fits) ? rows : null;
}

/** The source in the words of `convolveRows`. */
type RowSource = Record<'xGroup' | 'xImage' | 'xChannel' | 'xRow' | 'xColumn', number> & { readonly x: Location };

/**
 * Where rows are read. Where the channels of a group do not follow one another from pixel to pixel, a copy is made, group by group,
 * unless every run is a single tap inside the source: those need no neighbours.
 */
function rowSource(emit: Emitter, { x, step, groups }: Convolution, phases: readonly RowPhase[]): RowSource {
  const [images, , height, width] = x.shape as Four;
  const { channels, xImage, xRow, xColumn } = sourceOf(x, groups);
  if (isPlanar(x, groups)) return { x: locationOf(x), xGroup: 0, xImage, xChannel: x.strides[1]!, xRow, xColumn };
  const inside = ({ taps, dx, columns }: RowPhase) => taps <= 1 && dx >= 0 && (columns - 1) * step[1] + dx < width;
  if (xColumn === channels || phases.every(inside))
    return { x: locationOf(x), xGroup: channels, xImage, xChannel: 1, xRow, xColumn };
  const strideChannel = channels === 1 ? 1 : x.strides[1]!;
  const byGroup = part(
    x,
    [groups, images, height, width, channels],
    [channels * strideChannel, xImage, xRow, xColumn, strideChannel],
  );
  const pixels = height * width;
  return {
    x: locationOf(temporaryCopy(emit, byGroup)),
    xGroup: images * pixels * channels,
    xImage: pixels * channels,
    xChannel: 1,
    xRow: width * channels,
    xColumn: channels,
  };
}

/** Columns of a tile at most, and outputs that it should have before its channels are divided. */
const MOST_COLUMNS = 120;
const LEAST_PIXELS = 48;
/** Floats of source rows that a tile reads, about: half a second-level cache. */
const WINDOW_FLOATS = 40960;

/** Tile sizes of a convolution by rows; `step` is [vertical, horizontal]. */
function rowBlocks(
  phases: readonly RowPhase[],
  [stepY, stepX]: readonly [number, number],
  channels: number,
  n: number,
  macs: number,
) {
  const most = (of: (phase: RowPhase) => number) => Math.max(...phases.map(of));
  const rows = most((p) => p.rows);
  const columns = most((p) => p.columns);
  const k = most((p) => Math.max(1, p.depth));
  const tileColumns = Math.min(columns, evenBlock(columns, MOST_COLUMNS, 12));
  const line = 4 * Math.ceil((((tileColumns - 1) * stepX + most((p) => p.taps)) * channels) / 4);
  const halo = most((p) => (p.runs - 1) * p.dilation);
  const fewest = Math.min(rows, Math.ceil(LEAST_PIXELS / tileColumns));
  const size = tileMacs(macs);
  const share = Math.floor(size / (fewest * tileColumns * k) / 8) * 8;
  const nc = evenBlock(n, Math.max(LEAST_COLUMNS, share), PANELS);
  const affordable = Math.floor(size / (tileColumns * k * Math.min(n, nc)));
  const room = Math.floor((WINDOW_FLOATS / line - halo - 1) / stepY) + 1;
  const tileRows = evenBlock(rows, Math.max(fewest, Math.min(affordable, room)), 1);
  const scratch =
    4 * (kernels.WINDOW_HEAD + ((tileRows - 1) * stepY + Math.max(0, halo) + 1) * line + kernels.WINDOW_SLACK);
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
    pixels > 0 &&
    sizeOf(y.shape) / y.shape[1]! === pixels &&
    isChannelsLast(x.shape, x.strides)
  );
}

/** Floats of a phase's weights for one output channel, as `dotRow` wants them: a bias, then runs of whole vectors. */
function dotFloats({ runs, taps }: RowPhase, channels: number): number {
  return 4 + runs * 4 * Math.ceil((taps * channels) / 4);
}

/**
 * Bytes of scratch for the weights of few output channels if `dotRow` computes them faster than panels of eight columns, else 0.
 * Measured in cycles per pixel: 0.6 per vector of k and 10 for the end of each sum, against 1.1 per k and 6, whatever the columns. Each tile
 * fetches its weights from a panel, about 1.5 cycles per float.
 */
function dotBytes(
  phases: readonly RowPhase[],
  channels: number,
  n: number,
  tile: Record<'tileRows' | 'tileColumns', number>,
): number {
  if (n > kernels.MOST_DOTS) return 0;
  let [dots, panels, most] = [0, 0, 0];
  for (const phase of phases) {
    const floats = dotFloats(phase, channels);
    const pixels = phase.rows * phase.columns;
    const tiles = Math.ceil(phase.rows / tile.tileRows) * Math.ceil(phase.columns / tile.tileColumns);
    dots += n * (pixels * (0.15 * floats + 10) + 1.5 * tiles * floats);
    panels += pixels * (1.1 * phase.depth + 6);
    most = Math.max(most, floats);
  }
  return dots < 0.9 * panels ? 4 * n * most : 0;
}

function emitRowConvolution(emit: Emitter, convolution: Convolution, rowPhases: readonly RowPhase[]): void {
  const { y, x, panels, residual, step, spread, groups, lo, hi } = convolution;
  const channels = x.shape[1]! / groups;
  const n = y.shape[1]! / groups;
  const [yImage, , yRow, yColumn] = channelsLastStrides(y.shape) as unknown as Four;
  const pixels = sizeOf(y.shape) / y.shape[1]!;
  const flat = isPointwise(convolution, rowPhases);
  const phases = flat ? [{ ...rowPhases[0]!, rows: 1, columns: pixels }] : rowPhases;
  const [images, height, width] = flat ? [1, 1, pixels] : [x.shape[0]!, x.shape[2]!, x.shape[3]!];
  const words: number[] = [];
  let k = 0;
  for (const { rows, columns, offset, depth, runs, taps, dy, dx } of phases) {
    words.push(rows, columns, offset, k, runs, taps, dy, dx);
    k += depth;
  }
  const macs = phases.reduce((sum, { rows, columns, depth }) => sum + images * rows * columns * groups * n * depth, 0);
  const { scratch: windowBytes, ...blocks } = rowBlocks(phases, step, channels, n, macs);
  const weightBytes = dotBytes(phases, channels, n, blocks);
  const scratch = windowBytes + weightBytes;
  const tiles = phases.map(
    ({ rows, columns }) => Math.ceil(rows / blocks.tileRows) * Math.ceil(columns / blocks.tileColumns),
  );
  emit.command(
    kernels.convolveRows,
    {
      y: locationOf(y),
      ...rowSource(emit, convolution, rowPhases),
      panels,
      residual: optionalLocation(residual),
      phases: emit.table(words),
      phaseCount: phases.length,
      images,
      groups,
      height,
      width,
      channels,
      stepY: step[0],
      stepX: step[1],
      dilation: Math.max(1, ...phases.map(({ dilation }) => dilation)),
      n,
      yImage,
      yRow: yRow * spread[0],
      yColumn: yColumn * spread[1],
      k,
      ...blocks,
      dots: weightBytes && windowBytes,
      lo,
      hi,
    },
    {
      tiles: groups * images * tiles.reduce((sum, count) => sum + count, 0) * Math.ceil(n / blocks.nc),
      work: macs * MAC_NANOSECONDS,
      scratch,
    },
  );
}

/** The same, with patches gathered tile by tile. */
function emitPatchConvolution(
  emit: Emitter,
  { y, x, panels, residual, phases, step, spread, groups, lo, hi }: Convolution,
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
      residual: optionalLocation(residual),
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

/** One number per channel: its address, of a copy if they do not lie side by side. */
function channelFactors(emit: Emitter, x: Operand): Location {
  return x ? locationOf(x.strides[0] === 1 ? x : temporaryCopy(emit, x)) : NOWHERE;
}

/** Weights packed for the forward pass: columns are output channels. */
function packForward(
  emit: Emitter,
  { weight, bias, scale }: ForwardOperands,
  taps: readonly Tap[],
  groups: number,
): Location {
  const [outputs, channels] = weight.shape as Four;
  return emitPack(emit, {
    b: locationOf(weight),
    bias: channelFactors(emit, bias),
    scale: channelFactors(emit, scale),
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

/** Emits y = clamp(conv(x, weight * scale) + bias + residual, lo, hi). */
export function emitForward(emit: Emitter, geometry: Conv2dGeometry, operands: ForwardOperands): void {
  const { rows, columns, groups, lo, hi } = geometry;
  const { y, x, weight, residual } = operands;
  const taps = forwardTaps(geometry, (r, s) => tapOffset(weight, r, s));
  emitConvolution(emit, {
    y,
    x,
    panels: packForward(emit, operands, taps, groups),
    residual,
    phases: [{ rows: rows.outputs, columns: columns.outputs, offset: 0, taps }],
    step: [rows.stride, columns.stride],
    spread: [1, 1],
    groups,
    lo,
    hi,
  });
}

/** Emits the input gradient: convolutions of dy, one per phase of the stride. */
export function emitInputGrad(emit: Emitter, geometry: Conv2dGeometry, { dx, dy, weight }: InputGradOperands): void {
  const { rows, columns, groups, lo, hi } = geometry;
  const phases = gradientPhases(geometry, weight);
  emitConvolution(emit, {
    y: dx,
    x: dy,
    panels: packBackward(emit, weight, phases, groups),
    residual: null,
    phases,
    step: [1, 1],
    spread: [rows.stride, columns.stride],
    groups,
    lo,
    hi,
  });
}
