// Weight gradient of a depthwise convolution: dw[c, r, s] = sum over pixels of dy[c, i, j] x[c, i stepY + r dilationY - top, ...].
//
// A split of the output rows has its own sums, [channels / 4][kernel rows][taps][4]. It takes its rows in blocks that fit the first-level cache:
// four channels at a time walk over a block, sixteen of them share its cache lines. generated/depthwise-sums.ts holds the innermost loops.
import { Input, Output } from './record';
import { touch } from './depthwise';
import { APART_ROWS, APART_TAPS, adjacentRows, adjacentSums, apartSums } from './generated/depthwise-sums';


@unmanaged
export class DepthwiseWeightGradArgs {
  /** [splits][channels / 4][kernelRows][taps][4]: `sumDepthwise` adds them up. */
  partials: Output;
  x: Input;
  /** Channels-last and dense. */
  dy: Input;
  images: i32;
  /** Extent of dy. */
  rows: i32;
  columns: i32;
  height: i32;
  width: i32;
  channels: i32;
  xImage: i32;
  xRow: i32;
  xColumn: i32;
  stepY: i32;
  stepX: i32;
  dilationY: i32;
  dilationX: i32;
  kernelRows: i32;
  taps: i32;
  /** Zero rows above x and zero columns in front of it. */
  top: i32;
  left: i32;
  /** Output rows, counted over all images, per split; and per block. */
  splitRows: i32;
  blockRows: i32;
  /** 1: fetch x and dy in order before they are needed, as in `depthwise`. */
  stream: i32;
}

/** Tiles: ceil(images x rows / splitRows). */
export function depthwiseWeightGrad(args: DepthwiseWeightGradArgs, first: i32, last: i32, lane: i32): void {
  const vectors = (args.channels + 3) >> 2;
  const bytes = (<usize>(vectors * args.kernelRows * args.taps)) << 4;
  for (let split = first; split < last; split++) {
    const sums = args.partials + <usize>split * bytes;
    memory.fill(sums, 0, bytes);
    const end = min(args.images * args.rows, (split + 1) * args.splitRows);
    let row = split * args.splitRows;
    while (row < end) {
      const i = row % args.rows;
      const count = min(args.blockRows, min(args.rows - i, end - row));
      addBlock(args, row / args.rows, i, i + count, sums);
      row += count;
    }
  }
}

/** Adds output rows i .. end - 1 of an image: neighbours that use the same kernel rows together. */
function addBlock(args: DepthwiseWeightGradArgs, image: i32, i: i32, end: i32, sums: usize): void {
  const x = args.x + ((<usize>(image * args.xImage)) << 2);
  const dy = args.dy + ((<usize>(image * args.rows * args.columns * args.channels)) << 2);
  if (args.stream) stream(args, x, dy, i, end);
  while (i < end) {
    const first = firstInside(args, i);
    const last = lastInside(args, i);
    let next = i + 1;
    while (next < end && firstInside(args, next) == first && lastInside(args, next) == last) next++;
    if (first < last) addRows(args, x, dy, i, next - i, first, last, sums);
    i = next;
  }
}

/** Kernel rows firstInside .. lastInside - 1 of output row i lie inside x. */
function firstInside(args: DepthwiseWeightGradArgs, i: i32): i32 {
  const top = i * args.stepY - args.top;
  return top < 0 ? min(args.kernelRows, (args.dilationY - 1 - top) / args.dilationY) : 0;
}

function lastInside(args: DepthwiseWeightGradArgs, i: i32): i32 {
  const room = args.height - i * args.stepY + args.top + args.dilationY - 1;
  return room < 0 ? 0 : min(args.kernelRows, room / args.dilationY);
}

/** Adds `lines` output rows from i on to the sums of kernel rows first .. last - 1. */
function addRows(
  args: DepthwiseWeightGradArgs,
  x: usize,
  dy: usize,
  i: i32,
  lines: i32,
  first: i32,
  last: i32,
  sums: usize,
): void {
  const vectors = (args.channels + 3) >> 2;
  const sumRow = (<usize>args.taps) << 4;
  const adjacent = args.stepX == 1 && args.dilationX == 1 ? adjacentRows(args.taps) : 0;
  const most = adjacent ? adjacent : APART_ROWS;
  const kernelRow = (<usize>(args.dilationY * args.xRow)) << 2;
  for (let vector = 0; vector < vectors; vector++) {
    for (let r = first; r < last; r += most) {
      const rows = min(most, last - r);
      const from = x + ((<usize>((i * args.stepY - args.top + r * args.dilationY) * args.xRow + 4 * vector)) << 2);
      const gradient = dy + ((<usize>(i * args.columns * args.channels + 4 * vector)) << 2);
      const to = sums + <usize>(vector * args.kernelRows + r) * sumRow;
      if (adjacent) addAdjacent(args, rows, lines, from, kernelRow, gradient, to, sumRow);
      else addApart(args, rows, lines, from, kernelRow, gradient, to, sumRow);
    }
  }
}

