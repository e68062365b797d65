// Winograd convolution F(m x m, r x r) with step 1: alpha x alpha inputs, alpha = m + r - 1, give m x m outputs by alpha^2
// multiplications where the direct way needs r^2 m^2. There are F(4x4, 3x3), F(2x2, 3x3) and F(2x2, 5x5).
//
//   y = A^T [ U * (B^T x B) ] A        U = G w G^T, made by winogradWeight
//
// The element-wise product, summed over channels, is a matrix product for each of the alpha^2 positions xi:
//
//   m[xi][tile, oc] = sum_ic v[xi][tile, ic] * u[xi][ic, oc]
//
// A kernel tile is a block of output tiles (counted over all images) by a block of channels. Its v and m lie in scratch and stay in
// the second-level cache; u is streamed once per block. The input gradient is the same with dy as the source and weights turned around.
import { Input, Output } from './record';
import { hold, holds, scratch } from './control';
import { copy, zero } from './patches';
import { NO_RESIDUAL, SCRATCH_ROW_SLACK, isFar, multiplyBlock } from './gemm';
import {
  BLOCK_BYTES,
  BLOCK_COLUMN,
  BLOCK_ROW,
  WINOGRAD_CHUNK,
  columnsOfGradient2to6,
  columnsOfGradient4to6,
  columnsOfInput4,
  columnsOfInput6,
  columnsOfOutput4to2,
  columnsOfOutput6to2,
  columnsOfOutput6to4,
  rowOfOutput4to2,
  rowOfOutput6to2,
  rowOfOutput6to4,
  rowsOfGradient2to6,
  rowsOfGradient4to6,
  rowsOfInput4,
  rowsOfInput6,
} from './generated/winograd-transforms';
import { panelBytes } from './pack';
import { storeLanes } from './vector';

/** Channels-last images cut into overlapping squares, in the order of the record fields that hold it. */
@unmanaged
export class Squares {
  height: i32;
  width: i32;
  channels: i32;
  /** Elements between neighbouring images, rows and columns. */
  image: i32;
  row: i32;
  column: i32;
  /** Zeros before the first row and column. */
  top: i32;
  left: i32;
}


@unmanaged
export class WinogradArgs {
  y: Output;
  x: Input;
  /** [alpha^2] matrices as winogradWeight writes them. */
  u: Input;
  /** n floats, or address 0. */
  bias: Input;
  /** Added to y; laid out as y is; or address 0. */
  residual: Input;
  /** Source, as in Squares. */
  height: i32;
  width: i32;
  channels: i32;
  xImage: i32;
  xRow: i32;
  xColumn: i32;
  top: i32;
  left: i32;
  images: i32;
  /** 6 or 4, and the side m of an output tile: 4 or 2. */
  alpha: i32;
  side: i32;
  /** Output tiles per kernel tile. */
  block: i32;
  /** Output rows, columns and channels, and elements between neighbouring images, rows and columns. */
  rows: i32;
  columns: i32;
  n: i32;
  yImage: i32;
  yRow: i32;
  yColumn: i32;
  /** Floats between the matrices of u. */
  uPlane: i32;
  /** Channels of y per kernel tile (a multiple of 8), length of a k block. */
  nc: i32;
  kc: i32;
  lo: f32;
  hi: f32;
}

/** Bytes of zeros in scratch, for rows outside the source. */
const ZERO_BYTES: usize = 4 * <usize>WINOGRAD_CHUNK;
/** Scratch for the transforms: zeros, pointers to source rows, the block, what is added to a row of outputs, and a place to drop them. */
export const WINOGRAD_HEAD: i32 = 128 + 64 + 4608 + 1024;

// @ts-ignore: decorator
@inline
function pointersOf(head: usize): usize {
  return head + ZERO_BYTES;
}

/** The block between the two passes of a transform; a kilobyte follows it. */
// @ts-ignore: decorator
@inline
export function blockOf(head: usize): usize {
  return head + ZERO_BYTES + 64;
}

