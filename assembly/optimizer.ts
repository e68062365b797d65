// SGD, Adam and AdamW as torch.optim computes them: every parameter of a list in one pass over memory.
//
// Hyper-parameters change from step to step, so no record holds them: they lie in a block of f64 words in linear memory, which
// TypeScript writes. Each parameter has a counter of its own, since it may have made fewer steps than its neighbours. Once per
// step `sgdAdvance` or `adamAdvance` counts in every counter and derives the f32 coefficients behind it; then `sgd` or `adam`
// reads those. The powers of Adam's betas are running products in f64: no pow.
//
// Gradients and state below TINY count as 0: wasm cannot flush denormals, and arithmetic on them is 10 to 100 times slower.
import { Input, Table } from './record';
import { madd, storeLanes } from './vector';


@unmanaged
export class OptimizerArgs {
  /** Words per parameter: address of it, of its gradient, of its first and second state (0 if none), of its counter; count, first tile. */
  entries: Table;
  /** Number of parameters; none of them is empty. */
  count: i32;
  /** The block of hyper-parameters. */
  block: Input;
}

/** Elements per tile. A parameter of n elements has ceil(n / OPTIMIZER_TILE) tiles of its own. */
export const OPTIMIZER_TILE: i32 = 8192;
const ENTRY_BYTES: usize = 28;
const TINY: f32 = 1e-30;
/** Root of TINY: the square of a smaller gradient alone never lifts Adam's mean square above TINY, and would be a denormal. */
const TINY_ROOT: f32 = 1e-15;

/** Byte offsets in the block of sgd; flags are 0 or 1. */
export const SGD_LR: usize = 0;
export const SGD_MOMENTUM: usize = 8;
export const SGD_DAMPENING: usize = 16;
export const SGD_WEIGHT_DECAY: usize = 24;
export const SGD_NESTEROV: usize = 32;
export const SGD_MAXIMIZE: usize = 40;
export const SGD_BLOCK_BYTES: usize = 48;

/** Byte offsets in the block of adam; flags are 0 or 1. */
export const ADAM_LR: usize = 0;
export const ADAM_BETA1: usize = 8;
export const ADAM_BETA2: usize = 16;
export const ADAM_EPS: usize = 24;
export const ADAM_WEIGHT_DECAY: usize = 32;
/** 1: AdamW, the decay acts on the parameter and not on the gradient. */
export const ADAM_DECOUPLED: usize = 40;
export const ADAM_MAXIMIZE: usize = 48;
export const ADAM_BLOCK_BYTES: usize = 56;

/** Byte offsets in the counter of a parameter: the steps it has made, and Adam's beta1 and beta2 to the power of them, 1 at the start. */
export const COUNTER_STEPS: usize = 0;
export const COUNTER_POWER1: usize = 8;
export const COUNTER_POWER2: usize = 16;
/** The f32 coefficients of the running step; derived, never read by others. */
const COUNTER_COEFFICIENTS: usize = 24;
export const COUNTER_BYTES: usize = 72;

// ---- The walk over parameters --------------------------------------------------------------------------------------------

/** What is done to one range of one parameter. */
@unmanaged
class Sgd {

  @inline update(p: usize, g: usize, state1: usize, state2: usize, n: i32, c: usize, block: usize): void {
    if (state1) sgdMomentum(p, g, state1, n, c, load<f64>(block, SGD_NESTEROV) != 0);
    else sgdPlain(p, g, n, c);
  }
}


@unmanaged
class Adam {

  @inline update(p: usize, g: usize, state1: usize, state2: usize, n: i32, c: usize, block: usize): void {
    adamRange(p, g, state1, state2, n, c);
  }
}

