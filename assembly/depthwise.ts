// Depthwise convolution: every channel is convolved with a kernel of its own, four channels at a time in the lanes of a vector. There is no
// product of matrices in it: what counts is that a loaded pixel meets all its taps while it is in a register (generated/depthwise-strips.ts),
// and that pixels are still in a near cache when the next kernel row wants them.
import { Input, Output, Table } from './record';
import { scratch } from './control';
import {
  depthwiseAnyStrip,
  depthwisePairs,
  depthwiseStrip,
  narrowestStrip,
  widestPair,
  widestStrip,
} from './generated/depthwise-strips';
import { panelColumns } from './gemm';
import { storeLanes } from './vector';


@unmanaged
export class PackDepthwiseArgs {
  /** [channels / 8][words][8], channels rounded up with zeros. */
  panels: Output;
  w: Input;
  /** One float per channel; address 0: zeros, and ones for the scale. */
  bias: Input;
  scale: Input;
  /** Per word the element offset of a tap in w, or BIAS_WORD. */
  taps: Table;
  words: i32;
  channels: i32;
  /** Elements from one channel's kernel to the next. */
  strideChannel: i32;
}

/** Stands for the bias in a list of taps. */
export const BIAS_WORD: i32 = -1;
/** Panels of eight channels per tile of `packDepthwise`. */
export const PACK_PANELS: i32 = 32;

/** Tiles: ceil(channels / 8 / PACK_PANELS). */
export function packDepthwise(args: PackDepthwiseArgs, first: i32, last: i32, lane: i32): void {
  const end = min((args.channels + 7) >> 3, last * PACK_PANELS);
  const size = panelBytes(args.words);
  for (let panel = first * PACK_PANELS; panel < end; panel++) {
    const to = args.panels + <usize>panel * size;
    packVector(args, to, 8 * panel, min(4, args.channels - 8 * panel));
    packVector(args, to + 16, 8 * panel + 4, max(0, min(4, args.channels - 8 * panel - 4)));
  }
}

/** Bytes of the words of eight channels. */
// @ts-ignore: decorator
@inline
function panelBytes(words: i32): usize {
  return (<usize>words) << 5;
}

/** The words of `lanes` channels from `channel` on. */
function packVector(args: PackDepthwiseArgs, to: usize, channel: i32, lanes: i32): void {
  const next = (<usize>args.strideChannel) << 2;
  const w = args.w + <usize>channel * next;
  const scale = args.scale && lanes ? gather(args.scale + ((<usize>channel) << 2), 4, lanes) : f32x4.splat(1);
  for (let word = 0; word < args.words; word++) {
    const tap = load<i32>(args.taps + ((<usize>word) << 2));
    let value = i32x4.splat(0);
    if (lanes) {
      if (tap != BIAS_WORD) value = f32x4.mul(scale, gather(w + ((<usize>tap) << 2), next, lanes));
      else if (args.bias) value = gather(args.bias + ((<usize>channel) << 2), 4, lanes);
    }
    v128.store(to + ((<usize>word) << 5), value);
  }
}

/** `count` (1 to 4) floats, `stride` bytes apart, and zeros. */
// @ts-ignore: decorator
@inline
function gather(from: usize, stride: usize, count: i32): v128 {
  let value = v128.load32_zero(from);
  if (count > 1) value = v128.load32_lane(from + stride, value, 1);
  if (count > 2) value = v128.load32_lane(from + 2 * stride, value, 2);
  if (count > 3) value = v128.load32_lane(from + 3 * stride, value, 3);
  return value;
}


