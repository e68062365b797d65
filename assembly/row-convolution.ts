// Convolution without patches: where a patch is a few equally long runs of floats (one per row of the kernel), and neighbouring
// outputs read neighbouring runs, the micro-kernels walk the source itself.
//
//   output row i, columns j, j + 1, ...:    A row = output column, one run of k per kernel row
//
//      source row i + dy     [ . . . a a a a a . . . . ]      column j + 1 begins stepX * channels floats further
//      source row i + dy + 1 [ . . . a a a a a . . . . ]      the next run begins a source row further
//
// Kernel rows outside the source are skipped, for they would add zeros. If runs leave a row sideways, the tile's source rows are
// copied once to scratch with zeros around them. (patches.ts gathers patches instead: kernels with gaps, narrow outputs.)
import { Input, Output, Table } from './record';
import { scratch } from './control';
import { copy, zero } from './patches';
import { dotRow, packDots } from './dot-rows';
import { addOuterProducts, multiplyRuns, NO_RESIDUAL, panelColumns, residualDistance, touchPanels } from './gemm';
import { runJump } from './generated/micro-kernels';
import { panelBytes, transposeBlock } from './pack';


@unmanaged
export class ConvolveRowsArgs {
  y: Output;
  /**
   * Channels inside, those of neighbouring pixels one after the other (unless every run is a single tap inside the source); or planar, the
   * pixels of a row one after the other.
   */
  x: Input;
  /** Weights of every group as `pack` writes them; k runs over the taps of all phases, phase by phase. */
  panels: Input;
  /** As y; address 0: none. */
  residual: Input;
  /** ROW_PHASE_WORDS words per phase: rows, columns, offset in y (elements), first k, runs, taps per run, dy, dx of the first tap. */
  phases: Table;
  phaseCount: i32;
  images: i32;
  groups: i32;
  /** Elements of x from one group to the next. */
  xGroup: i32;
  height: i32;
  width: i32;
  /** Source channels of a group. */
  channels: i32;
  /** Elements between neighbouring images, channels, rows and columns of x. */
  xImage: i32;
  xChannel: i32;
  xRow: i32;
  xColumn: i32;
  stepY: i32;
  stepX: i32;
  /** Source rows from one run of a patch to the next. */
  dilation: i32;
  /** Output channels of a group. */
  n: i32;
  /** Elements between neighbouring images, rows and columns of a phase in y. */
  yImage: i32;
  yRow: i32;
  yColumn: i32;
  /** k of all phases together. */
  k: i32;
  /** Rows, columns and channels of y per tile (nc is a multiple of 8), length of a k block. */
  tileRows: i32;
  tileColumns: i32;
  nc: i32;
  kc: i32;
  /** For at most MOST_DOTS channels: bytes of scratch in front of the weights of dotRow; 0: panels are faster. */
  dots: i32;
  lo: f32;
  hi: f32;
}

export const ROW_PHASE_WORDS: i32 = 8;
/** Floats of scratch in front of the window. */
export const WINDOW_HEAD: i32 = 16;

/** Channels that a planar source has at most. */
export const MOST_PLANES: i32 = 8;
/** Floats of scratch behind the window: what transposing a planar row writes beyond its last pixel, three more. */
export const WINDOW_SLACK: i32 = 3 * MOST_PLANES;

/** Where windows are cut from; both kernels have these fields in common and hand them on. */
@unmanaged
class RowSource {
  height: i32;
  width: i32;
  channels: i32;
  xImage: i32;
  xChannel: i32;
  xRow: i32;
  xColumn: i32;
  stepY: i32;
  stepX: i32;
  dilation: i32;
}

/** One phase as read from the table. */
@unmanaged
class RowPhase {
  rows: i32;
  columns: i32;
  offset: i32;
  firstK: i32;
  runs: i32;
  taps: i32;
  dy: i32;
  dx: i32;
}