/** Floats from one row (tile) of v or m to the next. */
// @ts-ignore: decorator
@inline
export function transformedRow(channels: i32): i32 {
  return ((channels + 7) & ~7) + SCRATCH_ROW_SLACK;
}

/** Bytes from one plane of `rows` rows to the next: an odd number of cache lines, so that planes do not share cache sets. */
// @ts-ignore: decorator
@inline
export function planeBytes(rows: i32, row: i32): usize {
  return ((((<usize>(rows * row)) << 2) + 63) & ~63) | 64;
}

/**
 * Tiles: ceil(output tiles / block) x ceil(n / nc), channels fastest; output tiles are images x ceil(rows / m) x ceil(columns / m).
 * Scratch per lane: WINOGRAD_HEAD bytes, then alpha^2 planes of `block` rows of v, then as many of m, nc wide.
 */
export function winogradConvolve(args: WinogradArgs, first: i32, last: i32, lane: i32): void {
  const alpha = args.alpha;
  const side = args.side;
  const down = (args.rows + side - 1) / side;
  const across = (args.columns + side - 1) / side;
  const tiles = args.images * down * across;
  const channelBlocks = (args.n + args.nc - 1) / args.nc;
  const source = changetype<Squares>(changetype<usize>(args) + offsetof<WinogradArgs>('height'));
  const head = scratch(lane);
  const v = head + WINOGRAD_HEAD;
  const vPlane = planeBytes(args.block, transformedRow(args.channels));
  const m = v + <usize>(alpha * alpha) * vPlane;
  zero(head, WINOGRAD_CHUNK);
  for (let tile = first; tile < last; tile++) {
    const block = tile / channelBlocks;
    const start = block * args.block;
    const count = min(args.block, tiles - start);
    if (!holds(lane, block)) {
      hold(lane, block);
      transformTiles(alpha, source, args.x, args.channels, side, down, across, start, count, head, v, vPlane);
    }
    const n = (tile % channelBlocks) * args.nc;
    const columns = min(args.nc, args.n - n);
    multiplyPlanes(args, count, n, columns, v, vPlane, m);
    transformOutput(args, down, across, start, count, n, columns, head, m);
  }
}

/**
 * What transformTiles evaluates: B^T x B of 6 x 6 or of 4 x 4 pixels, G dy G^T of the 4 x 4 gradients of F(3x3, 4x4) or of the 2 x 2
 * of F(5x5, 2x2).
 */
export const INPUT_6: i32 = 6;
export const INPUT_4: i32 = 4;
export const GRADIENT_4: i32 = 0;
export const GRADIENT_2: i32 = 2;

/**
 * Transforms `channels` channels of `count` tiles, from the tile numbered `start`, to planes of v. Images have down x across tiles,
 * `side` pixels apart. `head`: as winogradConvolve has it.
 */
export function transformTiles(
  kind: i32,
  source: Squares,
  x: usize,
  channels: i32,
  side: i32,
  down: i32,
  across: i32,
  start: i32,
  count: i32,
  head: usize,
  v: usize,
  plane: usize,
): void {
  const reach = kind == INPUT_6 ? 6 : kind == GRADIENT_2 ? 2 : 4;
  const pointers = pointersOf(head);
  const block = blockOf(head);
  const pixel = (<usize>source.column) << 2;
  const row = (<usize>transformedRow(channels)) << 2;
  for (let c = 0; c < channels; c += WINOGRAD_CHUNK) {
    const pairs = (min(WINOGRAD_CHUNK, channels - c) + 7) >> 3;
    let to = v + ((<usize>c) << 2);
    for (let tile = start; tile < start + count; tile++) {
      const line = tile / across;
      const left = (tile % across) * side - source.left;
      const image = x + ((<usize>((line / down) * source.image + c)) << 2);
      pointAtRows(source, image, (line % down) * side - source.top, reach, head, pointers);
      const first = min(reach, max(0, -left));
      const last = max(first, min(reach, source.width - left));
      zeroColumns(block, 0, first, pairs);
      zeroColumns(block, last, reach, pairs);
      const offset = <usize>left * pixel;
      if (kind == INPUT_6) {
        columnsOfInput6(pointers, pixel, offset, first, last, block, pairs);
        rowsOfInput6(block, to, plane, pairs);
      } else if (kind == INPUT_4) {
        columnsOfInput4(pointers, pixel, offset, first, last, block, pairs);
        rowsOfInput4(block, to, plane, pairs);
      } else if (kind == GRADIENT_2) {
        columnsOfGradient2to6(pointers, pixel, offset, first, last, block, pairs);
        rowsOfGradient2to6(block, to, plane, pairs);
      } else {
        columnsOfGradient4to6(pointers, pixel, offset, first, last, block, pairs);
        rowsOfGradient4to6(block, to, plane, pairs);
      }
      to += row;
    }
  }
}