@unmanaged
export class DepthwiseArgs {
  y: Output;
  /** Channels are neighbours in memory. */
  x: Input;
  panels: Input;
  /** Added to the sums, strides as y; address 0 if there is none. */
  residual: Input;
  /** DEPTHWISE_PHASE_WORDS words per phase, as in class DepthwisePhase. */
  phases: Table;
  phaseCount: i32;
  images: i32;
  height: i32;
  width: i32;
  channels: i32;
  /** Elements between neighbouring images, rows and columns of x. */
  xImage: i32;
  xRow: i32;
  xColumn: i32;
  /** Distance between windows on x. */
  stepY: i32;
  stepX: i32;
  /** Elements between neighbouring images, rows and columns of a phase in y. */
  yImage: i32;
  yRow: i32;
  yColumn: i32;
  /** Words per eight channels in the panels, all phases together. */
  words: i32;
  tileRows: i32;
  /** 1: x and y are larger than the caches, so their rows are fetched in order before they are needed. */
  stream: i32;
  lo: f32;
  hi: f32;
}

export const DEPTHWISE_PHASE_WORDS: i32 = 10;

/** Output pixels that one set of taps computes. */
@unmanaged
class DepthwisePhase {
  rows: i32;
  columns: i32;
  /** Elements of y in front of the first. */
  offset: i32;
  /** Word of the bias in the panels; the taps follow. */
  firstWord: i32;
  kernelRows: i32;
  taps: i32;
  /** Source row and column of the first tap for output 0, 0, and the distance between taps. */
  dy: i32;
  dx: i32;
  dilationY: i32;
  dilationX: i32;
}

/** Neighbouring rows of outputs that use the same kernel rows; in scratch. */
@unmanaged
class DepthwiseRows {
  lines: i32;
  /** Source pixel 0 of the first kernel row inside the source, and bytes between kernel rows. */
  source: usize;
  rowBytes: usize;
  kernelRows: i32;
  panels: usize;
  /** Bytes from the bias to the first kernel row inside. */
  skip: usize;
  y: usize;
  residual: usize;
  /** Bytes between the rows, on x and on y. */
  xLine: usize;
  yLine: usize;
}

/** Bytes of scratch per lane: the rows, and a strip of four channels for y. */
export const DEPTHWISE_SCRATCH: i32 = 256;
const STRIP_OFFSET: usize = 64;
/** Widest strip of any kernel. */
const WIDEST: i32 = 8;

/** Tiles: for every phase images x row blocks. Scratch per lane: DEPTHWISE_SCRATCH bytes. */
export function depthwise(args: DepthwiseArgs, first: i32, last: i32, lane: i32): void {
  let start = 0;
  for (let p = 0; p < args.phaseCount; p++) {
    const phase = changetype<DepthwisePhase>(args.phases + <usize>(p * DEPTHWISE_PHASE_WORDS) * 4);
    const blocks = (phase.rows + args.tileRows - 1) / args.tileRows;
    const end = min(last, start + args.images * blocks);
    for (let tile = max(first, start); tile < end; tile++) {
      const block = tile - start;
      const at = changetype<DepthwiseRows>(scratch(lane));
      convolveTile(args, phase, block / blocks, (block % blocks) * args.tileRows, at);
    }
    start += args.images * blocks;
  }
}

/** Rows from i on of one image and phase, strip by strip from top to bottom: the next row finds its kernel rows in the first-level cache. */
function convolveTile(args: DepthwiseArgs, phase: DepthwisePhase, image: i32, i: i32, at: DepthwiseRows): void {
  at.rowBytes = (<usize>(phase.dilationY * args.xRow)) << 2;
  at.panels = args.panels + ((<usize>phase.firstWord) << 5);
  at.xLine = (<usize>(args.stepY * args.xRow)) << 2;
  at.yLine = (<usize>args.yRow) << 2;
  const x = args.x + ((<usize>(image * args.xImage)) << 2);
  const y = (<usize>(phase.offset + image * args.yImage)) << 2;
  const rows = min(phase.rows, i + args.tileRows);
  if (args.stream) stream(args, phase, x, y, i, rows);
  const special = phase.dilationX == 1 ? stripWidth(phase.taps, args.stepX) : 0;
  // Strips as wide as the kernel allows and as even as they can be: 9 is 3 x 3, not 2 x 4 + 1.
  const widest = special ? special : WIDEST;
  const strips = (phase.columns + widest - 1) / widest;
  const low = phase.columns / strips;
  let wider = phase.columns - strips * low;
  let j = 0;
  for (let strip = 0; strip < strips; strip++) {
    const width = wider > 0 ? low + 1 : low;
    wider--;
    let r = i;
    while (r < rows) {
      placeRows(args, phase, at, x, y, r, rows);
      convolveStrip(args, phase, at, j, width);
      r += at.lines;
    }
    j += width;
  }
}