/** A block of outputs, and where its source rows lie; in scratch. */
@unmanaged
class Window {
  /** Address of what the first column reads in source row 0, and bytes between source rows and pixels. Rows outside are never read. */
  source: usize;
  rowBytes: usize;
  pixelBytes: usize;
  /** Address of the first output. */
  y: usize;
  /** Source row of the first run of the first output row. */
  top: i32;
  rows: i32;
  columns: i32;
  /** Output channels. */
  channels: i32;
}

/**
 * Tiles: for every phase groups x images x row blocks x column blocks x ceil(n / nc), channels fastest.
 * Scratch per lane, floats: WINDOW_HEAD + source rows of a tile x (its columns x channels rounded up to 4) + WINDOW_SLACK; then, with
 * `dots`, n x (4 + runs x (taps x channels rounded up to 4)) of the largest phase.
 */
export function convolveRows(args: ConvolveRowsArgs, first: i32, last: i32, lane: i32): void {
  const channelBlocks = (args.n + args.nc - 1) / args.nc;
  let start = 0;
  for (let p = 0; p < args.phaseCount; p++) {
    const phase = changetype<RowPhase>(args.phases + <usize>(p * ROW_PHASE_WORDS) * 4);
    const rowBlocks = (phase.rows + args.tileRows - 1) / args.tileRows;
    const columnBlocks = (phase.columns + args.tileColumns - 1) / args.tileColumns;
    const tiles = args.groups * args.images * rowBlocks * columnBlocks * channelBlocks;
    const end = min(last, start + tiles);
    for (let tile = max(first, start); tile < end; tile++) {
      const block = (tile - start) / channelBlocks;
      const row = block / columnBlocks;
      const image = row / rowBlocks;
      convolveWindow(
        args,
        phase,
        image / args.images,
        image % args.images,
        (row % rowBlocks) * args.tileRows,
        (block % columnBlocks) * args.tileColumns,
        ((tile - start) % channelBlocks) * args.nc,
        scratch(lane),
      );
    }
    start += tiles;
  }
}

/** Outputs from row i, column j and channel n on, of one group, image and phase. */
function convolveWindow(
  args: ConvolveRowsArgs,
  phase: RowPhase,
  group: i32,
  image: i32,
  i: i32,
  j: i32,
  n: i32,
  to: usize,
): void {
  const window = changetype<Window>(to);
  window.top = i * args.stepY + phase.dy;
  window.rows = min(args.tileRows, phase.rows - i);
  window.columns = min(args.tileColumns, phase.columns - j);
  window.channels = min(args.nc, args.n - n);
  const pixel = phase.offset + image * args.yImage + i * args.yRow + j * args.yColumn;
  window.y = args.y + ((<usize>(pixel + group * args.n + n)) << 2);
  openWindow(
    changetype<RowSource>(changetype<usize>(args) + offsetof<ConvolveRowsArgs>('height')),
    window,
    args.x + ((<usize>(group * args.xGroup + image * args.xImage)) << 2),
    j * args.stepX + phase.dx,
    phase.runs,
    phase.taps,
    to + WINDOW_HEAD * 4,
  );
  const panels = args.panels + <usize>(group * ((args.n + 7) >> 3) + (n >> 3)) * panelBytes(args.k);
  if (args.dots) dotWindow(args, phase, window, panels, to + <usize>args.dots);
  else multiplyWindow(args, phase, window, panels);
}

