// The gradients of batch normalisation: one pass for the sums of g and g (x - mean), and one for dx; g is dy where the clamp let
// y through.
import {
  blockLength,
  blocksOf,
  floats,
  inverseDeviation,
  partialOf,
  planeOffset,
  storeFloats,
} from './batch-norm-blocks';
import { scratch } from './control';
import { Input, Output } from './record';
import { laneMask, madd, storeLanes, sumLanes } from './vector';


@unmanaged
export class BatchNormSumsArgs {
  /** [blocks, 2, C]: sums of g and of g (x - mean). */
  partials: Output;
  dy: Input;
  x: Input;
  mean: Input;
  /** The clamped output; 0: nothing was clamped. */
  y: Input;
  C: i32;
  length: i32;
  block: i32;
  lo: f32;
  hi: f32;
}


@unmanaged
export class BatchNormGradientsArgs {
  dweight: Output;
  dbias: Output;
  /** [3, C]: A, B, K of dx = A g + B (x - mean) + K, the mean as it was rounded. */
  coefficients: Output;
  partials: Input;
  variance: Input;
  /** What the mean lost when it was rounded; 0: nothing. */
  rest: Input;
  /** 0: ones. */
  weight: Input;
  C: i32;
  blocks: i32;
  /** Elements per channel whose statistics were used; 0: mean and variance were given. */
  count: i32;
  eps: f32;
}


@unmanaged
export class BatchNormInputGradArgs {
  dx: Output;
  dy: Input;
  x: Input;
  mean: Input;
  coefficients: Input;
  /** The clamped output; 0: nothing was clamped. */
  y: Input;
  C: i32;
  length: i32;
  block: i32;
  lo: f32;
  hi: f32;
}


@unmanaged
class Open {

  @inline pass(dy: v128, y: usize, lo: v128, hi: v128): v128 {
    return dy;
  }
}

/** 0 where the clamp held y at a bound, as PyTorch's relu and hardtanh; NaN passes. */
@unmanaged
class Clamped {

  @inline pass(dy: v128, y: usize, lo: v128, hi: v128): v128 {
    const value = v128.load(y);
    return v128.andnot(dy, v128.or(f32x4.le(value, lo), f32x4.ge(value, hi)));
  }
}

/** A tile is a block of rows. Scratch: 2 C floats, each C rounded up to 8. */
export function batchNormSumsColumns(args: BatchNormSumsArgs, first: i32, last: i32, lane: i32): void {
  const C = args.C;
  const stride = floats(C);
  const padded = (stride + 31) & ~31;
  const sums = scratch(lane);
  for (let b = first; b < last; b++) {
    const rows = blockLength(b, args.length, args.block);
    const at = <usize>(b * args.block) * stride;
    memory.fill(sums, 0, 2 * padded);
    if (args.y) gradientRows<Clamped>(args, sums, at, rows, stride);
    else gradientRows<Open>(args, sums, at, rows, stride);
    const partial = args.partials + <usize>(2 * b) * stride;
    storeFloats(partial, sums, C);
    storeFloats(partial + stride, sums + padded, C);
  }
}

function gradientRows<M>(args: BatchNormSumsArgs, sums: usize, at: usize, rows: i32, stride: usize): void {
  for (; rows >= 2; rows -= 2, at += 2 * stride) addGradientTwo<M>(args, sums, at, stride);
  if (rows) addGradient<M>(args, sums, at, stride);
}

