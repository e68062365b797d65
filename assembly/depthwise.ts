// Depthwise convolution: every channel is convolved with a kernel of its own, four channels at a time in the lanes of a vector. There is no
// product of matrices in it: what counts is that a loaded pixel meets all its taps while it is in a register (generated/depthwise-strips.ts),
// and that pixels are still in a near cache when the next kernel row wants them.
import { Input, Output, Table } from './record';
import { scratch } from './control';
import { depthwiseAnyStrip, depthwiseStrip, narrowestStrip, widestStrip } from './generated/depthwise-strips';
import { storeLanes } from './vector';


@unmanaged
export class PackDepthwiseArgs {
  /** [channels / 4][words][4], channels rounded up with zeros. */
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
/** Channel vectors per tile of `packDepthwise`. */
export const PACK_VECTORS: i32 = 64;

/** Tiles: ceil(channels / 4 / PACK_VECTORS). */
export function packDepthwise(args: PackDepthwiseArgs, first: i32, last: i32, lane: i32): void {
  const vectors = (args.channels + 3) >> 2;
  const end = min(vectors, last * PACK_VECTORS);
  const size = (<usize>args.words) << 4;
  for (let vector = first * PACK_VECTORS; vector < end; vector++) {
    packVector(args, args.panels + <usize>vector * size, 4 * vector, min(4, args.channels - 4 * vector));
  }
}

/** The words of `lanes` channels from `channel` on. */
function packVector(args: PackDepthwiseArgs, to: usize, channel: i32, lanes: i32): void {
  const next = (<usize>args.strideChannel) << 2;
  const w = args.w + <usize>channel * next;
  const scale = args.scale ? gather(args.scale + ((<usize>channel) << 2), 4, lanes) : f32x4.splat(1);
  for (let word = 0; word < args.words; word++) {
    const tap = load<i32>(args.taps + ((<usize>word) << 2));
    let value = i32x4.splat(0);
    if (tap != BIAS_WORD) value = f32x4.mul(scale, gather(w + ((<usize>tap) << 2), next, lanes));
    else if (args.bias) value = gather(args.bias + ((<usize>channel) << 2), 4, lanes);
    v128.store(to + ((<usize>word) << 4), value);
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
  /** Words per channel vector in the panels, all phases together. */
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

/** A row of outputs; in scratch. */
@unmanaged
class DepthwiseRow {
  /** Source pixel 0 of the first kernel row inside the source, and bytes between kernel rows. */
  source: usize;
  rowBytes: usize;
  kernelRows: i32;
  panels: usize;
  /** Bytes from the bias to the first kernel row inside. */
  skip: usize;
  y: usize;
  residual: usize;
}

/** Bytes of scratch per lane: the row, and a strip of four channels for y. */
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
      const row = changetype<DepthwiseRow>(scratch(lane));
      convolveTile(args, phase, block / blocks, (block % blocks) * args.tileRows, row);
    }
    start += args.images * blocks;
  }
}