/** Finds the source rows of a window that begins at column x, or copies them, channels inside, with zeros at both ends. */
function openWindow(source: RowSource, window: Window, image: usize, x: i32, runs: i32, taps: i32, to: usize): void {
  const channels = source.channels;
  const span = (window.columns - 1) * source.stepX + taps;
  const xRow = (<usize>source.xRow) << 2;
  const planar = source.xChannel != 1;
  if (!planar && x >= 0 && x + span <= source.width) {
    window.source = image + ((<usize>(x * source.xColumn)) << 2);
    window.rowBytes = xRow;
    window.pixelBytes = (<usize>source.xColumn) << 2;
    return;
  }
  const first = max(0, window.top);
  const last = min(source.height, window.top + (window.rows - 1) * source.stepY + (runs - 1) * source.dilation + 1);
  const rowBytes = (<usize>((span * channels + 3) & ~3)) << 2;
  const pixel = (<usize>channels) << 2;
  const left = min(span, max(0, -x));
  const inside = max(0, min(source.width, x + span) - max(x, 0));
  const right = span - left - inside;
  const start = <usize>left * pixel;
  const end = start + <usize>inside * pixel;
  window.source = to - <usize>first * rowBytes;
  window.rowBytes = rowBytes;
  window.pixelBytes = pixel;
  let from = image + <usize>first * xRow + ((<usize>(max(x, 0) * source.xColumn)) << 2);
  for (let row = first; row < last; row++) {
    zero(to, left * channels);
    if (planar) transposeBlock(to + start, pixel, from, (<usize>source.xChannel) << 2, channels, inside);
    else copy(to + start, from, inside * channels);
    zero(to + end, right * channels);
    from += xRow;
    to += rowBytes;
  }
}

/** All of k at once, vectors running along it; `weights` is room for those of the phase. */
function dotWindow(args: ConvolveRowsArgs, phase: RowPhase, window: Window, panel: usize, weights: usize): void {
  const length = phase.taps * args.channels;
  packDots(weights, panel, panelBytes(phase.firstK), phase.runs, length, args.n);
  const lda = <usize>args.stepX * window.pixelBytes;
  const ldc = (<usize>args.yColumn) << 2;
  const residual = residualDistance(args.residual, args.y);
  let c = window.y;
  let top = window.top;
  for (let i = 0; i < window.rows; i++) {
    const first = firstRun(args, top, phase.runs);
    const last = max(first, endRun(args, top, phase.runs));
    dotRow(
      window.columns,
      args.n,
      last - first,
      length,
      phase.runs,
      first,
      window.source + <usize>(top + first * args.dilation) * window.rowBytes,
      lda,
      <usize>args.dilation * window.rowBytes,
      weights,
      residual,
      c,
      ldc,
      args.lo,
      args.hi,
    );
    c += (<usize>args.yRow) << 2;
    top += args.stepY;
  }
}

/** Of `runs` runs, one in every dilation-th source row from `top` on, the first one inside the source, and the end of those that are. */
// @ts-ignore: decorator
@inline
function firstRun(args: ConvolveRowsArgs, top: i32, runs: i32): i32 {
  return top < 0 ? min(runs, (args.dilation - 1 - top) / args.dilation) : 0;
}

// @ts-ignore: decorator
@inline
function endRun(args: ConvolveRowsArgs, top: i32, runs: i32): i32 {
  const room = args.height - top + args.dilation - 1;
  return room < 0 ? 0 : min(runs, room / args.dilation);
}

/** Block by block of k: several whole runs, or equal pieces of one. */
function multiplyWindow(args: ConvolveRowsArgs, phase: RowPhase, window: Window, panels: usize): void {
  const length = phase.taps * args.channels;
  const pieces = max(1, (length + args.kc - 1) / args.kc);
  const piece = ((length + pieces - 1) / pieces + 3) & ~3;
  const group = pieces > 1 ? 1 : max(1, args.kc / max(1, length));
  let run = 0;
  do {
    let start = 0;
    do {
      const runs = min(group, phase.runs - run);
      multiplyBlockOfRuns(args, phase, window, panels, run, runs, start, min(piece, length - start));
      start += piece;
    } while (start < length);
    run += group;
  } while (run < phase.runs);
}

/** Floats start .. start + k - 1 of the runs `run` .. `run + runs - 1`, for all outputs of the window. */
function multiplyBlockOfRuns(
  args: ConvolveRowsArgs,
  phase: RowPhase,
  window: Window,
  panels: usize,
  run: i32,
  runs: i32,
  start: i32,
  k: i32,
): void {
  const length = phase.taps * args.channels;
  const whole = run + runs >= phase.runs && start + k >= length;
  const fresh = run == 0 && start == 0;
  const width = panelColumns();
  const size = panelBytes(args.k);
  const first = phase.firstK + run * length + start;
  let touched = isReadOnce(args, phase) ? panels : <usize>-1;
  for (let column = 0; column < window.channels; column += width) {
    if (panels >= touched) touched = touchPanels(panels, size, first, runs * k, window.channels - column);
    multiplyRows(
      args,
      window,
      panels,
      panelBytes(phase.firstK + start),
      length,
      run,
      runs,
      k,
      (<usize>start) << 2,
      column,
      min(width, window.channels - column),
      fresh,
      whole ? args.lo : -Infinity,
      whole ? args.hi : Infinity,
    );
    panels += <usize>(width >> 3) * size;
  }
}

