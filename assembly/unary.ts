// y = f(x), and the gradients dx = dy f'(x), element by element over dense f32.
//
// Layouts do not matter as long as all operands share one. Parameters of an operation are handed down as vectors, so that
// they stay in registers over the loop.
import { expLanes, logLanes, sigmoidBlocks, sigmoidLanes, tanhLanes } from './math';
import { Input, Output, Table, Update } from './record';
import { clamp as clampLanes, storeLanes } from './vector';

/** Elements per tile of every elementwise kernel. */
export const ELEMENT_TILE: i32 = 16384;


@unmanaged
export class UnaryArgs {
  y: Output;
  x: Input;
  count: i32;
}

/** The gradient is written in terms of `saved`: y or x, as each kernel says. */
@unmanaged
export class UnaryBackwardArgs {
  dx: Output;
  dy: Input;
  saved: Input;
  count: i32;
}


@unmanaged
export class ClampArgs {
  y: Output;
  x: Input;
  count: i32;
  lo: f32;
  hi: f32;
}


@unmanaged
export class ClampBackwardArgs {
  dx: Output;
  dy: Input;
  x: Input;
  count: i32;
  lo: f32;
  hi: f32;
}


@unmanaged
export class AccumulateGradArgs {
  y: Update;
  x: Input;
  /** Address of an i32: 0 replaces y, anything else adds to it. */
  flag: Input;
  count: i32;
}


@unmanaged
export class MarkGradientsArgs {
  /** Addresses of the i32 flags of accumulateGrad. */
  flags: Table;
  count: i32;
}

/** y = Op(x, p, q) on the tiles first .. last - 1; p and q are the operation's parameters. */
// @ts-ignore: decorator
@inline
export function map<Op>(y: usize, x: usize, count: i32, first: i32, last: i32, p: v128, q: v128): void {
  mapRange<Op>(y, x, first * ELEMENT_TILE, min(count, last * ELEMENT_TILE), p, q);
}

/** y = Op(x, p, q) on the elements begin .. end - 1. */
function mapRange<Op>(y: usize, x: usize, begin: i32, end: i32, p: v128, q: v128): void {
  const op = changetype<Op>(0);
  let left = end - begin;
  y += (<usize>begin) << 2;
  x += (<usize>begin) << 2;
  for (; left >= 4; left -= 4) {
    v128.store(y, op.lanes(v128.load(x), p, q));
    y += 16;
    x += 16;
  }
  if (left > 0) storeLanes(y, op.lanes(v128.load(x), p, q), left);
}

/** y = Op(a, b, p, q) likewise. */
export function zip<Op>(y: usize, a: usize, b: usize, count: i32, first: i32, last: i32, p: v128, q: v128): void {
  const op = changetype<Op>(0);
  const begin = first * ELEMENT_TILE;
  let left = min(count, last * ELEMENT_TILE) - begin;
  y += (<usize>begin) << 2;
  a += (<usize>begin) << 2;
  b += (<usize>begin) << 2;
  for (; left >= 4; left -= 4) {
    v128.store(y, op.lanes(v128.load(a), v128.load(b), p, q));
    y += 16;
    a += 16;
    b += 16;
  }
  if (left > 0) storeLanes(y, op.lanes(v128.load(a), v128.load(b), p, q), left);
}


@unmanaged
class Neg {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return f32x4.neg(x);
  }
}


@unmanaged
class Abs {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return f32x4.abs(x);
  }
}


@unmanaged
class Sqrt {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return f32x4.sqrt(x);
  }
}


@unmanaged
class Square {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return f32x4.mul(x, x);
  }
}

/** p = 1. */
@unmanaged
class Reciprocal {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return f32x4.div(p, x);
  }
}


@unmanaged
class Exp {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return expLanes(x);
  }
}


@unmanaged
class Log {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return logLanes(x);
  }
}


@unmanaged
class Sigmoid {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return sigmoidLanes(x);
  }
}


