// Sums over rows: y[n] = sum_m x[m, n], the gradient of a bias. Rows are cut into splits of fixed length; each split is summed
// on its own, block by block, and `sumPartials` adds the splits in order. So rounding errors grow with the length of a block and the
// number of blocks, not with the number of rows, and threads change nothing.
import { Input, Output } from './record';
import { storeLanes } from './vector';

@unmanaged
export class ColumnSumsArgs {
  /** [splits][n]: a partial sum per split; the sum itself if there is one split. */
  y: Output;
  x: Input;
  m: i32;
  n: i32;
  /** Elements between rows of x. */
  ldx: i32;
  /** Rows per split. */
  splitRows: i32;
}

/** Rows added up before the sum is added to the split's. */
const BLOCK_ROWS: i32 = 512;

/** Tiles: ceil(m / splitRows). */
export function columnSums(args: ColumnSumsArgs, first: i32, last: i32, lane: i32): void {
  const stride = <usize>args.ldx << 2;
  for (let split = first; split < last; split++) {
    const start = split * args.splitRows;
    const rows = min(args.splitRows, args.m - start);
    const y = args.y + (<usize>(split * args.n) << 2);
    const x = args.x + <usize>start * stride;
    let n = 0;
    for (; n + 16 <= args.n; n += 16) sumSixteen(y + (<usize>n << 2), x + (<usize>n << 2), rows, stride);
    for (; n < args.n; n += 4) sumFour(y + (<usize>n << 2), x + (<usize>n << 2), rows, stride, args.n - n);
  }
}

/** Sixteen columns: a whole cache line of every row. */
function sumSixteen(y: usize, x: usize, rows: i32, stride: usize): void {
  const none = i32x4.splat(0);
  let t0 = none, t1 = none, t2 = none, t3 = none;
  for (let row = 0; row < rows; row += BLOCK_ROWS) {
    const end = min(rows, row + BLOCK_ROWS);
    let s0 = none, s1 = none, s2 = none, s3 = none;
    for (let r = row; r < end; r++) {
      s0 = f32x4.add(s0, v128.load(x));
      s1 = f32x4.add(s1, v128.load(x, 16));
      s2 = f32x4.add(s2, v128.load(x, 32));
      s3 = f32x4.add(s3, v128.load(x, 48));
      x += stride;
    }
    t0 = f32x4.add(t0, s0);
    t1 = f32x4.add(t1, s1);
    t2 = f32x4.add(t2, s2);
    t3 = f32x4.add(t3, s3);
  }
  v128.store(y, t0);
  v128.store(y, t1, 16);
  v128.store(y, t2, 32);
  v128.store(y, t3, 48);
}

/** Up to four columns; four rows at a time, so that additions do not wait for each other. */
function sumFour(y: usize, x: usize, rows: i32, stride: usize, count: i32): void {
  const none = i32x4.splat(0);
  let total = none;
  for (let row = 0; row < rows; row += BLOCK_ROWS) {
    const end = min(rows, row + BLOCK_ROWS);
    let s0 = none, s1 = none, s2 = none, s3 = none;
    let r = row;
    for (; r + 4 <= end; r += 4) {
      s0 = f32x4.add(s0, v128.load(x));
      s1 = f32x4.add(s1, v128.load(x + stride));
      s2 = f32x4.add(s2, v128.load(x + 2 * stride));
      s3 = f32x4.add(s3, v128.load(x + 3 * stride));
      x += 4 * stride;
    }
    for (; r < end; r++) {
      s0 = f32x4.add(s0, v128.load(x));
      x += stride;
    }
    total = f32x4.add(total, f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
  }
  storeLanes(y, total, count);
}

@unmanaged
export class SumPartialsArgs {
  y: Output;
  /** [splits][count] */
  partials: Input;
  splits: i32;
  count: i32;
}

/** Elements of y per tile of `sumPartials`. */
export const PARTIALS_TILE: i32 = 2048;

/** y[i] = partials[0, i] + partials[1, i] + ... Tiles: ceil(count / PARTIALS_TILE). */
export function sumPartials(args: SumPartialsArgs, first: i32, last: i32, lane: i32): void {
  const stride = <usize>args.count << 2;
  const end = min(args.count, last * PARTIALS_TILE);
  let i = first * PARTIALS_TILE;
  for (; i + 8 <= end; i += 8) {
    let from = args.partials + (<usize>i << 2);
    let s0 = v128.load(from);
    let s1 = v128.load(from, 16);
    for (let split = 1; split < args.splits; split++) {
      from += stride;
      s0 = f32x4.add(s0, v128.load(from));
      s1 = f32x4.add(s1, v128.load(from, 16));
    }
    v128.store(args.y + (<usize>i << 2), s0);
    v128.store(args.y + (<usize>i << 2), s1, 16);
  }
  for (; i < end; i++) {
    let from = args.partials + (<usize>i << 2);
    let sum = load<f32>(from);
    for (let split = 1; split < args.splits; split++) {
      from += stride;
      sum += load<f32>(from);
    }
    store<f32>(args.y + (<usize>i << 2), sum);
  }
}