/** Pixels of all images up to which panels are touched before they are multiplied, and floats of weights from which. */
const FEW_PIXELS: i32 = 240;
const MANY_WEIGHTS: i32 = 16384;

/**
 * Whether panels serve so few pixels that their way from another cache, or from memory, is a good part of the time: layers of 7x7 and
 * 14x14 pixels, which take 0.9 and 0.97 of what they took.
 */
function isReadOnce(args: ConvolveRowsArgs, phase: RowPhase): bool {
  return args.images * phase.rows * phase.columns <= FEW_PIXELS && args.k * args.n >= MANY_WEIGHTS;
}

/** One panel or two, output row by output row. */
function multiplyRows(
  args: ConvolveRowsArgs,
  window: Window,
  panel: usize,
  head: usize,
  length: i32,
  run: i32,
  runs: i32,
  k: i32,
  start: usize,
  column: i32,
  columns: i32,
  fresh: bool,
  lo: f32,
  hi: f32,
): void {
  const lda = <usize>args.stepX * window.pixelBytes;
  const ldc = (<usize>args.yColumn) << 2;
  const distance = <usize>args.dilation * window.rowBytes;
  const jump = runJump(k, distance);
  const residual = fresh ? residualDistance(args.residual, args.y) : NO_RESIDUAL;
  let c = window.y + ((<usize>column) << 2);
  let top = window.top + run * args.dilation;
  for (let i = 0; i < window.rows; i++) {
    const first = firstRun(args, top, runs);
    const last = max(first, endRun(args, top, runs));
    multiplyRuns(
      window.columns,
      last - first,
      last > first ? k : 0,
      jump,
      window.source + <usize>(top + first * args.dilation) * window.rowBytes + start,
      lda,
      panel + head + ((<usize>((run + first) * length)) << 5),
      panelBytes(args.k),
      fresh ? panel : c,
      fresh ? 0 : ldc,
      fresh ? panelBytes(args.k) : 32,
      residual,
      c,
      ldc,
      columns,
      lo,
      hi,
    );
    c += (<usize>args.yRow) << 2;
    top += args.stepY;
  }
}


@unmanaged
export class ConvolveRowsWeightGradArgs {
  /** [splits][groups][n][k]: a partial sum per split of the output rows; the gradient itself if there is one split. */
  dw: Output;
  x: Input;
  /** Channels-last and dense, all images of a group before those of the next. */
  dy: Input;
  images: i32;
  groups: i32;
  /** Elements of x from one group to the next. */
  xGroup: i32;
  /** Extent of dy. */
  rows: i32;
  columns: i32;
  height: i32;
  width: i32;
  /** Source channels of a group. */
  channels: i32;
  xImage: i32;
  xChannel: i32;
  xRow: i32;
  xColumn: i32;
  stepY: i32;
  stepX: i32;
  dilation: i32;
  /** Output channels of a group. */
  n: i32;
  /** Kernel: runs, taps per run, source row and column of the first tap for output 0, 0. */
  runs: i32;
  taps: i32;
  top: i32;
  left: i32;
  /** Output rows, counted over all images, per split; and at most per window. */
  splitRows: i32;
  tileRows: i32;
}

/**
 * dw[n, k] = sum over pixels of dy[pixel, n] * patch[pixel, k]. Tiles: groups x ceil(images x rows / splitRows), one at least, splits fastest.
 * Scratch per lane, floats: k x (n rounded up to 8) + WINDOW_HEAD + source rows of a window x (its columns x channels rounded up to
 * 4) + WINDOW_SLACK.
 */