function walk<Method>(args: OptimizerArgs, first: i32, last: i32): void {
  const method = changetype<Method>(0);
  let entry = args.entries + <usize>entryOf(args, first) * ENTRY_BYTES;
  for (let tile = first; tile < last; tile++) {
    const count = load<i32>(entry, 20);
    const start = (tile - load<i32>(entry, 24)) * OPTIMIZER_TILE;
    const at = (<usize>start) << 2;
    const state1 = load<usize>(entry, 8);
    const state2 = load<usize>(entry, 12);
    method.update(
      load<usize>(entry) + at,
      load<usize>(entry, 4) + at,
      state1 ? state1 + at : 0,
      state2 ? state2 + at : 0,
      min(OPTIMIZER_TILE, count - start),
      load<usize>(entry, 16) + COUNTER_COEFFICIENTS,
      args.block,
    );
    if (start + OPTIMIZER_TILE >= count) entry += ENTRY_BYTES;
  }
}

/** The parameter that a tile belongs to: the last one whose first tile is not behind it. */
function entryOf(args: OptimizerArgs, tile: i32): i32 {
  let low = 0;
  let high = args.count;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (load<i32>(args.entries + <usize>middle * ENTRY_BYTES, 24) <= tile) low = middle;
    else high = middle;
  }
  return low;
}

function counterOf(args: OptimizerArgs, parameter: i32): usize {
  return load<usize>(args.entries + <usize>parameter * ENTRY_BYTES, 16);
}

/** Numbers of magnitude below `tiny` become 0; NaN stays. */
// @ts-ignore: decorator
@inline
function flush(x: v128, tiny: v128): v128 {
  return v128.andnot(x, f32x4.lt(f32x4.abs(x), tiny));
}

// ---- SGD ----------------------------------------------------------------------------------------------------------------

/** Counts a step of each parameter. A tile is a parameter. */
export function sgdAdvance(args: OptimizerArgs, first: i32, last: i32, lane: i32): void {
  for (let i = first; i < last; i++) sgdCount(counterOf(args, i), args.block);
}

/**
 * Counts a step and derives the coefficients sign, weight decay, momentum, 1 - dampening, -lr, TINY. The first step of a parameter
 * stores its gradient in the momentum buffer undampened.
 */
function sgdCount(counter: usize, block: usize): void {
  const steps = load<f64>(counter, COUNTER_STEPS) + 1;
  store<f64>(counter, steps, COUNTER_STEPS);
  const dampening: f64 = steps == 1 ? 0 : load<f64>(block, SGD_DAMPENING);
  const c = counter + COUNTER_COEFFICIENTS;
  store<f32>(c, load<f64>(block, SGD_MAXIMIZE) != 0 ? -1 : 1);
  store<f32>(c, <f32>load<f64>(block, SGD_WEIGHT_DECAY), 4);
  store<f32>(c, <f32>load<f64>(block, SGD_MOMENTUM), 8);
  store<f32>(c, <f32>(1 - dampening), 12);
  store<f32>(c, <f32>-load<f64>(block, SGD_LR), 16);
  store<f32>(c, TINY, 20);
}

/** p -= lr d with d = g + weightDecay p; with state b: b = momentum b + (1 - dampening) d, and d = b, or d + momentum b (Nesterov). */
export function sgd(args: OptimizerArgs, first: i32, last: i32, lane: i32): void {
  walk<Sgd>(args, first, last);
}

function sgdPlain(p: usize, g: usize, n: i32, c: usize): void {
  const sign = v128.load32_splat(c);
  const decay = v128.load32_splat(c, 4);
  const rate = v128.load32_splat(c, 16);
  const tiny = v128.load32_splat(c, 20);
  for (; n > 0; n -= 4, p += 16, g += 16) {
    const x = v128.load(p);
    const d = madd(decay, x, f32x4.mul(sign, flush(v128.load(g), tiny)));
    storeLanes(p, madd(rate, d, x), n);
  }
}

function sgdMomentum(p: usize, g: usize, b: usize, n: i32, c: usize, nesterov: bool): void {
  const sign = v128.load32_splat(c);
  const decay = v128.load32_splat(c, 4);
  const momentum = v128.load32_splat(c, 8);
  const share = v128.load32_splat(c, 12);
  const rate = v128.load32_splat(c, 16);
  const tiny = v128.load32_splat(c, 20);
  for (; n > 0; n -= 4, p += 16, g += 16, b += 16) {
    const x = v128.load(p);
    let d = madd(decay, x, f32x4.mul(sign, flush(v128.load(g), tiny)));
    const average = flush(madd(momentum, v128.load(b), f32x4.mul(share, d)), tiny);
    storeLanes(b, average, n);
    if (nesterov) d = madd(momentum, average, d);
    else d = average;
    storeLanes(p, madd(rate, d, x), n);
  }
}

