// y = a op b with broadcasting, f32.
import { powOf } from './math';
import { Input, Output, Table } from './record';
import { walk } from './strided';
import { storeLanes } from './vector';


@unmanaged
export class BinaryArgs {
  y: Output;
  a: Input;
  b: Input;
  /** Per dimension, innermost first: size, strides of y, a and b in bytes. */
  dims: Table;
  rank: i32;
  count: i32;
}

/** One row of a binary operation: fast where y is dense and a and b are dense or one number. */
@unmanaged
class Arithmetic<Op> {
  run(y: usize, a: usize, b: usize, c: usize, n: i32, sy: usize, sa: usize, sb: usize, sc: usize): void {
    if (sy == 4 && sa == 4 && sb == 4) dense<Op>(y, a, b, n);
    else if (sy == 4 && (sa == 4 || sa == 0) && (sb == 4 || sb == 0)) broadcast<Op>(y, a, b, n, sa != 0, sb != 0);
    else strided<Op>(y, a, b, n, sy, sa, sb);
  }
}

function dense<Op>(y: usize, a: usize, b: usize, n: i32): void {
  const op = changetype<Op>(0);
  for (; n >= 4; n -= 4) {
    v128.store(y, op.lanes(v128.load(a), v128.load(b)));
    y += 16;
    a += 16;
    b += 16;
  }
  if (n > 0) storeLanes(y, op.lanes(v128.load(a), v128.load(b)), n);
}

// @ts-ignore: decorator
@inline
function loadOrSplat(address: usize, many: bool): v128 {
  return many ? v128.load(address) : v128.load32_splat(address);
}

function broadcast<Op>(y: usize, a: usize, b: usize, n: i32, manyA: bool, manyB: bool): void {
  const op = changetype<Op>(0);
  for (; n >= 4; n -= 4) {
    v128.store(y, op.lanes(loadOrSplat(a, manyA), loadOrSplat(b, manyB)));
    y += 16;
    a += (<usize>manyA) << 4;
    b += (<usize>manyB) << 4;
  }
  if (n > 0) storeLanes(y, op.lanes(loadOrSplat(a, manyA), loadOrSplat(b, manyB)), n);
}

function strided<Op>(y: usize, a: usize, b: usize, n: i32, sy: usize, sa: usize, sb: usize): void {
  const op = changetype<Op>(0);
  for (; n > 0; n--) {
    v128.store32_lane(y, op.lanes(v128.load32_splat(a), v128.load32_splat(b)), 0);
    y += sy;
    a += sa;
    b += sb;
  }
}


@unmanaged
class Add {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128): v128 {
    return f32x4.add(a, b);
  }
}


@unmanaged
class Sub {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128): v128 {
    return f32x4.sub(a, b);
  }
}


@unmanaged
class Mul {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128): v128 {
    return f32x4.mul(a, b);
  }
}


@unmanaged
class Div {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128): v128 {
    return f32x4.div(a, b);
  }
}


@unmanaged
class Minimum {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128): v128 {
    return f32x4.min(a, b);
  }
}


@unmanaged
class Maximum {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128): v128 {
    return f32x4.max(a, b);
  }
}


@unmanaged
class Pow {
  lanes(a: v128, b: v128): v128 {
    let y = f32x4.splat(powOf(f32x4.extract_lane(a, 0), f32x4.extract_lane(b, 0)));
    y = f32x4.replace_lane(y, 1, powOf(f32x4.extract_lane(a, 1), f32x4.extract_lane(b, 1)));
    y = f32x4.replace_lane(y, 2, powOf(f32x4.extract_lane(a, 2), f32x4.extract_lane(b, 2)));
    return f32x4.replace_lane(y, 3, powOf(f32x4.extract_lane(a, 3), f32x4.extract_lane(b, 3)));
  }
}

// @ts-ignore: decorator
@inline
function binary<Op>(args: BinaryArgs, first: i32, last: i32): void {
  walk<Arithmetic<Op>>(args.y, args.a, args.b, 0, 3, args.dims, args.rank, args.count, first, last);
}

/** y = a + b. */
export function add(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  binary<Add>(args, first, last);
}

/** y = a - b. */
export function sub(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  binary<Sub>(args, first, last);
}

/** y = a b. */
export function mul(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  binary<Mul>(args, first, last);
}

/** y = a / b. */
export function div(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  binary<Div>(args, first, last);
}

/** y = the smaller one; NaN if either is. */
export function minimum(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  binary<Minimum>(args, first, last);
}

/** y = the larger one; NaN if either is. */
export function maximum(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  binary<Maximum>(args, first, last);
}

/** y = a^b. */
export function pow(args: BinaryArgs, first: i32, last: i32, lane: i32): void {
  binary<Pow>(args, first, last);
}
