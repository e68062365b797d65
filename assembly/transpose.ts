// y[.., r, c] = x[.., c, r]: planes of 4-byte elements whose columns are contiguous in y and whose rows are contiguous in x.
// Changes between planar and channels-last layouts and most permutations have this form once coalesced.
//
// Blocks of 4 x 4 go through registers. A tile is a band of rows of one plane, few enough that the lines of y it writes in
// pieces of 16 bytes stay in the first cache.
import { Input, Output, Table } from './record';
import { storeLanes } from './vector';


@unmanaged
export class TransposeArgs {
  y: Output;
  x: Input;
  /** The dimensions around the plane, innermost first: size, strides of y and x in bytes. */
  dims: Table;
  rank: i32;
  rows: i32;
  columns: i32;
  /** Bytes from row to row in y, and from column to column in x. */
  yStride: i32;
  xStride: i32;
  /** Rows per tile, a multiple of 4, and tiles per plane. */
  band: i32;
  bands: i32;
}

/** y = x, for the tiles first .. last - 1, numbered band by band, plane by plane. */
export function transpose(args: TransposeArgs, first: i32, last: i32, lane: i32): void {
  const sy = <usize>args.yStride;
  const sx = <usize>args.xStride;
  for (let tile = first; tile < last; tile++) {
    let plane = tile / args.bands;
    const row = (tile - plane * args.bands) * args.band;
    let y = args.y + <usize>row * sy;
    let x = args.x + ((<usize>row) << 2);
    for (let d = 0, at = args.dims; d < args.rank; d++, at += 12) {
      const size = load<i32>(at);
      const next = plane / size;
      const index = <usize>(plane - next * size);
      plane = next;
      y += index * <usize>load<i32>(at, 4);
      x += index * <usize>load<i32>(at, 8);
    }
    transposeBand(y, x, min(args.band, args.rows - row), args.columns, sy, sx);
  }
}

function transposeBand(y: usize, x: usize, rows: i32, columns: i32, sy: usize, sx: usize): void {
  for (; columns > 0; columns -= 4) {
    const missing = rows & 3;
    const whole = <usize>(rows - missing);
    if (columns >= 4) transposeColumns(y, x, rows >> 2, sy, sx);
    else transposeLastColumns(y, x, rows >> 2, columns, sy, sx);
    transposeRest(y + whole * sy, x + (whole << 2), missing, min(columns, 4), sy, sx);
    y += 16;
    x += sx << 2;
  }
}

/** Four columns of x become four numbers in each row of y. */
function transposeColumns(y: usize, x: usize, blocks: i32, sy: usize, sx: usize): void {
  const x1 = x + sx;
  const x2 = x1 + sx;
  const x3 = x2 + sx;
  const last = (<usize>blocks) << 4;
  for (let at: usize = 0; at < last; at += 16) {
    const a = v128.load(x + at);
    const b = v128.load(x1 + at);
    const c = v128.load(x2 + at);
    const d = v128.load(x3 + at);
    const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
    const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
    const abHigh = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
    const cdHigh = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
    v128.store(y, v128.shuffle<i64>(ab, cd, 0, 2));
    y += sy;
    v128.store(y, v128.shuffle<i64>(ab, cd, 1, 3));
    y += sy;
    v128.store(y, v128.shuffle<i64>(abHigh, cdHigh, 0, 2));
    y += sy;
    v128.store(y, v128.shuffle<i64>(abHigh, cdHigh, 1, 3));
    y += sy;
  }
}

/** The same with 1 to 3 columns left. */
function transposeLastColumns(y: usize, x: usize, blocks: i32, columns: i32, sy: usize, sx: usize): void {
  const x1 = columns > 1 ? x + sx : x;
  const x2 = columns > 2 ? x1 + sx : x;
  const last = (<usize>blocks) << 4;
  for (let at: usize = 0; at < last; at += 16) {
    const a = v128.load(x + at);
    const b = v128.load(x1 + at);
    const c = v128.load(x2 + at);
    const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
    const abHigh = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
    storeLanes(y, v128.shuffle<i32>(ab, c, 0, 1, 4, 4), columns);
    y += sy;
    storeLanes(y, v128.shuffle<i32>(ab, c, 2, 3, 5, 5), columns);
    y += sy;
    storeLanes(y, v128.shuffle<i32>(abHigh, c, 0, 1, 6, 6), columns);
    y += sy;
    storeLanes(y, v128.shuffle<i32>(abHigh, c, 2, 3, 7, 7), columns);
    y += sy;
  }
}

function transposeRest(y: usize, x: usize, rows: i32, columns: i32, sy: usize, sx: usize): void {
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) store<i32>(y + ((<usize>c) << 2), load<i32>(x + <usize>c * sx));
    y += sy;
    x += 4;
  }
}
