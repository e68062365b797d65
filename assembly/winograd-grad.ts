// Weight gradient in the Winograd domain, F(3x3, 4x4) and F(5x5, 2x2): every 4 x 4 or 2 x 2 tile of dy meets the 6 x 6 pixels that it
// saw.
//
//   dw = A^T [ sum over tiles of (G dy G^T) * (B^T x B) ] A
//
//   d[xi][oc, ic] = sum_tile g[xi][tile, oc] * v[xi][tile, ic]
//
// The sums are outer products over tiles, 36 of them. A kernel tile has a block of output channels, a block of input channels and a
// share of the tiles; the shares' gradients are added up by sumPartials.
import { Input, Output } from './record';
import { scratch } from './control';
import { zero } from './patches';
import { addOuterProducts } from './gemm';
import {
  BLOCK_BYTES,
  WINOGRAD_CHUNK,
  columnsOfTaps6to3,
  columnsOfTaps6to5,
  rowsOfTaps6to3,
  rowsOfTaps6to5,
} from './generated/winograd-transforms';
import { storeLanes } from './vector';
import {
  GRADIENT_2,
  GRADIENT_4,
  INPUT_6,
  Squares,
  WINOGRAD_HEAD,
  blockOf,
  planeBytes,
  transformTiles,
  transformedRow,
} from './winograd';


@unmanaged
export class WinogradWeightGradArgs {
  /** [splits][n][taps][channels] */
  dw: Output;
  x: Input;
  dy: Input;
  /** Source, as in Squares. */
  height: i32;
  width: i32;
  channels: i32;
  xImage: i32;
  xRow: i32;
  xColumn: i32;
  top: i32;
  left: i32;
  /** Gradients of the outputs, as in Squares. */
  rows: i32;
  columns: i32;
  n: i32;
  dyImage: i32;
  dyRow: i32;
  dyColumn: i32;
  dyTop: i32;
  dyLeft: i32;
  images: i32;
  /** Side of a tile of dy: 4 for 3 x 3 taps, 2 for 5 x 5. */
  side: i32;
  /** Tiles per split and per block; output and input channels per kernel tile (multiples of 8). */
  splitTiles: i32;
  block: i32;
  nc: i32;
  cc: i32;
}

/**
 * Tiles: splits x ceil(n / nc) x ceil(channels / cc), input channels fastest. Scratch per lane: WINOGRAD_HEAD bytes, 36 planes of
 * `block` rows of cc, as many of nc, and 36 planes of nc rows of cc.
 */
export function winogradWeightGrad(args: WinogradWeightGradArgs, first: i32, last: i32, lane: i32): void {
  const nBlocks = (args.n + args.nc - 1) / args.nc;
  const cBlocks = (args.channels + args.cc - 1) / args.cc;
  for (let tile = first; tile < last; tile++) {
    const part = tile / cBlocks;
    sumTiles(args, part / nBlocks, (part % nBlocks) * args.nc, (tile % cBlocks) * args.cc, scratch(lane));
  }
}

/** The gradient of output channels n0 .. and input channels c0 .., summed over the tiles of one split. */
function sumTiles(args: WinogradWeightGradArgs, split: i32, n0: i32, c0: i32, head: usize): void {
  const n = min(args.nc, args.n - n0);
  const channels = min(args.cc, args.channels - c0);
  const side = args.side;
  const kind = side == 4 ? GRADIENT_4 : GRADIENT_2;
  const down = (args.rows + side - 1) / side;
  const across = (args.columns + side - 1) / side;
  const source = changetype<Squares>(changetype<usize>(args) + offsetof<WinogradWeightGradArgs>('height'));
  const gradients = changetype<Squares>(changetype<usize>(args) + offsetof<WinogradWeightGradArgs>('rows'));
  const x = args.x + ((<usize>c0) << 2);
  const dy = args.dy + ((<usize>n0) << 2);
  const v = head + WINOGRAD_HEAD;
  const vPlane = planeBytes(args.block, transformedRow(channels));
  const g = v + 36 * vPlane;
  const gPlane = planeBytes(args.block, transformedRow(n));
  const d = g + 36 * gPlane;
  const row = transformedRow(channels);
  const dPlane = planeBytes(n, row);
  const lda = (<usize>transformedRow(n)) << 2;
  const ldb = (<usize>row) << 2;
  zero(head, WINOGRAD_CHUNK);
  zero(d, 36 * ((<i32>dPlane) >> 2));
  const end = min((split + 1) * args.splitTiles, args.images * down * across);
  for (let start = split * args.splitTiles; start < end; start += args.block) {
    const count = min(args.block, end - start);
    transformTiles(INPUT_6, source, x, channels, side, down, across, start, count, head, v, vPlane);
    transformTiles(kind, gradients, dy, n, side, down, across, start, count, head, g, gPlane);
    for (let xi: usize = 0; xi < 36; xi++) {
      // d[oc, ic] += sum over tiles of g[tile, oc] * v[tile, ic]
      addOuterProducts(n, channels, 1, count, g + xi * gPlane, lda, 0, v + xi * vPlane, ldb, 0, d + xi * dPlane, ldb);
    }
  }
  const taps = side == 4 ? 9 : 25;
  const dw = args.dw + ((<usize>((split * args.n + n0) * taps * args.channels + c0)) << 2);
  for (let o = 0; o < n; o++) {
    const offset = (<usize>o) << 2;
    const to = dw + offset * <usize>(taps * args.channels);
    storeTaps(taps, d + offset * <usize>row, dPlane, channels, to, (<usize>args.channels) << 2, head);
  }
}

/** One output channel: the transform of its sums to 9 or 25 taps, `tap` bytes apart. */
function storeTaps(taps: i32, d: usize, plane: usize, channels: i32, to: usize, tap: usize, head: usize): void {
  const block = blockOf(head);
  const whole = channels & ~7;
  const rest = channels - whole;
  for (let c = 0; c < whole; c += WINOGRAD_CHUNK) {
    const offset = (<usize>c) << 2;
    transformTaps(taps, d + offset, plane, block, to + offset, tap, min(WINOGRAD_CHUNK, whole - c) >> 3);
  }
  if (rest == 0) return;
  const last = block + BLOCK_BYTES;
  transformTaps(taps, d + ((<usize>whole) << 2), plane, block, last, 32, 1);
  to += (<usize>whole) << 2;
  for (let t = 0; t < taps; t++) {
    const from = last + ((<usize>t) << 5);
    storeLanes(to, v128.load(from), rest);
    if (rest > 4) storeLanes(to + 16, v128.load(from, 16), rest - 4);
    to += tap;
  }
}

function transformTaps(taps: i32, d: usize, plane: usize, block: usize, to: usize, tap: usize, pairs: i32): void {
  if (taps == 9) {
    columnsOfTaps6to3(d, plane, block, pairs);
    rowsOfTaps6to3(block, to, tap, pairs);
  } else {
    columnsOfTaps6to5(d, plane, block, pairs);
    rowsOfTaps6to5(block, to, tap, pairs);
  }
}