function addGradientTwo<M>(args: BatchNormSumsArgs, sums: usize, at: usize, stride: usize): void {
  const op = changetype<M>(0);
  const products = sums + ((stride + 31) & ~31);
  const means = args.mean;
  const dy = args.dy + at;
  const x = args.x + at;
  const y = args.y + at;
  const lo = f32x4.splat(args.lo);
  const hi = f32x4.splat(args.hi);
  for (let i: usize = 0; i < stride; i += 32) {
    const m0 = v128.load(means + i);
    const m1 = v128.load(means + i, 16);
    const p = dy + i;
    const q = x + i;
    const r = y + i;
    const g0 = op.pass(v128.load(p), r, lo, hi);
    const g1 = op.pass(v128.load(p, 16), r + 16, lo, hi);
    const h0 = op.pass(v128.load(p + stride), r + stride, lo, hi);
    const h1 = op.pass(v128.load(p + stride, 16), r + stride + 16, lo, hi);
    const s0 = f32x4.add(v128.load(sums + i), f32x4.add(g0, h0));
    const s1 = f32x4.add(v128.load(sums + i, 16), f32x4.add(g1, h1));
    v128.store(sums + i, s0);
    v128.store(sums + i, s1, 16);
    const a0 = madd(g0, f32x4.sub(v128.load(q), m0), v128.load(products + i));
    const a1 = madd(g1, f32x4.sub(v128.load(q, 16), m1), v128.load(products + i, 16));
    const b0 = madd(h0, f32x4.sub(v128.load(q + stride), m0), a0);
    const b1 = madd(h1, f32x4.sub(v128.load(q + stride, 16), m1), a1);
    v128.store(products + i, b0);
    v128.store(products + i, b1, 16);
  }
}

function addGradient<M>(args: BatchNormSumsArgs, sums: usize, at: usize, stride: usize): void {
  const op = changetype<M>(0);
  const products = sums + ((stride + 31) & ~31);
  const lo = f32x4.splat(args.lo);
  const hi = f32x4.splat(args.hi);
  for (let i: usize = 0; i < stride; i += 16) {
    const g = op.pass(v128.load(args.dy + at + i), args.y + at + i, lo, hi);
    const x = f32x4.sub(v128.load(args.x + at + i), v128.load(args.mean + i));
    v128.store(sums + i, f32x4.add(v128.load(sums + i), g));
    v128.store(products + i, madd(g, x, v128.load(products + i)));
  }
}

/** A tile is a block of a plane. */
export function batchNormSumsPlanes(args: BatchNormSumsArgs, first: i32, last: i32, lane: i32): void {
  const blocks = blocksOf(args.length, args.block);
  for (let tile = first; tile < last; tile++) {
    const plane = tile / blocks;
    const b = tile - plane * blocks;
    const at = planeOffset(plane, b, args.length, args.block);
    const n = blockLength(b, args.length, args.block);
    const mean = load<f32>(args.mean + floats(plane % args.C));
    const sums = partialOf(args.partials, 2, args.C, plane, b, blocks);
    if (args.y) planeGradient<Clamped>(args, sums, at, n, mean);
    else planeGradient<Open>(args, sums, at, n, mean);
  }
}

function planeGradient<M>(args: BatchNormSumsArgs, sums: usize, at: usize, n: i32, mean: f32): void {
  const op = changetype<M>(0);
  const m = f32x4.splat(mean);
  const lo = f32x4.splat(args.lo);
  const hi = f32x4.splat(args.hi);
  let dy = args.dy + at;
  let x = args.x + at;
  let y = args.y + at;
  let s0 = i32x4.splat(0);
  let s1 = s0;
  let p0 = s0;
  let p1 = s0;
  for (; n >= 8; n -= 8, dy += 32, x += 32, y += 32) {
    const g0 = op.pass(v128.load(dy), y, lo, hi);
    const g1 = op.pass(v128.load(dy, 16), y + 16, lo, hi);
    s0 = f32x4.add(s0, g0);
    s1 = f32x4.add(s1, g1);
    p0 = madd(g0, f32x4.sub(v128.load(x), m), p0);
    p1 = madd(g1, f32x4.sub(v128.load(x, 16), m), p1);
  }
  for (; n > 0; n -= 4, dy += 16, x += 16, y += 16) {
    const mask = laneMask(n);
    const g = v128.and(op.pass(v128.load(dy), y, lo, hi), mask);
    s0 = f32x4.add(s0, g);
    p0 = madd(g, v128.and(f32x4.sub(v128.load(x), m), mask), p0);
  }
  store<f32>(sums, sumLanes(f32x4.add(s0, s1)));
  store<f32>(sums + floats(args.C), sumLanes(f32x4.add(p0, p1)));
}