// ---- Adam ---------------------------------------------------------------------------------------------------------------

/** Counts a step of each parameter. A tile is a parameter. */
export function adamAdvance(args: OptimizerArgs, first: i32, last: i32, lane: i32): void {
  for (let i = first; i < last; i++) adamCount(counterOf(args, i), args.block);
}

/**
 * Counts a step and derives the coefficients: sign, decay of the gradient, factor of the parameter, beta1, 1 - beta1, beta2,
 * 1 - beta2, -lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t), eps, TINY, TINY_ROOT.
 */
function adamCount(counter: usize, block: usize): void {
  const beta1 = load<f64>(block, ADAM_BETA1);
  const beta2 = load<f64>(block, ADAM_BETA2);
  const power1 = load<f64>(counter, COUNTER_POWER1) * beta1;
  const power2 = load<f64>(counter, COUNTER_POWER2) * beta2;
  store<f64>(counter, load<f64>(counter, COUNTER_STEPS) + 1, COUNTER_STEPS);
  store<f64>(counter, power1, COUNTER_POWER1);
  store<f64>(counter, power2, COUNTER_POWER2);
  const lr = load<f64>(block, ADAM_LR);
  const decay = load<f64>(block, ADAM_WEIGHT_DECAY);
  const decoupled = load<f64>(block, ADAM_DECOUPLED) != 0;
  const c = counter + COUNTER_COEFFICIENTS;
  store<f32>(c, load<f64>(block, ADAM_MAXIMIZE) != 0 ? -1 : 1);
  store<f32>(c, decoupled ? 0 : <f32>decay, 4);
  store<f32>(c, decoupled ? <f32>(1 - lr * decay) : 1, 8);
  store<f32>(c, <f32>beta1, 12);
  store<f32>(c, <f32>(1 - beta1), 16);
  store<f32>(c, <f32>beta2, 20);
  store<f32>(c, <f32>(1 - beta2), 24);
  store<f32>(c, <f32>(-lr / (1 - power1)), 28);
  store<f32>(c, <f32>(1 / sqrt<f64>(1 - power2)), 32);
  store<f32>(c, <f32>load<f64>(block, ADAM_EPS), 36);
  store<f32>(c, TINY, 40);
  store<f32>(c, TINY_ROOT, 44);
}

/** m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p = factor p - lr mhat / (sqrt(vhat) + eps). */
export function adam(args: OptimizerArgs, first: i32, last: i32, lane: i32): void {
  walk<Adam>(args, first, last);
}

function adamRange(p: usize, g: usize, m: usize, v: usize, n: i32, c: usize): void {
  const tiny = v128.load32_splat(c, 40);
  for (; n > 0; n -= 4, p += 16, g += 16, m += 16, v += 16) {
    const x = v128.load(p);
    const d = madd(v128.load32_splat(c, 4), x, f32x4.mul(v128.load32_splat(c), flush(v128.load(g), tiny)));
    const mean = flush(madd(v128.load32_splat(c, 12), v128.load(m), f32x4.mul(v128.load32_splat(c, 16), d)), tiny);
    const large = flush(d, v128.load32_splat(c, 44));
    const square = f32x4.mul(f32x4.mul(v128.load32_splat(c, 24), large), large);
    const variance = flush(madd(v128.load32_splat(c, 20), v128.load(v), square), tiny);
    storeLanes(m, mean, n);
    storeLanes(v, variance, n);
    const root = madd(f32x4.sqrt(variance), v128.load32_splat(c, 32), v128.load32_splat(c, 36));
    const kept = f32x4.mul(v128.load32_splat(c, 8), x);
    storeLanes(p, madd(v128.load32_splat(c, 28), f32x4.div(mean, root), kept), n);
  }
}
