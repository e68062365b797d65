// y = x between any two layouts of one shape, casts on the way, and transposes.
//
// Padding, concatenation, slices and flips are copies between parts: the caller sets addresses and strides.
import { Input, Output, Table, Update } from './record';
import { walk } from './strided';


@unmanaged
export class CopyArgs {
  y: Output;
  x: Input;
  /** Per dimension, innermost first: size, strides of y and x in bytes. */
  dims: Table;
  rank: i32;
  count: i32;
}

/** The same where y is a part of a larger tensor, whose other elements stay. */
@unmanaged
export class CopyIntoArgs {
  y: Update;
  x: Input;
  dims: Table;
  rank: i32;
  count: i32;
}

/** Rows shorter than this are copied by vectors: memory.copy costs about 20 ns for its call out of wasm. */
const BULK_BYTES: i32 = 512;

/** One row of equal elements of type T. */
@unmanaged
class Move<T> {
  run(y: usize, x: usize, b: usize, c: usize, n: i32, sy: usize, sx: usize, sb: usize, sc: usize): void {
    if (sy == sizeof<T>() && sx == sizeof<T>()) moveDense(y, x, n * <i32>sizeof<T>());
    else if (sy == sizeof<T>() && sx == 0) repeat<T>(y, load<T>(x), n);
    else moveStrided<T>(y, x, n, sy, sx);
  }
}

function moveDense(y: usize, x: usize, bytes: i32): void {
  if (bytes >= BULK_BYTES) {
    memory.copy(y, x, bytes);
    return;
  }
  for (; bytes >= 16; bytes -= 16) {
    v128.store(y, v128.load(x));
    y += 16;
    x += 16;
  }
  for (; bytes >= 4; bytes -= 4) {
    store<i32>(y, load<i32>(x));
    y += 4;
    x += 4;
  }
  for (; bytes > 0; bytes--) store<u8>(y++, load<u8>(x++));
}

function repeat<T>(y: usize, value: T, n: i32): void {
  const lanes: i32 = 16 / sizeof<T>();
  const values = sizeof<T>() == 4 ? i32x4.splat(<i32>value) : i8x16.splat(<i8>value);
  for (; n >= lanes; n -= lanes) {
    v128.store(y, values);
    y += 16;
  }
  for (; n > 0; n--) {
    store<T>(y, value);
    y += sizeof<T>();
  }
}

function moveStrided<T>(y: usize, x: usize, n: i32, sy: usize, sx: usize): void {
  for (; n > 0; n--) {
    store<T>(y, load<T>(x));
    y += sy;
    x += sx;
  }
}

/** One row of elements of type T that lie apart on either side. */
@unmanaged
class MoveApart<T> {
  run(y: usize, x: usize, b: usize, c: usize, n: i32, sy: usize, sx: usize, sb: usize, sc: usize): void {
    moveStrided<T>(y, x, n, sy, sx);
  }
}

/** y = x, 4-byte elements. */
export function copy(args: CopyArgs, first: i32, last: i32, lane: i32): void {
  walk<Move<i32>>(args.y, args.x, 0, 0, 2, args.dims, args.rank, args.count, first, last);
}

/** y = x, 4-byte elements, y a part of a tensor. */
export function copyInto(args: CopyIntoArgs, first: i32, last: i32, lane: i32): void {
  walk<Move<i32>>(args.y, args.x, 0, 0, 2, args.dims, args.rank, args.count, first, last);
}

/** y = x, 1-byte elements. */
export function copyBytes(args: CopyArgs, first: i32, last: i32, lane: i32): void {
  walk<Move<u8>>(args.y, args.x, 0, 0, 2, args.dims, args.rank, args.count, first, last);
}

/** y = x, 1-byte elements, y a part of a tensor. */
export function copyBytesInto(args: CopyIntoArgs, first: i32, last: i32, lane: i32): void {
  walk<Move<u8>>(args.y, args.x, 0, 0, 2, args.dims, args.rank, args.count, first, last);
}

/** y = x, pairs of 4-byte elements; sizes and count are of pairs. */
export function copyPairs(args: CopyArgs, first: i32, last: i32, lane: i32): void {
  walk<MoveApart<i64>>(args.y, args.x, 0, 0, 2, args.dims, args.rank, args.count, first, last);
}

/** y = x, four 4-byte elements at a time; sizes and count are of fours. */
export function copyFours(args: CopyArgs, first: i32, last: i32, lane: i32): void {
  walk<MoveApart<v128>>(args.y, args.x, 0, 0, 2, args.dims, args.rank, args.count, first, last);
}
