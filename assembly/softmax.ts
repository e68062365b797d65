// y[r, i] = exp(x[r, i] - max_r) / sum_j exp(x[r, j] - max_r) and its logarithm, over contiguous rows.
//
// Three passes over a row that stays in the first-level cache: maximum; exponentials, stored, and their sum; scale (as XNNPACK's
// raddstoreexpminusmax). The maximum makes the largest exponential 1, so nothing overflows. A row that holds NaN or +inf, or
// nothing but -inf, comes out as NaN, as in PyTorch.
import { Input, Output } from './record';
import { contiguousSum } from './reduce';
import { expLanes, logOf } from './math';
import { laneMask, maxLanes, storeLanes, sumLanes } from './vector';


@unmanaged
export class SoftmaxArgs {
  y: Output;
  x: Input;
  rows: i32;
  /** Elements per row. */
  n: i32;
  /** Rows per tile. */
  block: i32;
}


@unmanaged
export class SoftmaxGradArgs {
  dx: Output;
  y: Input;
  dy: Input;
  rows: i32;
  n: i32;
  /** Rows per tile. */
  block: i32;
}

/** Elements whose exponentials are summed in f32 before they go to f64. */
const BLOCK: i32 = 1024;

/** Probabilities of each row. */
export function softmax(args: SoftmaxArgs, first: i32, last: i32, lane: i32): void {
  const bytes = (<usize>args.n) << 2;
  const end = min(args.rows, last * args.block);
  for (let row = first * args.block; row < end; row++) {
    const y = args.y + <usize>row * bytes;
    const x = args.x + <usize>row * bytes;
    softmaxRow(y, x, args.n, rowMax(x, args.n));
  }
}

/** y = softmax(x), given the maximum of x; returns the sum of the exponentials. */
export function softmaxRow(y: usize, x: usize, n: i32, max: f32): f64 {
  const sum = exponentials(y, x, n, max);
  scale(y, n, <f32>(1.0 / sum));
  return sum;
}

/** Logarithm of the probabilities of each row. */
export function logSoftmax(args: SoftmaxArgs, first: i32, last: i32, lane: i32): void {
  const bytes = (<usize>args.n) << 2;
  const end = min(args.rows, last * args.block);
  for (let row = first * args.block; row < end; row++) {
    const y = args.y + <usize>row * bytes;
    const x = args.x + <usize>row * bytes;
    const max = rowMax(x, args.n);
    shift(y, x, args.n, max, logOf(<f32>exponentials(y, x, args.n, max)));
  }
}

/** dx = (dy - sum_j dy_j y_j) y, row by row. */
export function softmaxGrad(args: SoftmaxGradArgs, first: i32, last: i32, lane: i32): void {
  const bytes = (<usize>args.n) << 2;
  const end = min(args.rows, last * args.block);
  for (let row = first * args.block; row < end; row++) {
    const at = <usize>row * bytes;
    const sum = <f32>productSum(args.y + at, args.dy + at, args.n);
    softmaxGradRow(args.dx + at, args.y + at, args.dy + at, args.n, sum);
  }
}

/** dx = dy - exp(y) sum_j dy_j, row by row; y is the logarithm. */
export function logSoftmaxGrad(args: SoftmaxGradArgs, first: i32, last: i32, lane: i32): void {
  const bytes = (<usize>args.n) << 2;
  const end = min(args.rows, last * args.block);
  for (let row = first * args.block; row < end; row++) {
    const at = <usize>row * bytes;
    logSoftmaxGradRow(args.dx + at, args.y + at, args.dy + at, args.n, <f32>contiguousSum(args.dy + at, args.n));
  }
}

// ---- Passes over one row -------------------------------------------------------------------------------------------------

/** Largest element, -inf at least. A NaN may be lost: it comes back with the exponentials. */
export function rowMax(x: usize, n: i32): f32 {
  let m0 = f32x4.splat(-Infinity);
  let m1 = m0;
  for (; n >= 8; n -= 8, x += 32) {
    m0 = f32x4.pmax(m0, v128.load(x));
    m1 = f32x4.pmax(m1, v128.load(x, 16));
  }
  let best = maxLanes(f32x4.pmax(m0, m1));
  for (; n > 0; n--, x += 4) {
    const value = load<f32>(x);
    best = value > best ? value : best;
  }
  return best;
}

/** y = exp(x - max); returns the sum. */
export function exponentials(y: usize, x: usize, n: i32, max: f32): f64 {
  let sum: f64 = 0;
  for (let i = 0; i < n; i += BLOCK) {
    const at = (<usize>i) << 2;
    sum += exponentialBlock(y + at, x + at, min(BLOCK, n - i), max);
  }
  return sum;
}

function exponentialBlock(y: usize, x: usize, n: i32, max: f32): f32 {
  const m = f32x4.splat(max);
  let sums = i32x4.splat(0);
  for (; n >= 4; n -= 4, x += 16, y += 16) {
    const e = expLanes(f32x4.sub(v128.load(x), m));
    sums = f32x4.add(sums, e);
    v128.store(y, e);
  }
  if (n > 0) {
    const e = v128.and(expLanes(f32x4.sub(v128.load(x), m)), laneMask(n));
    sums = f32x4.add(sums, e);
    storeLanes(y, e, n);
  }
  return sumLanes(sums);
}

function scale(y: usize, n: i32, factor: f32): void {
  const f = f32x4.splat(factor);
  for (; n >= 4; n -= 4, y += 16) v128.store(y, f32x4.mul(v128.load(y), f));
  if (n > 0) storeLanes(y, f32x4.mul(v128.load(y), f), n);
}

/** y = x - max - log(sum). */
function shift(y: usize, x: usize, n: i32, max: f32, log: f32): void {
  const m = f32x4.splat(max);
  const l = f32x4.splat(log);
  for (; n >= 4; n -= 4, x += 16, y += 16) v128.store(y, f32x4.sub(f32x4.sub(v128.load(x), m), l));
  if (n > 0) storeLanes(y, f32x4.sub(f32x4.sub(v128.load(x), m), l), n);
}

function productSum(a: usize, b: usize, n: i32): f64 {
  let total: f64 = 0;
  for (; n >= BLOCK; n -= BLOCK, a += (<usize>BLOCK) << 2, b += (<usize>BLOCK) << 2) total += productBlock(a, b, BLOCK);
  return total + productBlock(a, b, n);
}

function productBlock(a: usize, b: usize, n: i32): f32 {
  let sums = i32x4.splat(0);
  for (; n >= 4; n -= 4, a += 16, b += 16) sums = f32x4.add(sums, f32x4.mul(v128.load(a), v128.load(b)));
  if (n > 0) sums = f32x4.add(sums, v128.and(f32x4.mul(v128.load(a), v128.load(b)), laneMask(n)));
  return sumLanes(sums);
}

function softmaxGradRow(dx: usize, y: usize, dy: usize, n: i32, sum: f32): void {
  const s = f32x4.splat(sum);
  for (; n > 0; n -= 4, dx += 16, y += 16, dy += 16) {
    storeLanes(dx, f32x4.mul(f32x4.sub(v128.load(dy), s), v128.load(y)), n);
  }
}

function logSoftmaxGradRow(dx: usize, y: usize, dy: usize, n: i32, sum: f32): void {
  const s = f32x4.splat(sum);
  for (; n > 0; n -= 4, dx += 16, y += 16, dy += 16) {
    storeLanes(dx, f32x4.sub(v128.load(dy), f32x4.mul(expLanes(v128.load(y)), s)), n);
  }
}