@unmanaged
class Tanh {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return tanhLanes(x);
  }
}

/** p = 0. */
@unmanaged
class Relu {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return f32x4.pmax(x, p);
  }
}

/** p = lo, q = hi. */
@unmanaged
class Clamp {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return clampLanes(x, p, q);
  }
}

/** p = 1. */
@unmanaged
class SigmoidBackward {
  // @ts-ignore: decorator
  @inline
  lanes(dy: v128, y: v128, p: v128, q: v128): v128 {
    return f32x4.mul(dy, f32x4.mul(y, f32x4.sub(p, y)));
  }
}

/** p = 1. */
@unmanaged
class TanhBackward {
  // @ts-ignore: decorator
  @inline
  lanes(dy: v128, y: v128, p: v128, q: v128): v128 {
    return f32x4.mul(dy, f32x4.sub(p, f32x4.mul(y, y)));
  }
}

/** p = 0. */
@unmanaged
class ReluBackward {
  // @ts-ignore: decorator
  @inline
  lanes(dy: v128, y: v128, p: v128, q: v128): v128 {
    return v128.andnot(dy, f32x4.le(y, p));
  }
}

/** p = lo, q = hi. */
@unmanaged
class ClampBackward {
  // @ts-ignore: decorator
  @inline
  lanes(dy: v128, x: v128, p: v128, q: v128): v128 {
    return v128.and(dy, v128.and(f32x4.ge(x, p), f32x4.le(x, q)));
  }
}

/** p = lo, q = hi. */
@unmanaged
class HardtanhBackward {
  // @ts-ignore: decorator
  @inline
  lanes(dy: v128, y: v128, p: v128, q: v128): v128 {
    return v128.andnot(dy, v128.or(f32x4.le(y, p), f32x4.ge(y, q)));
  }
}

/** p = 0, q = -0, the sign bit. */
@unmanaged
class AbsBackward {
  // @ts-ignore: decorator
  @inline
  lanes(dy: v128, x: v128, p: v128, q: v128): v128 {
    return v128.and(v128.xor(dy, v128.and(x, q)), f32x4.gt(f32x4.abs(x), p));
  }
}

/** p = 1/2. */
@unmanaged
class SqrtBackward {
  // @ts-ignore: decorator
  @inline
  lanes(dy: v128, y: v128, p: v128, q: v128): v128 {
    return f32x4.div(f32x4.mul(dy, p), y);
  }
}


@unmanaged
class Sum {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128, p: v128, q: v128): v128 {
    return f32x4.add(a, b);
  }
}

// @ts-ignore: decorator
@inline
function unary<Op>(args: UnaryArgs, first: i32, last: i32, p: f32): void {
  map<Op>(args.y, args.x, args.count, first, last, f32x4.splat(p), f32x4.splat(0));
}

// @ts-ignore: decorator
@inline
function unaryBackward<Op>(args: UnaryBackwardArgs, first: i32, last: i32, p: f32): void {
  zip<Op>(args.dx, args.dy, args.saved, args.count, first, last, f32x4.splat(p), i32x4.splat(<i32>0x80000000));
}

/** y = -x. */
export function neg(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  unary<Neg>(args, first, last, 0);
}

/** y = |x|. */
export function abs(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  unary<Abs>(args, first, last, 0);
}

/** y = sqrt(x), correctly rounded; NaN below 0. */
export function sqrt(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  unary<Sqrt>(args, first, last, 0);
}

/** y = x^2. */
export function square(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  unary<Square>(args, first, last, 0);
}

/** y = 1 / x. */
export function reciprocal(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  unary<Reciprocal>(args, first, last, 1);
}

/** y = exp(x). */
export function exp(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  unary<Exp>(args, first, last, 0);
}

/** y = log(x). */
export function log(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  unary<Log>(args, first, last, 0);
}

/** y = 1 / (1 + exp(-x)). */
export function sigmoid(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  sigmoidTiles(args.y, args.x, args.count, first, last);
}

