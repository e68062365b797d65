// Outputs of one to four channels. Panels of eight columns would compute mostly zeros for them; here vectors run along k instead:
//
//   y[pixel, n] = clamp(bias[n] + residual[pixel, n] + sum of the lanes of  sum over k by fours of a[pixel, k ..] * w[n, k ..], lo, hi)
//
// Four pixels at a time share the loads of w, and two outputs those of a. An output without a second one has two sums, for even and for
// odd fours, so that there are eight in all; the pixels that are left over are summed in the same order. A pixel's k are runs of floats, one in every source row
// that the kernel meets (row-convolution.ts).
import { NO_RESIDUAL } from './gemm';
import { laneMask, madd, sumLanes } from './vector';

/** Output channels up to which this may be faster than panels. */
export const MOST_DOTS: i32 = 4;

/** Bytes of a run of `length` weights, and of those of one output, its bias in front. */
// @ts-ignore: decorator
@inline
export function dotRunBytes(length: i32): usize {
  return (<usize>((length + 3) & ~3)) << 2;
}

// @ts-ignore: decorator
@inline
export function dotBytes(runs: i32, length: i32): usize {
  return 16 + <usize>runs * dotRunBytes(length);
}

/** Writes the weights of `n` outputs for dotRow: from the panel [bias | k x 8], of which `runs` runs of `length` rows are read. */
export function packDots(to: usize, panel: usize, head: usize, runs: i32, length: i32, n: i32): void {
  const gap = ((<i32>dotRunBytes(length)) >> 2) - length;
  for (let o = 0; o < n; o++) {
    const column = (<usize>o) << 2;
    store<f32>(to, load<f32>(panel + column));
    to += 16;
    let from = panel + head + column;
    for (let run = 0; run < runs; run++) {
      for (let i = 0; i < length; i++) {
        store<f32>(to, load<f32>(from));
        from += 32;
        to += 4;
      }
      for (let i = 0; i < gap; i++) {
        store<f32>(to, 0);
        to += 4;
      }
    }
  }
}

/**
 * `count` neighbouring pixels of an output row: a begins with the first run that lies in the source, `skipped` runs after the first
 * of the kernel; runs lie `distance` bytes apart, pixels `lda`.
 */
export function dotRow(
  count: i32,
  n: i32,
  runs: i32,
  length: i32,
  allRuns: i32,
  skipped: i32,
  a: usize,
  lda: usize,
  distance: usize,
  w: usize,
  residual: usize,
  c: usize,
  ldc: usize,
  lo: f32,
  hi: f32,
): void {
  const next = dotBytes(allRuns, length);
  const first = 16 + <usize>skipped * dotRunBytes(length);
  for (let o = 0; o < n; o += 2) {
    const pair = o + 1 < n;
    let from = a;
    let to = c;
    let pixel = 0;
    for (; pixel + 4 <= count; pixel += 4) {
      if (pair) dots4x2(runs, length, from, lda, distance, w, first, next, residual, to, ldc, lo, hi);
      else dots4x1(runs, length, from, lda, distance, w, first, residual, to, ldc, lo, hi);
      from += lda << 2;
      to += ldc << 2;
    }
    for (; pixel < count; pixel++) {
      dot(runs, length, !pair, from, distance, w, first, residual, to, lo, hi);
      if (pair) dot(runs, length, false, from, distance, w + next, first, residual, to + 4, lo, hi);
      from += lda;
      to += ldc;
    }
    w += next << 1;
    c += 8;
  }
}

// @ts-ignore: decorator
@inline
function finish(sum: v128, w: usize, residual: usize, c: usize, lo: f32, hi: f32): void {
  let y = sumLanes(sum) + load<f32>(w);
  if (residual != NO_RESIDUAL) y += load<f32>(c + residual);
  store<f32>(c, min(max(y, lo), hi));
}

/** One pixel, one output; the order of its sum is that of dots4x1 if `alternate`, else of dots4x2. */
function dot(
  runs: i32,
  length: i32,
  alternate: bool,
  a: usize,
  distance: usize,
  w: usize,
  first: usize,
  residual: usize,
  c: usize,
  lo: f32,
  hi: f32,
): void {
  const mask = laneMask(length & 3);
  const whole = (<usize>(length & ~3)) << 2;
  let s = f32x4.splat(0);
  let t = s;
  let u = w + first;
  for (; runs > 0; runs--) {
    const end = u + whole;
    let from = a;
    let odd = false;
    for (; u < end; u += 16) {
      if (odd) t = madd(v128.load(from), v128.load(u), t);
      else s = madd(v128.load(from), v128.load(u), s);
      from += 16;
      odd = alternate && !odd;
    }
    if (length & 3) {
      const last = v128.and(v128.load(from), mask);
      if (alternate) t = madd(last, v128.load(u), t);
      else s = madd(last, v128.load(u), s);
      u += 16;
    }
    a += distance;
  }
  finish(alternate ? f32x4.add(s, t) : s, w, residual, c, lo, hi);
}