/**
 * For the rows from `top` on: the address of the row's first pixel and a mask of ones; outside the source the address of zeros and
 * a mask that takes offsets away.
 */
function pointAtRows(source: Squares, image: usize, top: i32, count: i32, zeros: usize, pointers: usize): void {
  for (let i = 0; i < count; i++) {
    const inside = top >= 0 && top < source.height;
    store<usize>(pointers, inside ? image + ((<usize>(top * source.row)) << 2) : zeros);
    store<i32>(pointers, inside ? -1 : 0, 4);
    pointers += 8;
    top++;
  }
}

/** Columns of the block that lie outside the source. */
function zeroColumns(block: usize, first: i32, last: i32, pairs: i32): void {
  for (let j = first; j < last; j++) {
    let to = block + <usize>j * BLOCK_COLUMN;
    for (let i = 0; i < 6; i++) {
      zero(to, pairs << 3);
      to += BLOCK_ROW;
    }
  }
}

/** m[xi] = v[xi] x u[xi] for the channels n .. n + columns - 1. */
function multiplyPlanes(args: WinogradArgs, count: i32, n: i32, columns: i32, v: usize, vPlane: usize, m: usize): void {
  const size = panelBytes(args.channels);
  const lda = (<usize>transformedRow(args.channels)) << 2;
  const ldc = (<usize>transformedRow(args.nc)) << 2;
  const mPlane = planeBytes(args.block, transformedRow(args.nc));
  const uPlane = (<usize>args.uPlane) << 2;
  const whole = (columns + 7) & ~7;
  const far = isFar(<usize>(args.alpha * args.alpha) * args.uPlane);
  let u = args.u + <usize>(n >> 3) * size;
  for (let xi = args.alpha * args.alpha; xi > 0; xi--) {
    let k0 = 0;
    do {
      const k = min(args.kc, args.channels - k0);
      const a = v + ((<usize>k0) << 2);
      multiplyBlock(count, whole, k0 == 0, k, a, lda, u, size, k0, far, NO_RESIDUAL, m, ldc, -Infinity, Infinity);
      k0 += k;
    } while (k0 < args.channels);
    v += vPlane;
    u += uPlane;
    m += mPlane;
  }
}

/** y = A^T m A, finished, for the channels n .. n + columns - 1 of `count` tiles. */
function transformOutput(
  args: WinogradArgs,
  down: i32,
  across: i32,
  start: i32,
  count: i32,
  n: i32,
  columns: i32,
  head: usize,
  m: usize,
): void {
  const side = args.side;
  const block = blockOf(head);
  const init = block + BLOCK_BYTES;
  const mPlane = planeBytes(args.block, transformedRow(args.nc));
  const row = (<usize>transformedRow(args.nc)) << 2;
  for (let c = 0; c < columns; c += WINOGRAD_CHUNK) {
    const channels = min(WINOGRAD_CHUNK, columns - c);
    const pairs = (channels + 7) >> 3;
    if (!args.residual) fillInit(args, n + c, channels, init);
    let from = m + ((<usize>c) << 2);
    for (let tile = start; tile < start + count; tile++) {
      if (side == 4) columnsOfOutput6to4(from, mPlane, block, pairs);
      else if (args.alpha == 6) columnsOfOutput6to2(from, mPlane, block, pairs);
      else columnsOfOutput4to2(from, mPlane, block, pairs);
      const line = tile / across;
      const i = (line % down) * side;
      const j = (tile % across) * side;
      const offset = (line / down) * args.yImage + i * args.yRow + j * args.yColumn + n + c;
      storeTile(args, offset, n + c, min(side, args.rows - i), min(side, args.columns - j), channels, block, init);
      from += row;
    }
  }
}