export function sigmoidTiles(y: usize, x: usize, count: i32, first: i32, last: i32): void {
  const begin = first * ELEMENT_TILE;
  const end = min(count, last * ELEMENT_TILE);
  const blocks = (end - begin) >> 4;
  sigmoidBlocks(y + ((<usize>begin) << 2), x + ((<usize>begin) << 2), blocks);
  mapRange<Sigmoid>(y, x, begin + (blocks << 4), end, f32x4.splat(0), f32x4.splat(0));
}

/** y = tanh(x). */
export function tanh(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  unary<Tanh>(args, first, last, 0);
}

/** y = max(x, 0), keeping NaN. */
export function relu(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  unary<Relu>(args, first, last, 0);
}

/** y = min(max(x, lo), hi), keeping NaN. */
export function clamp(args: ClampArgs, first: i32, last: i32, lane: i32): void {
  map<Clamp>(args.y, args.x, args.count, first, last, f32x4.splat(args.lo), f32x4.splat(args.hi));
}

/** dx = dy y (1 - y). */
export function sigmoidBackward(args: UnaryBackwardArgs, first: i32, last: i32, lane: i32): void {
  unaryBackward<SigmoidBackward>(args, first, last, 1);
}

/** dx = dy (1 - y^2). */
export function tanhBackward(args: UnaryBackwardArgs, first: i32, last: i32, lane: i32): void {
  unaryBackward<TanhBackward>(args, first, last, 1);
}

/** dx = dy where y > 0, else 0; dy where y is NaN, as PyTorch's threshold_backward. `saved` may be x as well. */
export function reluBackward(args: UnaryBackwardArgs, first: i32, last: i32, lane: i32): void {
  unaryBackward<ReluBackward>(args, first, last, 0);
}

/** dx = dy sign(x), 0 at 0 and at NaN. */
export function absBackward(args: UnaryBackwardArgs, first: i32, last: i32, lane: i32): void {
  unaryBackward<AbsBackward>(args, first, last, 0);
}

/** dx = dy / (2 y) of y = sqrt(x). */
export function sqrtBackward(args: UnaryBackwardArgs, first: i32, last: i32, lane: i32): void {
  unaryBackward<SqrtBackward>(args, first, last, 0.5);
}

/** dx = dy where lo <= x <= hi, else 0. */
export function clampBackward(args: ClampBackwardArgs, first: i32, last: i32, lane: i32): void {
  zip<ClampBackward>(args.dx, args.dy, args.x, args.count, first, last, f32x4.splat(args.lo), f32x4.splat(args.hi));
}

/** dx = dy, but 0 where y = x lies on a bound or beyond. */
export function hardtanhBackward(args: ClampBackwardArgs, first: i32, last: i32, lane: i32): void {
  zip<HardtanhBackward>(args.dx, args.dy, args.x, args.count, first, last, f32x4.splat(args.lo), f32x4.splat(args.hi));
}

/** y = x, or y = y + x where the flag is set: a gradient that arrives where one may already lie. */
export function accumulateGrad(args: AccumulateGradArgs, first: i32, last: i32, lane: i32): void {
  const y = args.y;
  if (load<i32>(args.flag)) {
    zip<Sum>(y, y, args.x, args.count, first, last, f32x4.splat(0), f32x4.splat(0));
  } else {
    const begin = first * ELEMENT_TILE;
    const bytes = (<usize>(min(args.count, last * ELEMENT_TILE) - begin)) << 2;
    memory.copy(y + ((<usize>begin) << 2), args.x + ((<usize>begin) << 2), bytes);
  }
}

/** Sets flags: these gradients are there. One tile. */
export function markGradients(args: MarkGradientsArgs, first: i32, last: i32, lane: i32): void {
  for (let i = 0; i < args.count; i++) store<i32>(load<usize>(args.flags + ((<usize>i) << 2)), 1);
}