/** dweight, dbias and the coefficients of dx. A tile is four channels. */
export function batchNormGradients(args: BatchNormGradientsArgs, first: i32, last: i32, lane: i32): void {
  for (let c = 4 * first, end = min(args.C, 4 * last); c < end; c++) channelGradients(args, floats(c));
}

function channelGradients(args: BatchNormGradientsArgs, at: usize): void {
  const stride = floats(args.C);
  let sum: f64 = 0;
  let product: f64 = 0;
  let partial = args.partials + at;
  for (let b = 0; b < args.blocks; b++, partial += 2 * stride) {
    sum += <f64>load<f32>(partial);
    product += <f64>load<f32>(partial + stride);
  }
  const rest: f64 = args.rest ? <f64>load<f32>(args.rest + at) : 0;
  product -= rest * sum;
  const inverse = inverseDeviation(load<f32>(args.variance + at), args.eps);
  store<f32>(args.dweight + at, <f32>(product * inverse));
  store<f32>(args.dbias + at, <f32>sum);
  const weight: f64 = args.weight ? <f64>load<f32>(args.weight + at) : 1;
  const scale = weight * inverse;
  // The statistics depend on x: dx = scale (g - mean(g) - xhat mean(g xhat)). Given ones do not.
  const share: f64 = args.count ? scale / <f64>args.count : 0;
  const coefficients = args.coefficients + at;
  store<f32>(coefficients, <f32>scale);
  const slope = -share * product * inverse * inverse;
  store<f32>(coefficients + stride, <f32>slope);
  store<f32>(coefficients + 2 * stride, <f32>(-share * sum - slope * rest));
}

/** A tile is a block of rows. */
export function batchNormInputGradColumns(args: BatchNormInputGradArgs, first: i32, last: i32, lane: i32): void {
  const stride = floats(args.C);
  const start = first * args.block;
  const rows = min(args.length, last * args.block) - start;
  const at = <usize>start * stride;
  if (args.y) inputGradRows<Clamped>(args, at, rows, stride);
  else inputGradRows<Open>(args, at, rows, stride);
}

/** Two rows at a time share the coefficients; where one is left over, it is computed twice. */
function inputGradRows<M>(args: BatchNormInputGradArgs, at: usize, rows: i32, stride: usize): void {
  const whole = stride & ~31;
  for (; rows > 0; rows -= 2, at += 2 * stride) {
    const next = rows > 1 ? at + stride : at;
    if (whole) inputGradTwo<M>(args, at, next, whole, stride);
    if (whole < stride) {
      inputGradRest<M>(args, at, whole, stride);
      inputGradRest<M>(args, next, whole, stride);
    }
  }
}

/** The channels before byte `end` of the rows at two offsets. */
function inputGradTwo<M>(args: BatchNormInputGradArgs, at: usize, next: usize, end: usize, stride: usize): void {
  const op = changetype<M>(0);
  const lo = f32x4.splat(args.lo);
  const hi = f32x4.splat(args.hi);
  const means = args.mean;
  const a = args.coefficients;
  const b = a + stride;
  const k = b + stride;
  const x = args.x + at;
  const y = args.y + at;
  const dy = args.dy + at;
  const dx = args.dx + at;
  const step = next - at;
  for (let i: usize = 0; i < end; i += 32) {
    const m0 = v128.load(means + i);
    const m1 = v128.load(means + i, 16);
    const a0 = v128.load(a + i);
    const a1 = v128.load(a + i, 16);
    const b0 = v128.load(b + i);
    const b1 = v128.load(b + i, 16);
    const k0 = v128.load(k + i);
    const k1 = v128.load(k + i, 16);
    const p = x + i;
    const q = y + i;
    const g = dy + i;
    const out = dx + i;
    const r0 = madd(f32x4.sub(v128.load(p), m0), b0, k0);
    const r1 = madd(f32x4.sub(v128.load(p, 16), m1), b1, k1);
    const d0 = madd(op.pass(v128.load(g), q, lo, hi), a0, r0);
    const d1 = madd(op.pass(v128.load(g, 16), q + 16, lo, hi), a1, r1);
    v128.store(out, d0);
    v128.store(out, d1, 16);
    const s0 = madd(f32x4.sub(v128.load(p + step), m0), b0, k0);
    const s1 = madd(f32x4.sub(v128.load(p + step, 16), m1), b1, k1);
    const e0 = madd(op.pass(v128.load(g + step), q + step, lo, hi), a0, s0);
    const e1 = madd(op.pass(v128.load(g + step, 16), q + step + 16, lo, hi), a1, s1);
    v128.store(out + step, e0);
    v128.store(out + step, e1, 16);
  }
}