/**
 * Reads a word of every cache line that the rows will read or write, in order: strips jump from row to row and pixel to pixel, and memory
 * answers only those quickly who ask for what comes next. Twice as fast where tensors do not fit the caches, a few per cent slower where they do.
 */
function stream(args: DepthwiseArgs, phase: DepthwisePhase, x: usize, y: usize, i: i32, end: i32): void {
  const reach = (phase.kernelRows - 1) * phase.dilationY + phase.dy;
  // The tile above has read the rows in front of these.
  const top = max(0, i * args.stepY + (i > 0 ? reach + 1 - args.stepY : phase.dy));
  const bottom = min(args.height, (end - 1) * args.stepY + reach + 1);
  const width = (args.width - 1) * args.xColumn + args.channels;
  for (let row = top; row < bottom; row++) touch(x + ((<usize>(row * args.xRow)) << 2), width);
  const columns = (phase.columns - 1) * args.yColumn + args.channels;
  for (; i < end; i++) touch(args.y + y + ((<usize>(i * args.yRow)) << 2), columns);
}

/** Reads a word of each cache line of `count` floats. */
export function touch(from: usize, count: i32): void {
  const end = from + ((<usize>count) << 2);
  for (; from < end; from += 64) load<i32>(from);
}

/** Row i of the outputs: which kernel rows lie inside the source, and where. If all do, rows up to `end` that have all inside come along. */
function placeRows(
  args: DepthwiseArgs,
  phase: DepthwisePhase,
  at: DepthwiseRows,
  x: usize,
  y: usize,
  i: i32,
  end: i32,
): void {
  const top = i * args.stepY + phase.dy;
  const first = top < 0 ? min(phase.kernelRows, (phase.dilationY - 1 - top) / phase.dilationY) : 0;
  const room = args.height - top + phase.dilationY - 1;
  const last = max(first, room < 0 ? 0 : min(phase.kernelRows, room / phase.dilationY));
  const offset = y + ((<usize>(i * args.yRow)) << 2);
  at.source = x + ((<usize>((top + first * phase.dilationY) * args.xRow)) << 2);
  at.kernelRows = last - first;
  at.skip = (<usize>(1 + first * phase.taps)) << 5;
  at.y = args.y + offset;
  at.residual = args.residual ? args.residual + offset : 0;
  const below = args.height - 1 - (top + (phase.kernelRows - 1) * phase.dilationY);
  at.lines = first == 0 && last == phase.kernelRows && below >= 0 ? min(end - i, below / args.stepY + 1) : 1;
}

/** Outputs j .. j + width - 1 of these rows. The last channels, fewer than four, go through scratch: whole vectors would overwrite the next pixel. */
function convolveStrip(args: DepthwiseArgs, phase: DepthwisePhase, at: DepthwiseRows, j: i32, width: i32): void {
  const next = (<usize>args.yColumn) << 2;
  const whole = args.channels >> 2;
  const start = <usize>j * next;
  const residual = at.residual ? at.residual + start : 0;
  if (whole) computeStrip(args, phase, at, j, width, 0, whole, at.lines, at.source, at.y + start, next, residual);
  if (!(args.channels & 3)) return;
  let source = at.source;
  let skipped = start + ((<usize>whole) << 4);
  for (let line = 0; line < at.lines; line++) {
    lastChannels(args, phase, at, j, width, source, at.y + skipped, at.residual ? at.residual + skipped : 0);
    source += at.xLine;
    skipped += at.yLine;
  }
}

