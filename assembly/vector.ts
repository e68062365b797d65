// Words for four f32 lanes that every kernel shares.

/** a * b + c: one rounding in the relaxed build, two in the plain one. The only place where the builds differ. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  else return f32x4.add(f32x4.mul(a, b), c);
}

/** c - a * b, rounded as `madd`. */
// @ts-ignore: decorator
@inline
export function nmadd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_nmadd(a, b, c);
  else return f32x4.sub(c, f32x4.mul(a, b));
}

/** min(max(x, lo), hi), keeping NaN. pmin and pmax are one instruction where f32x4.min and max are eight on x86. */
// @ts-ignore: decorator
@inline
export function clamp(x: v128, lo: v128, hi: v128): v128 {
  return f32x4.pmin(f32x4.pmax(x, lo), hi);
}

/** Sum of the four lanes, as (0 + 2) + (1 + 3). */
// @ts-ignore: decorator
@inline
export function sumLanes(x: v128): f32 {
  const pairs = f32x4.add(x, v128.shuffle<f32>(x, x, 2, 3, 2, 3));
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1);
}

/** Stores eight floats. Both halves are there before the first is stored, which lets 256-bit mode take them as one. */
// @ts-ignore: decorator
@inline
export function storePair(address: usize, left: v128, right: v128): void {
  v128.store(address, left);
  v128.store(address, right, 16);
}

/** Stores the first `count` (1 to 4) lanes. Loads may run past a buffer's end (64 bytes of slack), stores never do. */
// @ts-ignore: decorator
@inline
export function storeLanes(address: usize, x: v128, count: i32): void {
  if (count >= 4) {
    v128.store(address, x);
  } else {
    if (count & 2) {
      v128.store64_lane(address, x, 0);
      if (count & 1) v128.store32_lane(address, x, 2, 8);
    } else if (count & 1) v128.store32_lane(address, x, 0);
  }
}

/** Lanes of `a` where `mask` is all ones, lanes of `b` where it is zero. */
// @ts-ignore: decorator
@inline
export function select(mask: v128, a: v128, b: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_laneselect(a, b, mask);
  else return v128.bitselect(a, b, mask);
}

/** The largest of the four lanes; a NaN may be lost. */
// @ts-ignore: decorator
@inline
export function maxLanes(x: v128): f32 {
  const pairs = f32x4.pmax(x, v128.shuffle<f32>(x, x, 2, 3, 2, 3));
  return f32x4.extract_lane(f32x4.pmax(pairs, v128.shuffle<f32>(pairs, pairs, 1, 1, 1, 1)), 0);
}

/** All ones in the first `count` lanes, zero in the others. */
// @ts-ignore: decorator
@inline
export function laneMask(count: i32): v128 {
  return i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count));
}