/** The channels of one row from byte `begin` to `end`. */
function inputGradRest<M>(args: BatchNormInputGradArgs, at: usize, begin: usize, end: usize): void {
  const op = changetype<M>(0);
  const lo = f32x4.splat(args.lo);
  const hi = f32x4.splat(args.hi);
  const a = args.coefficients;
  for (let i = begin; i < end; i += 16) {
    const x = f32x4.sub(v128.load(args.x + at + i), v128.load(args.mean + i));
    const rest = madd(x, v128.load(a + end + i), v128.load(a + 2 * end + i));
    const g = op.pass(v128.load(args.dy + at + i), args.y + at + i, lo, hi);
    storeLanes(args.dx + at + i, madd(g, v128.load(a + i), rest), <i32>((end - i) >> 2));
  }
}

/** A tile is a block of a plane. */
export function batchNormInputGradPlanes(args: BatchNormInputGradArgs, first: i32, last: i32, lane: i32): void {
  const blocks = blocksOf(args.length, args.block);
  for (let tile = first; tile < last; tile++) {
    const plane = tile / blocks;
    const b = tile - plane * blocks;
    const at = planeOffset(plane, b, args.length, args.block);
    const n = blockLength(b, args.length, args.block);
    if (args.y) inputGradPlane<Clamped>(args, at, n, floats(plane % args.C));
    else inputGradPlane<Open>(args, at, n, floats(plane % args.C));
  }
}

function inputGradPlane<M>(args: BatchNormInputGradArgs, at: usize, n: i32, channel: usize): void {
  const op = changetype<M>(0);
  const stride = floats(args.C);
  const lo = f32x4.splat(args.lo);
  const hi = f32x4.splat(args.hi);
  const mean = v128.load32_splat(args.mean + channel);
  const a = v128.load32_splat(args.coefficients + channel);
  const b = v128.load32_splat(args.coefficients + stride + channel);
  const k = v128.load32_splat(args.coefficients + 2 * stride + channel);
  let x = args.x + at;
  let y = args.y + at;
  let dy = args.dy + at;
  let dx = args.dx + at;
  for (; n >= 8; n -= 8, x += 32, y += 32, dy += 32, dx += 32) {
    const k0 = madd(f32x4.sub(v128.load(x), mean), b, k);
    const k1 = madd(f32x4.sub(v128.load(x, 16), mean), b, k);
    const g0 = op.pass(v128.load(dy), y, lo, hi);
    const g1 = op.pass(v128.load(dy, 16), y + 16, lo, hi);
    v128.store(dx, madd(g0, a, k0));
    v128.store(dx, madd(g1, a, k1), 16);
  }
  for (; n > 0; n -= 4, x += 16, y += 16, dy += 16, dx += 16) {
    const rest = madd(f32x4.sub(v128.load(x), mean), b, k);
    storeLanes(dx, madd(op.pass(v128.load(dy), y, lo, hi), a, rest), n);
  }
}
