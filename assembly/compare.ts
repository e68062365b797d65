// Comparisons with broadcasting, y = a op b as u8, 0 or 1, and the choice y = condition ? a : b.
//
// `gt` and `ge` are `lt` and `le` with the operands exchanged.
import { BinaryArgs } from './binary';
import { Input, Output, Table } from './record';
import { walk } from './strided';
import { storeLanes } from './vector';

/** 4-byte values of any kind. */
@unmanaged
export class WhereArgs {
  y: Output;
  condition: Input;
  a: Input;
  b: Input;
  /** Per dimension, innermost first: size, strides of y, condition, a and b in bytes. */
  dims: Table;
  rank: i32;
  count: i32;
}


@unmanaged
class Equal<T> {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128): v128 {
    return v128.eq<T>(a, b);
  }

  // @ts-ignore: decorator
  @inline
  one(a: T, b: T): bool {
    return a == b;
  }
}


@unmanaged
class NotEqual<T> {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128): v128 {
    return v128.ne<T>(a, b);
  }

  // @ts-ignore: decorator
  @inline
  one(a: T, b: T): bool {
    return a != b;
  }
}


@unmanaged
class Less<T> {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128): v128 {
    return v128.lt<T>(a, b);
  }

  // @ts-ignore: decorator
  @inline
  one(a: T, b: T): bool {
    return a < b;
  }
}


@unmanaged
class LessOrEqual<T> {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128): v128 {
    return v128.le<T>(a, b);
  }

  // @ts-ignore: decorator
  @inline
  one(a: T, b: T): bool {
    return a <= b;
  }
}

/** One row of a comparison: vectors where y and a are dense and b is dense or one number. */
@unmanaged
class Comparison<Op, T> {
  run(y: usize, a: usize, b: usize, c: usize, n: i32, sy: usize, sa: usize, sb: usize, sc: usize): void {
    const op = changetype<Op>(0);
    if (sy == 1 && sa == sizeof<T>() && (sb == sizeof<T>() || sb == 0)) {
      const ones = i8x16.splat(1);
      const lanes: i32 = 16 / sizeof<T>();
      for (; n >= lanes; n -= lanes) {
        const right = sb ? v128.load(b) : v128.load_splat<T>(b);
        storeBits<T>(y, op.lanes(v128.load(a), right), ones);
        y += lanes;
        a += 16;
        b += sb * lanes;
      }
    }
    for (; n > 0; n--) {
      store<u8>(y, <u8>op.one(load<T>(a), load<T>(b)));
      y += sy;
      a += sa;
      b += sb;
    }
  }
}

/** Stores a mask of 4 or 16 lanes as bytes 0 or 1. */
// @ts-ignore: decorator
@inline
function storeBits<T>(y: usize, mask: v128, ones: v128): void {
  if (sizeof<T>() == 4) {
    const half = i16x8.narrow_i32x4_s(mask, mask);
    v128.store32_lane(y, v128.and(i8x16.narrow_i16x8_s(half, half), ones), 0);
  } else {
    v128.store(y, v128.and(mask, ones));
  }
}

// @ts-ignore: decorator
@inline
function comparison<Op, T>(args: BinaryArgs, first: i32, last: i32): void {
  walk<Comparison<Op, T>>(args.y, args.a, args.b, 0, 3, args.dims, args.rank, args.count, first, last);
}

/** y = a == b, f32. */
export function eqF32(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<Equal<f32>, f32>(args, first, last);
}

/** y = a != b, f32: true where either is NaN. */
export function neF32(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<NotEqual<f32>, f32>(args, first, last);
}

/** y = a < b, f32. */
export function ltF32(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<Less<f32>, f32>(args, first, last);
}

/** y = a <= b, f32. */
export function leF32(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<LessOrEqual<f32>, f32>(args, first, last);
}

/** y = a == b, i32. */
export function eqI32(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<Equal<i32>, i32>(args, first, last);
}

/** y = a != b, i32. */
export function neI32(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<NotEqual<i32>, i32>(args, first, last);
}

/** y = a < b, i32. */
export function ltI32(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<Less<i32>, i32>(args, first, last);
}

/** y = a <= b, i32. */
export function leI32(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<LessOrEqual<i32>, i32>(args, first, last);
}

/** y = a == b, u8. */
export function eqU8(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<Equal<u8>, u8>(args, first, last);
}

/** y = a != b, u8. */
export function neU8(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<NotEqual<u8>, u8>(args, first, last);
}

/** y = a < b, u8. */
export function ltU8(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<Less<u8>, u8>(args, first, last);
}

/** y = a <= b, u8. */
export function leU8(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  comparison<LessOrEqual<u8>, u8>(args, first, last);
}

/** One row of `where`: a is the condition, b and c are chosen from. */
@unmanaged
class Choice {
  run(y: usize, a: usize, b: usize, c: usize, n: i32, sy: usize, sa: usize, sb: usize, sc: usize): void {
    if (sy == 4 && sa == 1 && (sb == 4 || sb == 0) && (sc == 4 || sc == 0)) chooseDense(y, a, b, c, n, sb, sc);
    else chooseStrided(y, a, b, c, n, sy, sa, sb, sc);
  }
}

// @ts-ignore: decorator
@inline
function choose(condition: usize, a: v128, b: v128): v128 {
  const bytes = i16x8.extend_low_i8x16_u(v128.load32_zero(condition));
  return v128.bitselect(b, a, i32x4.eq(i32x4.extend_low_i16x8_u(bytes), i32x4.splat(0)));
}

function chooseDense(y: usize, condition: usize, a: usize, b: usize, n: i32, sa: usize, sb: usize): void {
  while (n > 0) {
    const yes = sa ? v128.load(a) : v128.load32_splat(a);
    const no = sb ? v128.load(b) : v128.load32_splat(b);
    storeLanes(y, choose(condition, yes, no), n);
    y += 16;
    condition += 4;
    a += sa << 2;
    b += sb << 2;
    n -= 4;
  }
}

function chooseStrided(
  y: usize,
  condition: usize,
  a: usize,
  b: usize,
  n: i32,
  sy: usize,
  sc: usize,
  sa: usize,
  sb: usize,
): void {
  for (; n > 0; n--) {
    store<i32>(y, load<i32>(load<u8>(condition) ? a : b));
    y += sy;
    condition += sc;
    a += sa;
    b += sb;
  }
}

/** y = condition ? a : b; a condition is a u8, true unless 0. */
export function where(args: WhereArgs, first: i32, last: i32, lane: i32): void {
  walk<Choice>(args.y, args.condition, args.a, args.b, 4, args.dims, args.rank, args.count, first, last);
}