/** Rows from i on of one image and phase, strip by strip from top to bottom: the next row finds its kernel rows in the first-level cache. */
function convolveTile(args: DepthwiseArgs, phase: DepthwisePhase, image: i32, i: i32, row: DepthwiseRow): void {
  row.rowBytes = (<usize>(phase.dilationY * args.xRow)) << 2;
  row.panels = args.panels + ((<usize>phase.firstWord) << 4);
  const x = args.x + ((<usize>(image * args.xImage)) << 2);
  const y = (<usize>(phase.offset + image * args.yImage)) << 2;
  const rows = min(phase.rows, i + args.tileRows);
  if (args.stream) stream(args, phase, x, y, i, rows);
  const special = phase.dilationX == 1 ? widestStrip(phase.taps, args.stepX) : 0;
  // Strips as wide as the kernel allows and as even as they can be: 28 is 4 x 7, not 3 x 8 + 4.
  const widest = special ? special : WIDEST;
  const strips = (phase.columns + widest - 1) / widest;
  const low = phase.columns / strips;
  let wider = phase.columns - strips * low;
  let j = 0;
  for (let strip = 0; strip < strips; strip++) {
    const width = wider > 0 ? low + 1 : low;
    wider--;
    for (let r = i; r < rows; r++) {
      placeRow(args, phase, row, x, y, r);
      convolveStrip(args, phase, row, j, width);
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

/** Row i of the outputs: which kernel rows lie inside the source, and where. */
function placeRow(args: DepthwiseArgs, phase: DepthwisePhase, row: DepthwiseRow, x: usize, y: usize, i: i32): void {
  const top = i * args.stepY + phase.dy;
  const first = top < 0 ? min(phase.kernelRows, (phase.dilationY - 1 - top) / phase.dilationY) : 0;
  const room = args.height - top + phase.dilationY - 1;
  const last = max(first, room < 0 ? 0 : min(phase.kernelRows, room / phase.dilationY));
  const offset = y + ((<usize>(i * args.yRow)) << 2);
  row.source = x + ((<usize>((top + first * phase.dilationY) * args.xRow)) << 2);
  row.kernelRows = last - first;
  row.skip = (<usize>(1 + first * phase.taps)) << 4;
  row.y = args.y + offset;
  row.residual = args.residual ? args.residual + offset : 0;
}

/** Outputs j .. j + width - 1. The last channels, fewer than four, go through scratch: whole vectors would overwrite the next pixel. */
function convolveStrip(args: DepthwiseArgs, phase: DepthwisePhase, row: DepthwiseRow, j: i32, width: i32): void {
  const next = (<usize>args.yColumn) << 2;
  const at = <usize>j * next;
  const whole = args.channels >> 2;
  const rest = args.channels & 3;
  const residual = row.residual ? row.residual + at : 0;
  if (whole) computeStrip(args, phase, row, j, width, 0, whole, row.y + at, next, residual);
  if (rest) {
    const skipped = (<usize>whole) << 4;
    const strip = changetype<usize>(row) + STRIP_OFFSET;
    if (residual) {
      for (let column = 0; column < width; column++) {
        v128.store(strip + ((<usize>column) << 4), v128.load(residual + skipped + <usize>column * next));
      }
    }
    computeStrip(args, phase, row, j, width, whole, 1, strip, 16, residual ? strip : 0);
    let to = row.y + at + skipped;
    for (let column = 0; column < width; column++) {
      storeLanes(to, v128.load(strip + ((<usize>column) << 4)), rest);
      to += next;
    }
  }
}

/** `vectors` x 4 channels from vector `vector` on, by the strip for these taps if there is one. */
function computeStrip(
  args: DepthwiseArgs,
  phase: DepthwisePhase,
  row: DepthwiseRow,
  j: i32,
  width: i32,
  vector: i32,
  vectors: i32,
  y: usize,
  next: usize,
  residual: usize,
): void {
  const column = j * args.stepX + phase.dx;
  const pixel = (<usize>args.xColumn) << 2;
  const x = row.source + <usize>column * pixel + ((<usize>vector) << 4);
  const size = (<usize>args.words) << 4;
  const w = row.panels + <usize>vector * size;
  const taps = phase.taps;
  const right = args.width - column;
  const inside = -column < taps && right > (width - 1) * args.stepX;
  if (
    phase.dilationX == 1 &&
    inside &&
    width <= widestStrip(taps, args.stepX) &&
    width >= narrowestStrip(taps, args.stepX)
  ) {
    depthwiseStrip(
      taps,
      args.stepX,
      width,
      vectors,
      row.kernelRows,
      x,
      pixel,
      row.rowBytes,
      w,
      row.skip,
      size,
      y,
      next,
      residual,
      -column,
      right,
      args.lo,
      args.hi,
    );
  } else {
    depthwiseAnyStrip(
      taps,
      args.stepX,
      width,
      phase.dilationX,
      vectors,
      row.kernelRows,
      x,
      <usize>args.stepX * pixel,
      <usize>phase.dilationX * pixel,
      row.rowBytes,
      w,
      row.skip,
      size,
      y,
      next,
      residual,
      column,
      args.width,
      args.lo,
      args.hi,
    );
  }
}