/** Four pixels, one output. */
function dots4x1(
  runs: i32,
  length: i32,
  a: usize,
  lda: usize,
  distance: usize,
  w: usize,
  first: usize,
  residual: usize,
  c: usize,
  ldc: usize,
  lo: f32,
  hi: f32,
): void {
  const mask = laneMask(length & 3);
  const whole = (<usize>(length & ~3)) << 2;
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let t0 = s0;
  let t1 = s0;
  let t2 = s0;
  let t3 = s0;
  let u = w + first;
  for (; runs > 0; runs--) {
    const end = u + whole;
    let a0 = a;
    let a1 = a0 + lda;
    let a2 = a1 + lda;
    let a3 = a2 + lda;
    for (; u + 16 < end; u += 32) {
      const p = v128.load(u);
      s0 = madd(v128.load(a0), p, s0);
      s1 = madd(v128.load(a1), p, s1);
      s2 = madd(v128.load(a2), p, s2);
      s3 = madd(v128.load(a3), p, s3);
      const q = v128.load(u, 16);
      t0 = madd(v128.load(a0, 16), q, t0);
      t1 = madd(v128.load(a1, 16), q, t1);
      t2 = madd(v128.load(a2, 16), q, t2);
      t3 = madd(v128.load(a3, 16), q, t3);
      a0 += 32;
      a1 += 32;
      a2 += 32;
      a3 += 32;
    }
    if (u < end) {
      const p = v128.load(u);
      s0 = madd(v128.load(a0), p, s0);
      s1 = madd(v128.load(a1), p, s1);
      s2 = madd(v128.load(a2), p, s2);
      s3 = madd(v128.load(a3), p, s3);
      a0 += 16;
      a1 += 16;
      a2 += 16;
      a3 += 16;
      u += 16;
    }
    if (length & 3) {
      const p = v128.load(u);
      t0 = madd(v128.and(v128.load(a0), mask), p, t0);
      t1 = madd(v128.and(v128.load(a1), mask), p, t1);
      t2 = madd(v128.and(v128.load(a2), mask), p, t2);
      t3 = madd(v128.and(v128.load(a3), mask), p, t3);
      u += 16;
    }
    a += distance;
  }
  finish(f32x4.add(s0, t0), w, residual, c, lo, hi);
  c += ldc;
  finish(f32x4.add(s1, t1), w, residual, c, lo, hi);
  c += ldc;
  finish(f32x4.add(s2, t2), w, residual, c, lo, hi);
  c += ldc;
  finish(f32x4.add(s3, t3), w, residual, c, lo, hi);
}

/** Four pixels, two outputs; `next` bytes lie between the weights of the two. */
function dots4x2(
  runs: i32,
  length: i32,
  a: usize,
  lda: usize,
  distance: usize,
  w: usize,
  first: usize,
  next: usize,
  residual: usize,
  c: usize,
  ldc: usize,
  lo: f32,
  hi: f32,
): void {
  const mask = laneMask(length & 3);
  const whole = (<usize>(length & ~3)) << 2;
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let t0 = s0;
  let t1 = s0;
  let t2 = s0;
  let t3 = s0;
  let u = w + first;
  let v = u + next;
  for (; runs > 0; runs--) {
    const end = u + whole;
    let a0 = a;
    let a1 = a0 + lda;
    let a2 = a1 + lda;
    let a3 = a2 + lda;
    for (; u < end; u += 16) {
      const p = v128.load(u);
      const q = v128.load(v);
      const x0 = v128.load(a0);
      s0 = madd(x0, p, s0);
      t0 = madd(x0, q, t0);
      const x1 = v128.load(a1);
      s1 = madd(x1, p, s1);
      t1 = madd(x1, q, t1);
      const x2 = v128.load(a2);
      s2 = madd(x2, p, s2);
      t2 = madd(x2, q, t2);
      const x3 = v128.load(a3);
      s3 = madd(x3, p, s3);
      t3 = madd(x3, q, t3);
      v += 16;
      a0 += 16;
      a1 += 16;
      a2 += 16;
      a3 += 16;
    }
    if (length & 3) {
      const p = v128.load(u);
      const q = v128.load(v);
      const x0 = v128.and(v128.load(a0), mask);
      s0 = madd(x0, p, s0);
      t0 = madd(x0, q, t0);
      const x1 = v128.and(v128.load(a1), mask);
      s1 = madd(x1, p, s1);
      t1 = madd(x1, q, t1);
      const x2 = v128.and(v128.load(a2), mask);
      s2 = madd(x2, p, s2);
      t2 = madd(x2, q, t2);
      const x3 = v128.and(v128.load(a3), mask);
      s3 = madd(x3, p, s3);
      t3 = madd(x3, q, t3);
      u += 16;
      v += 16;
    }
    a += distance;
  }
  finish(s0, w, residual, c, lo, hi);
  finish(t0, w + next, residual, c + 4, lo, hi);
  c += ldc;
  finish(s1, w, residual, c, lo, hi);
  finish(t1, w + next, residual, c + 4, lo, hi);
  c += ldc;
  finish(s2, w, residual, c, lo, hi);
  finish(t2, w + next, residual, c + 4, lo, hi);
  c += ldc;
  finish(s3, w, residual, c, lo, hi);
  finish(t3, w + next, residual, c + 4, lo, hi);
}