/** The bias, once per pixel of a row. */
function fillInit(args: WinogradArgs, n: i32, channels: i32, init: usize): void {
  for (let j = 0; j < 4; j++) {
    if (args.bias) copy(init, args.bias + ((<usize>n) << 2), channels);
    else zero(init, channels);
    init += BLOCK_COLUMN;
  }
}

/** Rows of one tile, from channel n on; `offset` leads to its first pixel in y. Pixels outside y are dropped. */
function storeTile(
  args: WinogradArgs,
  offset: i32,
  n: i32,
  rows: i32,
  columns: i32,
  channels: i32,
  block: usize,
  init: usize,
): void {
  const drop = init + 4 * BLOCK_COLUMN;
  const pixel = (<usize>args.yColumn) << 2;
  const whole = channels >> 3;
  const rest = channels & 7;
  for (let i = 0; i < rows; i++) {
    if (args.residual) addResidual(args, offset, n, columns, channels, init);
    const y = args.y + ((<usize>offset) << 2);
    const y1 = columns > 1 ? y + pixel : drop;
    if (args.side == 4) {
      const y2 = columns > 2 ? y + 2 * pixel : drop;
      const y3 = columns > 3 ? y + 3 * pixel : drop;
      rowOfOutput6to4(block, init, y, y1, y2, y3, args.lo, args.hi, whole);
    } else if (args.alpha == 6) {
      rowOfOutput6to2(block, init, y, y1, args.lo, args.hi, whole);
    } else {
      rowOfOutput4to2(block, init, y, y1, args.lo, args.hi, whole);
    }
    if (rest) storeRest(args, block, init, y, columns, whole, rest, drop);
    block += BLOCK_ROW;
    offset += args.yRow;
  }
}

/** Bias plus residual, for a row of pixels. */
function addResidual(args: WinogradArgs, offset: i32, n: i32, columns: i32, channels: i32, init: usize): void {
  for (let j = 0; j < columns; j++) {
    const residual = args.residual + ((<usize>(offset + j * args.yColumn)) << 2);
    if (args.bias) {
      const bias = args.bias + ((<usize>n) << 2);
      for (let c: usize = 0; c < (<usize>channels) << 2; c += 16) {
        v128.store(init + c, f32x4.add(v128.load(bias + c), v128.load(residual + c)));
      }
    } else {
      copy(init, residual, channels);
    }
    init += BLOCK_COLUMN;
  }
}

/** The last channels of a row, fewer than eight. */
function storeRest(
  args: WinogradArgs,
  block: usize,
  init: usize,
  y: usize,
  columns: i32,
  whole: i32,
  rest: i32,
  drop: usize,
): void {
  const done = (<usize>whole) << 5;
  const pixels = drop + 128;
  if (args.side == 4) {
    rowOfOutput6to4(block + done, init + done, pixels, pixels + 32, pixels + 64, pixels + 96, args.lo, args.hi, 1);
  } else if (args.alpha == 6) {
    rowOfOutput6to2(block + done, init + done, pixels, pixels + 32, args.lo, args.hi, 1);
  } else {
    rowOfOutput4to2(block + done, init + done, pixels, pixels + 32, args.lo, args.hi, 1);
  }
  for (let j = 0; j < columns; j++) {
    const from = pixels + ((<usize>j) << 5);
    const to = y + ((<usize>(j * args.yColumn)) << 2) + done;
    storeLanes(to, v128.load(from), rest);
    if (rest > 4) storeLanes(to + 16, v128.load(from, 16), rest - 4);
  }
}
