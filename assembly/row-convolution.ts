// Convolution without patches: where a patch is a few equally long runs of floats (one per row of the kernel), and neighbouring
// outputs read neighbouring runs, the micro-kernels walk the source itself.
//
//   output row i, columns j, j + 1, ...:    A row = output column, one run of k per kernel row
//
//      source row i + dy     [ . . . a a a a a . . . . ]      column j + 1 begins stepX * channels floats further
//      source row i + dy + 1 [ . . . a a a a a . . . . ]      the next run begins a source row further
//
// Kernel rows outside the source are skipped, for they would add zeros. If runs leave a row sideways, the tile's source rows are
// copied once to scratch with zeros around them. (convolution.ts gathers patches instead: kernels with gaps, groups, narrow outputs.)
import { Input, Output, Table } from './record';
import { scratch } from './control';
import { copy, zero } from './convolution';
import { multiplyRuns } from './gemm';
import { runJump } from './generated/micro-kernels';
import { panelBytes } from './pack';


@unmanaged
export class ConvolveRowsArgs {
  y: Output;
  /** Channels-last; the channels of neighbouring pixels follow one another. */
  x: Input;
  /** Weights as `pack` writes them; k runs over the taps of all phases, phase by phase. */
  panels: Input;
  /** ROW_PHASE_WORDS words per phase: rows, columns, offset in y (elements), first k, runs, taps per run, dy, dx of the first tap. */
  phases: Table;
  phaseCount: i32;
  images: i32;
  height: i32;
  width: i32;
  channels: i32;
  /** Elements between neighbouring images and rows of x. */
  xImage: i32;
  xRow: i32;
  stepY: i32;
  stepX: i32;
  /** Source rows from one run of a patch to the next. */
  dilation: i32;
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
  lo: f32;
  hi: f32;
}

export const ROW_PHASE_WORDS: i32 = 8;
/** Floats of scratch in front of the window. */
export const WINDOW_HEAD: i32 = 16;

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

/** What a tile computes, and from where; lies in scratch. */
@unmanaged
class Window {
  /** Address of what the first column reads in source row 0, and bytes between source rows. Rows outside are never read. */
  source: usize;
  rowBytes: usize;
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
 * Tiles: for every phase images x row blocks x column blocks x ceil(n / nc), channels fastest.
 * Scratch per lane, floats: WINDOW_HEAD + source rows of a tile x (its columns x channels rounded up to 4) + 4.
 */
export function convolveRows(args: ConvolveRowsArgs, first: i32, last: i32, lane: i32): void {
  const channelBlocks = (args.n + args.nc - 1) / args.nc;
  let start = 0;
  for (let p = 0; p < args.phaseCount; p++) {
    const phase = changetype<RowPhase>(args.phases + <usize>(p * ROW_PHASE_WORDS) * 4);
    const rowBlocks = (phase.rows + args.tileRows - 1) / args.tileRows;
    const columnBlocks = (phase.columns + args.tileColumns - 1) / args.tileColumns;
    const end = min(last, start + args.images * rowBlocks * columnBlocks * channelBlocks);
    for (let tile = max(first, start); tile < end; tile++) {
      const block = (tile - start) / channelBlocks;
      const row = block / columnBlocks;
      convolveWindow(
        args,
        phase,
        row / rowBlocks,
        (row % rowBlocks) * args.tileRows,
        (block % columnBlocks) * args.tileColumns,
        ((tile - start) % channelBlocks) * args.nc,
        scratch(lane),
      );
    }
    start += args.images * rowBlocks * columnBlocks * channelBlocks;
  }
}

/** Outputs from row i, column j and channel n on, of one image and phase. */
function convolveWindow(args: ConvolveRowsArgs, phase: RowPhase, image: i32, i: i32, j: i32, n: i32, to: usize): void {
  const window = changetype<Window>(to);
  window.top = i * args.stepY + phase.dy;
  window.rows = min(args.tileRows, phase.rows - i);
  window.columns = min(args.tileColumns, phase.columns - j);
  window.channels = min(args.nc, args.n - n);
  window.y = args.y + ((<usize>(phase.offset + image * args.yImage + i * args.yRow + j * args.yColumn + n)) << 2);
  const x = args.x + ((<usize>(image * args.xImage)) << 2);
  openWindow(args, phase, window, x, j * args.stepX + phase.dx, to + WINDOW_HEAD * 4);
  multiplyWindow(args, phase, window, args.panels + <usize>(n >> 3) * panelBytes(args.k));
}

/** Finds the source rows of a window that begins at column x, or copies them with zeros at both ends. */
function openWindow(args: ConvolveRowsArgs, phase: RowPhase, window: Window, image: usize, x: i32, to: usize): void {
  const span = (window.columns - 1) * args.stepX + phase.taps;
  window.rowBytes = (<usize>args.xRow) << 2;
  window.source = image + ((<usize>(x * args.channels)) << 2);
  if (x >= 0 && x + span <= args.width) return;
  const first = max(0, window.top);
  const reach = (window.rows - 1) * args.stepY + (phase.runs - 1) * args.dilation;
  const rowBytes = (<usize>((span * args.channels + 3) & ~3)) << 2;
  const last = min(args.height, window.top + reach + 1);
  const left = min(span, max(0, -x));
  const inside = max(0, min(args.width, x + span) - max(x, 0));
  let from = image + ((<usize>(first * args.xRow + max(x, 0) * args.channels)) << 2);
  let target = to;
  for (let row = first; row < last; row++) {
    zero(target, left * args.channels);
    const rest = (left + inside) * args.channels;
    copy(target + ((<usize>(left * args.channels)) << 2), from, inside * args.channels);
    zero(target + ((<usize>rest) << 2), span * args.channels - rest);
    from += window.rowBytes;
    target += rowBytes;
  }
  window.source = to - <usize>first * rowBytes;
  window.rowBytes = rowBytes;
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
  for (let column = 0; column < window.channels; column += 8) {
    multiplyRows(
      args,
      window,
      panels,
      panelBytes(phase.firstK + start),
      length,
      run,
      runs,
      k,
      ((<usize>start) << 2),
      column,
      fresh,
      whole ? args.lo : -Infinity,
      whole ? args.hi : Infinity,
    );
    panels += panelBytes(args.k);
  }
}

/** One panel, output row by output row. */
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
  fresh: bool,
  lo: f32,
  hi: f32,
): void {
  const lda = (<usize>(args.stepX * args.channels)) << 2;
  const ldc = (<usize>args.yColumn) << 2;
  const distance = <usize>args.dilation * window.rowBytes;
  const jump = runJump(k, distance);
  const columns = min(8, window.channels - column);
  let c = window.y + ((<usize>column) << 2);
  let top = window.top + run * args.dilation;
  for (let i = 0; i < window.rows; i++) {
    // Runs first .. last - 1 lie inside the source.
    const first = top < 0 ? min(runs, (args.dilation - 1 - top) / args.dilation) : 0;
    const room = args.height - top + args.dilation - 1;
    const last = max(first, room < 0 ? 0 : min(runs, room / args.dilation));
    multiplyRuns(
      window.columns,
      last - first,
      last > first ? k : 0,
      jump,
      window.source + <usize>(top + first * args.dilation) * window.rowBytes + start,
      lda,
      panel + head + ((<usize>((run + first) * length)) << 5),
      fresh ? panel : c,
      fresh ? 0 : ldc,
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
