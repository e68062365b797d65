// Activations of newer networks, and their gradients: leaky ReLU, SiLU, and its piecewise stand-ins hardsigmoid and hardswish.
//
//   silu(x) = x sigmoid(x)      hardsigmoid(x) = min(max(x + 3, 0), 6) / 6      hardswish(x) = x hardsigmoid(x)
import { Input, Output } from './record';
import { map, sigmoidTiles, UnaryArgs, UnaryBackwardArgs, zip } from './unary';
import { clamp } from './vector';


@unmanaged
export class LeakyReluArgs {
  y: Output;
  x: Input;
  count: i32;
  slope: f32;
}


@unmanaged
export class LeakyReluBackwardArgs {
  dx: Output;
  dy: Input;
  x: Input;
  count: i32;
  slope: f32;
}

/** p = 0, q = slope. NaN stays. */
@unmanaged
class LeakyRelu {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return v128.bitselect(x, f32x4.mul(x, q), f32x4.gt(x, p));
  }
}

/** p = 0, q = slope. */
@unmanaged
class LeakyReluBackward {
  // @ts-ignore: decorator
  @inline
  lanes(dy: v128, x: v128, p: v128, q: v128): v128 {
    return v128.bitselect(dy, f32x4.mul(dy, q), f32x4.gt(x, p));
  }
}


@unmanaged
class Product {
  // @ts-ignore: decorator
  @inline
  lanes(a: v128, b: v128, p: v128, q: v128): v128 {
    return f32x4.mul(a, b);
  }
}

/** p = 1: s (1 + x (1 - s)) for s = sigmoid(x). */
@unmanaged
class SiluSlope {
  // @ts-ignore: decorator
  @inline
  lanes(s: v128, x: v128, p: v128, q: v128): v128 {
    return f32x4.mul(s, f32x4.add(p, f32x4.mul(x, f32x4.sub(p, s))));
  }
}

/** p = 3, q = 1/6. */
@unmanaged
class Hardsigmoid {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return f32x4.mul(clamp(f32x4.add(x, p), f32x4.sub(p, p), f32x4.add(p, p)), q);
  }
}

/** p = 3, q = 1/6. */
@unmanaged
class HardsigmoidBackward {
  // @ts-ignore: decorator
  @inline
  lanes(dy: v128, x: v128, p: v128, q: v128): v128 {
    return v128.and(f32x4.mul(dy, q), f32x4.lt(f32x4.abs(x), p));
  }
}

/** p = 3, q = 1/6. */
@unmanaged
class Hardswish {
  // @ts-ignore: decorator
  @inline
  lanes(x: v128, p: v128, q: v128): v128 {
    return f32x4.mul(x, f32x4.mul(clamp(f32x4.add(x, p), f32x4.sub(p, p), f32x4.add(p, p)), q));
  }
}

/** p = 3, q = 1/6: (2 x + 3) / 6 from -3 to below 3, before that 0, from 3 on and for NaN 1, as PyTorch has it. */
@unmanaged
class HardswishBackward {
  // @ts-ignore: decorator
  @inline
  lanes(dy: v128, x: v128, p: v128, q: v128): v128 {
    const slope = f32x4.mul(f32x4.add(f32x4.add(x, x), p), q);
    const inner = f32x4.mul(dy, slope);
    return v128.andnot(v128.bitselect(inner, dy, f32x4.lt(x, p)), f32x4.lt(x, f32x4.neg(p)));
  }
}

/** y = x where x > 0, else slope x. */
export function leakyRelu(args: LeakyReluArgs, first: i32, last: i32, lane: i32): void {
  map<LeakyRelu>(args.y, args.x, args.count, first, last, f32x4.splat(0), f32x4.splat(args.slope));
}

/** dx = dy where x > 0, else slope dy. */
export function leakyReluBackward(args: LeakyReluBackwardArgs, first: i32, last: i32, lane: i32): void {
  zip<LeakyReluBackward>(args.dx, args.dy, args.x, args.count, first, last, f32x4.splat(0), f32x4.splat(args.slope));
}

/** y = x sigmoid(x); y is not x. Tile by tile, so that the second pass finds both in a cache. */
export function silu(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  const none = f32x4.splat(0);
  for (let tile = first; tile < last; tile++) {
    sigmoidTiles(args.y, args.x, args.count, tile, tile + 1);
    zip<Product>(args.y, args.y, args.x, args.count, tile, tile + 1, none, none);
  }
}

/** dx = dy s (1 + x (1 - s)), s = sigmoid(x); dx is neither x nor dy. */
export function siluBackward(args: UnaryBackwardArgs, first: i32, last: i32, lane: i32): void {
  const one = f32x4.splat(1);
  for (let tile = first; tile < last; tile++) {
    sigmoidTiles(args.dx, args.saved, args.count, tile, tile + 1);
    zip<SiluSlope>(args.dx, args.dx, args.saved, args.count, tile, tile + 1, one, one);
    zip<Product>(args.dx, args.dx, args.dy, args.count, tile, tile + 1, one, one);
  }
}

// @ts-ignore: decorator
@inline
function mapHard<Op>(args: UnaryArgs, first: i32, last: i32): void {
  map<Op>(args.y, args.x, args.count, first, last, f32x4.splat(3), f32x4.splat(<f32>(1.0 / 6.0)));
}

// @ts-ignore: decorator
@inline
function zipHard<Op>(args: UnaryBackwardArgs, first: i32, last: i32): void {
  zip<Op>(args.dx, args.dy, args.saved, args.count, first, last, f32x4.splat(3), f32x4.splat(<f32>(1.0 / 6.0)));
}

/** y = min(max(x + 3, 0), 6) / 6. */
export function hardsigmoid(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  mapHard<Hardsigmoid>(args, first, last);
}

/** dx = dy / 6 where |x| < 3, else 0. */
export function hardsigmoidBackward(args: UnaryBackwardArgs, first: i32, last: i32, lane: i32): void {
  zipHard<HardsigmoidBackward>(args, first, last);
}

/** y = x min(max(x + 3, 0), 6) / 6. */
export function hardswish(args: UnaryArgs, first: i32, last: i32, lane: i32): void {
  mapHard<Hardswish>(args, first, last);
}

/** dx = dy (2 x + 3) / 6 where -3 <= x < 3, dy above, 0 below. */
export function hardswishBackward(args: UnaryBackwardArgs, first: i32, last: i32, lane: i32): void {
  zipHard<HardswishBackward>(args, first, last);
}