/** The last one to three channels of one row's outputs. */
function lastChannels(
  args: DepthwiseArgs,
  phase: DepthwisePhase,
  at: DepthwiseRows,
  j: i32,
  width: i32,
  source: usize,
  y: usize,
  residual: usize,
): void {
  const next = (<usize>args.yColumn) << 2;
  const strip = changetype<usize>(at) + STRIP_OFFSET;
  if (residual) {
    for (let column = 0; column < width; column++) {
      v128.store(strip + ((<usize>column) << 4), v128.load(residual + <usize>column * next));
    }
  }
  computeStrip(args, phase, at, j, width, args.channels >> 2, 1, 1, source, strip, 16, residual ? strip : 0);
  for (let column = 0; column < width; column++) {
    storeLanes(y + <usize>column * next, v128.load(strip + ((<usize>column) << 4)), args.channels & 3);
  }
}

/** Outputs of the widest pair of vectors for these taps; 0 if there is none or single vectors do better: build/depthwise-strips.mjs says when. */
// @ts-ignore: decorator
@inline
function pairWidth(taps: i32, step: i32): i32 {
  if (ASC_FEATURE_RELAXED_SIMD) return panelColumns() > 8 || step > 1 ? widestPair(taps, step) : 0;
  else return 0;
}

/** Outputs of the widest strip that these taps use; 0 if there is none. */
// @ts-ignore: decorator
@inline
function stripWidth(taps: i32, step: i32): i32 {
  const pair = pairWidth(taps, step);
  return pair ? pair : widestStrip(taps, step);
}

/** `vectors` x 4 channels from vector `vector` on, by the strips for these taps if there are any. */
function computeStrip(
  args: DepthwiseArgs,
  phase: DepthwisePhase,
  at: DepthwiseRows,
  j: i32,
  width: i32,
  vector: i32,
  vectors: i32,
  lines: i32,
  source: usize,
  y: usize,
  next: usize,
  residual: usize,
): void {
  const taps = phase.taps;
  const step = args.stepX;
  const column = j * step + phase.dx;
  const pixel = (<usize>args.xColumn) << 2;
  const size = panelBytes(args.words);
  let x = source + <usize>column * pixel + ((<usize>vector) << 4);
  let w = at.panels + <usize>(vector >> 1) * size + ((<usize>(vector & 1)) << 4);
  const right = args.width - column;
  const inside = -column < taps && right > (width - 1) * step;
  if (phase.dilationX > 1 || !inside || width > stripWidth(taps, step) || width < narrowestStrip(taps, step)) {
    for (; lines > 0; lines--) {
      depthwiseAnyStrip(
        taps,
        step,
        width,
        phase.dilationX,
        vectors,
        at.kernelRows,
        x,
        <usize>step * pixel,
        <usize>phase.dilationX * pixel,
        at.rowBytes,
        w,
        at.skip,
        size,
        y,
        next,
        residual,
        column,
        args.width,
        args.lo,
        args.hi,
      );
      x += at.xLine;
      y += at.yLine;
      if (residual) residual += at.yLine;
    }
    return;
  }
  const pairs = pairWidth(taps, step) ? vectors >> 1 : 0;
  if (ASC_FEATURE_RELAXED_SIMD && pairs) {
    depthwisePairs(
      taps,
      step,
      width,
      lines,
      at.xLine,
      at.yLine,
      pairs,
      at.kernelRows,
      x,
      pixel,
      at.rowBytes,
      w,
      at.skip,
      size,
      y,
      next,
      residual,
      -column,
      right,
      args.lo,
      args.hi,
    );
    const done = (<usize>pairs) << 5;
    x += done;
    y += done;
    if (residual) residual += done;
    w += <usize>pairs * size;
    vectors -= 2 * pairs;
  }
  if (vectors) {
    depthwiseStrip(
      taps,
      step,
      width,
      lines,
      at.xLine,
      at.yLine,
      vectors,
      at.kernelRows,
      x,
      pixel,
      at.rowBytes,
      w,
      at.skip,
      size,
      y,
      next,
      residual,
      -column,
      right,
      args.lo,
      args.hi,
    );
  }
}