export function convolveRowsWeightGrad(args: ConvolveRowsWeightGradArgs, first: i32, last: i32, lane: i32): void {
  const k = args.runs * args.taps * args.channels;
  const ldc = (<usize>((args.n + 7) & ~7)) << 2;
  const sums = scratch(lane);
  const window = changetype<Window>(sums + <usize>k * ldc);
  const rows = args.images * args.rows;
  // Without images there is one split, which writes zeros.
  const splits = max(1, (rows + args.splitRows - 1) / args.splitRows);
  for (let tile = first; tile < last; tile++) {
    const group = tile / splits;
    const split = tile % splits;
    zero(sums, ((<i32>ldc) >> 2) * k);
    const end = min(rows, (split + 1) * args.splitRows);
    let row = split * args.splitRows;
    while (row < end) {
      const i = row % args.rows;
      window.rows = min(args.tileRows, min(args.rows - i, end - row));
      addWindow(args, window, group, row / args.rows, i, sums, ldc);
      row += window.rows;
    }
    storeTransposed(args.dw + ((<usize>((split * args.groups + group) * args.n * k)) << 2), sums, ldc, k, args.n);
  }
}

/** Adds the products of the window's pixels, from output row i of a group's image on. */
function addWindow(
  args: ConvolveRowsWeightGradArgs,
  window: Window,
  group: i32,
  image: i32,
  i: i32,
  sums: usize,
  ldc: usize,
): void {
  const source = changetype<RowSource>(changetype<usize>(args) + offsetof<ConvolveRowsWeightGradArgs>('height'));
  const x = args.x + ((<usize>(group * args.xGroup + image * args.xImage)) << 2);
  window.top = i * args.stepY + args.top;
  window.columns = args.columns;
  openWindow(source, window, x, args.left, args.runs, args.taps, changetype<usize>(window) + WINDOW_HEAD * 4);
  const rows = (group * args.images + image) * args.rows + i;
  const dy = args.dy + ((<usize>(rows * args.columns * args.n)) << 2);
  const k = args.taps * args.channels;
  let top = window.top;
  for (let run = 0; run < args.runs; run++) {
    // Output rows first .. last - 1 have this kernel row inside the source.
    const first = top < 0 ? (args.stepY - 1 - top) / args.stepY : 0;
    const room = args.height - top + args.stepY - 1;
    const last = room < 0 ? 0 : min(window.rows, room / args.stepY);
    if (first < last) {
      const from = window.source + <usize>(top + first * args.stepY) * window.rowBytes;
      const gradient = dy + ((<usize>(first * args.columns * args.n)) << 2);
      addRun(args, last - first, <usize>args.stepY * window.rowBytes, from, gradient, sums, ldc);
    }
    sums += <usize>k * ldc;
    top += args.dilation;
  }
}

/** One kernel row: its taps x channels in strips, every strip with all output channels. `distance` bytes lie between source rows. */
function addRun(
  args: ConvolveRowsWeightGradArgs,
  rows: i32,
  distance: usize,
  from: usize,
  dy: usize,
  sums: usize,
  ldc: usize,
): void {
  const k = args.taps * args.channels;
  const pixel = (<usize>(args.stepX * args.channels)) << 2;
  const jump = distance - <usize>args.columns * pixel;
  addOuterProducts(k, args.n, rows, args.columns, from, pixel, jump, dy, (<usize>args.n) << 2, 0, sums, ldc);
}

/** to[n][k] = from[k][n], four columns at a time as long as there are four. */
function storeTransposed(to: usize, from: usize, stride: usize, k: i32, n: i32): void {
  const row = (<usize>k) << 2;
  const whole = n & ~3;
  transposeBlock(to, row, from, stride, k, whole);
  for (let column = whole; column < n; column++) {
    for (let i = 0; i < k; i++) {
      store<f32>(
        to + <usize>column * row + ((<usize>i) << 2),
        load<f32>(from + <usize>i * stride + ((<usize>column) << 2)),
      );
    }
  }
}