function addAdjacent(
  args: DepthwiseWeightGradArgs,
  rows: i32,
  lines: i32,
  x: usize,
  kernelRow: usize,
  dy: usize,
  sums: usize,
  sumRow: usize,
): void {
  adjacentSums(
    args.taps,
    rows,
    lines,
    args.width,
    args.columns,
    args.left,
    x,
    (<usize>(args.stepY * args.xRow)) << 2,
    kernelRow,
    (<usize>args.xColumn) << 2,
    dy,
    (<usize>(args.columns * args.channels)) << 2,
    (<usize>args.channels) << 2,
    sums,
    sumRow,
  );
}

/** Taps in groups. */
function addApart(
  args: DepthwiseWeightGradArgs,
  rows: i32,
  lines: i32,
  x: usize,
  kernelRow: usize,
  dy: usize,
  sums: usize,
  sumRow: usize,
): void {
  const pixel = (<usize>args.xColumn) << 2;
  for (let tap = 0; tap < args.taps; tap += APART_TAPS) {
    const column = tap * args.dilationX - args.left;
    apartSums(
      min(APART_TAPS, args.taps - tap),
      rows,
      lines,
      args.width,
      args.columns,
      column,
      args.stepX,
      args.dilationX,
      x + <usize>column * pixel,
      (<usize>(args.stepY * args.xRow)) << 2,
      kernelRow,
      <usize>args.stepX * pixel,
      <usize>args.dilationX * pixel,
      dy,
      (<usize>(args.columns * args.channels)) << 2,
      (<usize>args.channels) << 2,
      sums + ((<usize>tap) << 4),
      sumRow,
    );
  }
}

/** Reads what the rows will read, in order. */
function stream(args: DepthwiseWeightGradArgs, x: usize, dy: usize, i: i32, end: i32): void {
  const reach = (args.kernelRows - 1) * args.dilationY - args.top;
  const bottom = min(args.height, (end - 1) * args.stepY + reach + 1);
  const width = (args.width - 1) * args.xColumn + args.channels;
  for (let row = max(0, i * args.stepY + (i > 0 ? reach + 1 - args.stepY : -args.top)); row < bottom; row++) {
    touch(x + ((<usize>(row * args.xRow)) << 2), width);
  }
  const line = args.columns * args.channels;
  touch(dy + ((<usize>(i * line)) << 2), (end - i) * line);
}


@unmanaged
export class SumDepthwiseArgs {
  /** [channels][taps] */
  dw: Output;
  /** [splits][channels / 4][taps][4] */
  partials: Input;
  splits: i32;
  channels: i32;
  /** Of all kernel rows. */
  taps: i32;
}

/** Channel vectors per tile of `sumDepthwise`. */
export const SUM_VECTORS: i32 = 16;

/** Adds the sums of all splits up and turns them around. Tiles: ceil(channels / 4 / SUM_VECTORS). */
export function sumDepthwise(args: SumDepthwiseArgs, first: i32, last: i32, lane: i32): void {
  const vectors = (args.channels + 3) >> 2;
  const bytes = (<usize>(vectors * args.taps)) << 4;
  const end = min(vectors, last * SUM_VECTORS);
  for (let vector = first * SUM_VECTORS; vector < end; vector++) {
    const lanes = min(4, args.channels - 4 * vector);
    for (let tap = 0; tap < args.taps; tap++) {
      const from = args.partials + ((<usize>(vector * args.taps + tap)) << 4);
      let sum = v128.load(from);
      for (let split = 1; split < args.splits; split++) sum = f32x4.add(sum, v128.load(from + <usize>split * bytes));
      const to = args.dw + ((<usize>(4 * vector * args.taps + tap)) << 2);
      const next = (<usize>args.taps) << 2;
      v128.store32_lane(to, sum, 0);
      if (lanes > 1) v128.store32_lane(to + next, sum, 1);
      if (lanes > 2) v128.store32_lane(to + 2 * next, sum, 2);
      if (lanes > 3) v128.store32_lane(to + 3 * next, sum, 3);
    }
  }
}
