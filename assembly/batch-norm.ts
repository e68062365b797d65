// y[r, c] = clamp((x[r, c] - mean[c]) scale[c] + shift[c] + residual[r, c], lo, hi), its statistics and its gradients.
//
// Two walks over the same geometry:
//   columns   x is [rows, C], channels innermost: a block is `block` rows, all channels of a row side by side
//   planes    x is [N, C, P], one channel at a time: a block is at most `block` elements of a plane
//
// Statistics never form E[x^2] - E[x]^2 (mean 100, standard deviation 1: a variance of 0.998 for 0.9926). Each block takes
// two passes over memory that the first one brought into the cache: its mean, as a distance from its first element, then the
// squared deviations from that mean. What the blocks found is merged in f64 (Chan et al., "Updating Formulae and a Pairwise
// Algorithm for Computing Sample Variances", 1979). Blocks follow from geometry alone, so the bits depend on nothing else.
//
// Backward is one pass for the sums of g and g (x - mean), and one for dx; g is dy where the clamp let y through.
import { scratch } from './control';
import { Input, Output, Update } from './record';
import { clamp, laneMask, madd, storeLanes, sumLanes } from './vector';

/** Elements that one block of a plane covers at most: four f32 sums of a quarter each. */
export const PLANE_BLOCK: i32 = 4096;


@unmanaged
export class BatchNormMomentsArgs {
  /** [blocks, 2, C]: mean and sum of squared deviations of each block. */
  partials: Output;
  x: Input;
  C: i32;
  /** Rows, or elements of a plane. */
  length: i32;
  block: i32;
}


@unmanaged
export class BatchNormMergeArgs {
  mean: Output;
  /** Divided by the number of elements. */
  variance: Output;
  partials: Input;
  C: i32;
  length: i32;
  block: i32;
  /** Blocks in all. */
  blocks: i32;
}


@unmanaged
export class BatchNormScaleArgs {
  /** [2, C]: weight / sqrt(variance + eps), and bias. */
  coefficients: Output;
  variance: Input;
  /** 0: ones. */
  weight: Input;
  /** 0: zeros. */
  bias: Input;
  C: i32;
  eps: f32;
}


@unmanaged
export class BatchNormArgs {
  y: Output;
  x: Input;
  mean: Input;
  coefficients: Input;
  /** Laid out as x; 0: none. */
  residual: Input;
  C: i32;
  length: i32;
  block: i32;
  lo: f32;
  hi: f32;
}


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
  /** [3, C]: A, B, K of dx = A g + B (x - mean) + K. */
  coefficients: Output;
  partials: Input;
  variance: Input;
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
export class RunningStatisticsArgs {
  runningMean: Update;
  runningVariance: Update;
  /** i32, raised by one; 0: not counted. */
  batches: Update;
  mean: Input;
  variance: Input;
  C: i32;
  /** Elements per channel: the running variance is the unbiased one. */
  count: i32;
  /** Share of the new value; negative: one over the number of batches, so that all count alike. */
  momentum: f32;
}

// ---- Where blocks lie ------------------------------------------------------------------------------------------------------

// @ts-ignore: decorator
@inline
function blocksOf(length: i32, block: i32): i32 {
  return (length + block - 1) / block;
}

/** Length of block `index` of a row of blocks that covers `length`. */
// @ts-ignore: decorator
@inline
function blockLength(index: i32, length: i32, block: i32): i32 {
  return min(block, length - index * block);
}

/** Offset in bytes of element `index` of channel 0 or plane 0. */
// @ts-ignore: decorator
@inline
function floats(index: i32): usize {
  return (<usize>index) << 2;
}

// ---- Statistics ------------------------------------------------------------------------------------------------------------

@unmanaged
class Difference {

  @inline lanes(x: v128, centre: v128): v128 {
    return f32x4.sub(x, centre);
  }
}


@unmanaged
class Deviation {

  @inline lanes(x: v128, centre: v128): v128 {
    const d = f32x4.sub(x, centre);
    return f32x4.mul(d, d);
  }
}

/** A tile is a block of rows. Scratch: C floats, rounded up to 8. */
export function batchNormMomentsColumns(args: BatchNormMomentsArgs, first: i32, last: i32, lane: i32): void {
  const C = args.C;
  const stride = floats(C);
  const sums = scratch(lane);
  for (let b = first; b < last; b++) {
    const rows = blockLength(b, args.length, args.block);
    const x = args.x + <usize>(b * args.block) * stride;
    const mean = args.partials + <usize>(2 * b) * stride;
    columnSums<Difference>(sums, x, rows, C, x);
    storeMeans(mean, sums, C, x, <f32>rows);
    columnSums<Deviation>(sums, x, rows, C, mean);
    storeFloats(mean + stride, sums, C);
  }
}

/** sums[c] = sum over rows of Op(x[row, c], centre[c]). Works in groups of 8 channels: the last may hold others' numbers. */
function columnSums<Op>(sums: usize, x: usize, rows: i32, C: i32, centre: usize): void {
  const stride = floats(C);
  memory.fill(sums, 0, (stride + 31) & ~31);
  for (; rows >= 4; rows -= 4, x += 4 * stride) addFourRows<Op>(sums, x, stride, centre);
  for (; rows > 0; rows--, x += stride) addRow<Op>(sums, x, stride, centre);
}

function addFourRows<Op>(sums: usize, x: usize, stride: usize, centre: usize): void {
  const op = changetype<Op>(0);
  const x1 = x + stride;
  const x2 = x1 + stride;
  const x3 = x2 + stride;
  for (let i: usize = 0; i < stride; i += 32) {
    const m0 = v128.load(centre + i);
    const m1 = v128.load(centre + i, 16);
    const a0 = f32x4.add(op.lanes(v128.load(x + i), m0), op.lanes(v128.load(x1 + i), m0));
    const a1 = f32x4.add(op.lanes(v128.load(x + i, 16), m1), op.lanes(v128.load(x1 + i, 16), m1));
    const b0 = f32x4.add(op.lanes(v128.load(x2 + i), m0), op.lanes(v128.load(x3 + i), m0));
    const b1 = f32x4.add(op.lanes(v128.load(x2 + i, 16), m1), op.lanes(v128.load(x3 + i, 16), m1));
    const s0 = f32x4.add(v128.load(sums + i), f32x4.add(a0, b0));
    const s1 = f32x4.add(v128.load(sums + i, 16), f32x4.add(a1, b1));
    v128.store(sums + i, s0);
    v128.store(sums + i, s1, 16);
  }
}

function addRow<Op>(sums: usize, x: usize, stride: usize, centre: usize): void {
  const op = changetype<Op>(0);
  for (let i: usize = 0; i < stride; i += 32) {
    const s0 = f32x4.add(v128.load(sums + i), op.lanes(v128.load(x + i), v128.load(centre + i)));
    const s1 = f32x4.add(v128.load(sums + i, 16), op.lanes(v128.load(x + i, 16), v128.load(centre + i, 16)));
    v128.store(sums + i, s0);
    v128.store(sums + i, s1, 16);
  }
}

/** mean = first + sum / n for `count` floats. */
function storeMeans(mean: usize, sums: usize, count: i32, first: usize, n: f32): void {
  const divisor = f32x4.splat(n);
  for (; count > 0; count -= 4, mean += 16, sums += 16, first += 16) {
    storeLanes(mean, f32x4.add(v128.load(first), f32x4.div(v128.load(sums), divisor)), count);
  }
}

function storeFloats(y: usize, x: usize, count: i32): void {
  for (; count > 0; count -= 4, y += 16, x += 16) storeLanes(y, v128.load(x), count);
}

/** A tile is a block of a plane. */
export function batchNormMomentsPlanes(args: BatchNormMomentsArgs, first: i32, last: i32, lane: i32): void {
  const blocks = blocksOf(args.length, args.block);
  for (let tile = first; tile < last; tile++) {
    const plane = tile / blocks;
    const b = tile - plane * blocks;
    const n = blockLength(b, args.length, args.block);
    const x = args.x + <usize>plane * floats(args.length) + floats(b * args.block);
    const start = load<f32>(x);
    const mean = start + planeSum<Difference>(x, n, start) / <f32>n;
    const at = partialOf(args.partials, args.C, plane, b, blocks);
    store<f32>(at, mean);
    store<f32>(at + floats(args.C), planeSum<Deviation>(x, n, mean));
  }
}

/** Where the numbers of block `b` of a plane stand. */
// @ts-ignore: decorator
@inline
function partialOf(partials: usize, C: i32, plane: i32, b: i32, blocks: i32): usize {
  const n = plane / C;
  return partials + <usize>(2 * (n * blocks + b)) * floats(C) + floats(plane - n * C);
}

function planeSum<Op>(x: usize, n: i32, centre: f32): f32 {
  const op = changetype<Op>(0);
  const m = f32x4.splat(centre);
  let s0 = i32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (; n >= 16; n -= 16, x += 64) {
    s0 = f32x4.add(s0, op.lanes(v128.load(x), m));
    s1 = f32x4.add(s1, op.lanes(v128.load(x, 16), m));
    s2 = f32x4.add(s2, op.lanes(v128.load(x, 32), m));
    s3 = f32x4.add(s3, op.lanes(v128.load(x, 48), m));
  }
  for (; n >= 4; n -= 4, x += 16) s0 = f32x4.add(s0, op.lanes(v128.load(x), m));
  if (n > 0) s1 = f32x4.add(s1, v128.and(op.lanes(v128.load(x), m), laneMask(n)));
  return sumLanes(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
}

/** Mean and variance from those of the blocks. A tile is four channels. */
export function batchNormMerge(args: BatchNormMergeArgs, first: i32, last: i32, lane: i32): void {
  for (let tile = first; tile < last; tile++) mergeFour(args, (<usize>tile) << 4, args.C - 4 * tile);
}

/** mean = sum of n_b mean_b / n; variance = sum of (M2_b + n_b (mean_b - mean)^2) / n, in f64. */
function mergeFour(args: BatchNormMergeArgs, at: usize, left: i32): void {
  const stride = floats(args.C);
  const perRow = blocksOf(args.length, args.block);
  let low = f64x2.splat(0);
  let high = low;
  let count: f64 = 0;
  let means = args.partials + at;
  for (let b = 0; b < args.blocks; b++, means += 2 * stride) {
    const n: f64 = <f64>blockLength(b % perRow, args.length, args.block);
    const x = v128.load(means);
    low = f64x2.add(low, f64x2.mul(f64x2.splat(n), f64x2.promote_low_f32x4(x)));
    high = f64x2.add(high, f64x2.mul(f64x2.splat(n), promoteHigh(x)));
    count += n;
  }
  low = f64x2.div(low, f64x2.splat(count));
  high = f64x2.div(high, f64x2.splat(count));
  storeLanes(args.mean + at, demote(low, high), left);
  let squaresLow = f64x2.splat(0);
  let squaresHigh = squaresLow;
  means = args.partials + at;
  for (let b = 0; b < args.blocks; b++, means += 2 * stride) {
    const n = f64x2.splat(<f64>blockLength(b % perRow, args.length, args.block));
    const x = v128.load(means);
    const m2 = v128.load(means + stride);
    const dLow = f64x2.sub(f64x2.promote_low_f32x4(x), low);
    const dHigh = f64x2.sub(promoteHigh(x), high);
    const between = f64x2.mul(f64x2.mul(dLow, dLow), n);
    squaresLow = f64x2.add(squaresLow, f64x2.add(f64x2.promote_low_f32x4(m2), between));
    squaresHigh = f64x2.add(squaresHigh, f64x2.add(promoteHigh(m2), f64x2.mul(f64x2.mul(dHigh, dHigh), n)));
  }
  squaresLow = f64x2.div(squaresLow, f64x2.splat(count));
  squaresHigh = f64x2.div(squaresHigh, f64x2.splat(count));
  storeLanes(args.variance + at, demote(squaresLow, squaresHigh), left);
}

// @ts-ignore: decorator
@inline
function promoteHigh(x: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<f32>(x, x, 2, 3, 2, 3));
}

// @ts-ignore: decorator
@inline
function demote(low: v128, high: v128): v128 {
  return v128.shuffle<f32>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 1, 4, 5);
}

/** running = (1 - momentum) running + momentum new, in f64; the variance is divided by n - 1. One tile. */
export function updateRunningStatistics(args: RunningStatisticsArgs, first: i32, last: i32, lane: i32): void {
  let momentum = <f64>args.momentum;
  if (args.batches) {
    const batches = load<i32>(args.batches) + 1;
    store<i32>(args.batches, batches);
    if (momentum < 0) momentum = 1.0 / <f64>batches;
  }
  const unbiased = <f64>args.count / <f64>max(1, args.count - 1);
  for (let c = 0; c < args.C; c++) {
    const at = floats(c);
    mix(args.runningMean + at, <f64>load<f32>(args.mean + at), momentum);
    mix(args.runningVariance + at, <f64>load<f32>(args.variance + at) * unbiased, momentum);
  }
}

// @ts-ignore: decorator
@inline
function mix(running: usize, value: f64, momentum: f64): void {
  store<f32>(running, <f32>((1 - momentum) * <f64>load<f32>(running) + momentum * value));
}

// ---- Normalisation ---------------------------------------------------------------------------------------------------------

// @ts-ignore: decorator
@inline
function inverseDeviation(variance: f32, eps: f32): f64 {
  return 1.0 / sqrt<f64>(<f64>variance + <f64>eps);
}

/** One tile. */
export function batchNormScale(args: BatchNormScaleArgs, first: i32, last: i32, lane: i32): void {
  const stride = floats(args.C);
  for (let at: usize = 0; at < stride; at += 4) {
    const weight: f64 = args.weight ? <f64>load<f32>(args.weight + at) : 1;
    const scale = inverseDeviation(load<f32>(args.variance + at), args.eps) * weight;
    store<f32>(args.coefficients + at, <f32>scale);
    store<f32>(args.coefficients + stride + at, args.bias ? load<f32>(args.bias + at) : 0);
  }
}


@unmanaged
class NoResidual {

  @inline add(y: v128, address: usize): v128 {
    return y;
  }
}


@unmanaged
class Residual {

  @inline add(y: v128, address: usize): v128 {
    return f32x4.add(y, v128.load(address));
  }
}

/** A tile is a block of rows. */
export function batchNormColumns(args: BatchNormArgs, first: i32, last: i32, lane: i32): void {
  const stride = floats(args.C);
  const start = first * args.block;
  const rows = min(args.length, last * args.block) - start;
  const at = <usize>start * stride;
  if (args.residual) normaliseRows<Residual>(args, at, rows, stride);
  else normaliseRows<NoResidual>(args, at, rows, stride);
}

/** Two rows at a time share the coefficients; where one is left over, it is computed twice. */
function normaliseRows<R>(args: BatchNormArgs, at: usize, rows: i32, stride: usize): void {
  const whole = stride & ~31;
  for (; rows > 0; rows -= 2, at += 2 * stride) {
    const next = rows > 1 ? at + stride : at;
    normaliseTwo<R>(args, at, next, whole, stride);
    if (whole < stride) {
      normaliseRest<R>(args, at, whole, stride);
      normaliseRest<R>(args, next, whole, stride);
    }
  }
}

/** The channels before byte `end` of the rows at two offsets. */
function normaliseTwo<R>(args: BatchNormArgs, at: usize, next: usize, end: usize, stride: usize): void {
  const op = changetype<R>(0);
  const means = args.mean;
  const scales = args.coefficients;
  const shifts = scales + stride;
  const x = args.x + at;
  const y = args.y + at;
  const r = args.residual + at;
  const step = next - at;
  const lo = f32x4.splat(args.lo);
  const hi = f32x4.splat(args.hi);
  for (let i: usize = 0; i < end; i += 32) {
    const m0 = v128.load(means + i);
    const m1 = v128.load(means + i, 16);
    const s0 = v128.load(scales + i);
    const s1 = v128.load(scales + i, 16);
    const b0 = v128.load(shifts + i);
    const b1 = v128.load(shifts + i, 16);
    const p = x + i;
    const q = r + i;
    const out = y + i;
    const y0 = op.add(madd(f32x4.sub(v128.load(p), m0), s0, b0), q);
    const y1 = op.add(madd(f32x4.sub(v128.load(p, 16), m1), s1, b1), q + 16);
    v128.store(out, clamp(y0, lo, hi));
    v128.store(out, clamp(y1, lo, hi), 16);
    const z0 = op.add(madd(f32x4.sub(v128.load(p + step), m0), s0, b0), q + step);
    const z1 = op.add(madd(f32x4.sub(v128.load(p + step, 16), m1), s1, b1), q + step + 16);
    v128.store(out + step, clamp(z0, lo, hi));
    v128.store(out + step, clamp(z1, lo, hi), 16);
  }
}

/** The channels of one row from byte `begin` to `end`. */
function normaliseRest<R>(args: BatchNormArgs, at: usize, begin: usize, end: usize): void {
  const op = changetype<R>(0);
  const lo = f32x4.splat(args.lo);
  const hi = f32x4.splat(args.hi);
  const scales = args.coefficients;
  for (let i = begin; i < end; i += 16) {
    const x = f32x4.sub(v128.load(args.x + at + i), v128.load(args.mean + i));
    const y = op.add(madd(x, v128.load(scales + i), v128.load(scales + end + i)), args.residual + at + i);
    storeLanes(args.y + at + i, clamp(y, lo, hi), <i32>((end - i) >> 2));
  }
}

/** A tile is a block of a plane. */
export function batchNormPlanes(args: BatchNormArgs, first: i32, last: i32, lane: i32): void {
  const blocks = blocksOf(args.length, args.block);
  for (let tile = first; tile < last; tile++) {
    const plane = tile / blocks;
    const b = tile - plane * blocks;
    const at = <usize>plane * floats(args.length) + floats(b * args.block);
    const n = blockLength(b, args.length, args.block);
    if (args.residual) normalisePlane<Residual>(args, at, n, floats(plane % args.C));
    else normalisePlane<NoResidual>(args, at, n, floats(plane % args.C));
  }
}

function normalisePlane<R>(args: BatchNormArgs, at: usize, n: i32, channel: usize): void {
  const op = changetype<R>(0);
  const mean = v128.load32_splat(args.mean + channel);
  const scale = v128.load32_splat(args.coefficients + channel);
  const shift = v128.load32_splat(args.coefficients + floats(args.C) + channel);
  const lo = f32x4.splat(args.lo);
  const hi = f32x4.splat(args.hi);
  let x = args.x + at;
  let y = args.y + at;
  let r = args.residual + at;
  for (; n >= 8; n -= 8, x += 32, y += 32, r += 32) {
    const y0 = op.add(madd(f32x4.sub(v128.load(x), mean), scale, shift), r);
    const y1 = op.add(madd(f32x4.sub(v128.load(x, 16), mean), scale, shift), r + 16);
    v128.store(y, clamp(y0, lo, hi));
    v128.store(y, clamp(y1, lo, hi), 16);
  }
  for (; n > 0; n -= 4, x += 16, y += 16, r += 16) {
    const last = op.add(madd(f32x4.sub(v128.load(x), mean), scale, shift), r);
    storeLanes(y, clamp(last, lo, hi), n);
  }
}

// ---- Gradients -------------------------------------------------------------------------------------------------------------

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
    const at = <usize>plane * floats(args.length) + floats(b * args.block);
    const n = blockLength(b, args.length, args.block);
    const mean = load<f32>(args.mean + floats(plane % args.C));
    const sums = partialOf(args.partials, args.C, plane, b, blocks);
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
  const inverse = inverseDeviation(load<f32>(args.variance + at), args.eps);
  store<f32>(args.dweight + at, <f32>(product * inverse));
  store<f32>(args.dbias + at, <f32>sum);
  const weight: f64 = args.weight ? <f64>load<f32>(args.weight + at) : 1;
  const scale = weight * inverse;
  // The statistics depend on x: dx = scale (g - mean(g) - xhat mean(g xhat)). Given ones do not.
  const share: f64 = args.count ? scale / <f64>args.count : 0;
  const coefficients = args.coefficients + at;
  store<f32>(coefficients, <f32>scale);
  store<f32>(coefficients + stride, <f32>(-share * product * inverse * inverse));
  store<f32>(coefficients + 2 * stride, <f32>(-share * sum));
}

/** A tile is a block of rows. */
export function batchNormInputGradColumns(args: BatchNormInputGradArgs, first: i32, last: i32, lane: i32): void {
  const stride = floats(args.C);
  const end = min(args.length, last * args.block);
  for (let row = first * args.block; row < end; row++) {
    if (args.y) inputGradRow<Clamped>(args, <usize>row * stride, stride);
    else inputGradRow<Open>(args, <usize>row * stride, stride);
  }
}

function inputGradRow<M>(args: BatchNormInputGradArgs, at: usize, stride: usize): void {
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
  let i: usize = 0;
  for (const whole = stride & ~31; i < whole; i += 32) {
    const x0 = f32x4.sub(v128.load(x + i), v128.load(means + i));
    const x1 = f32x4.sub(v128.load(x + i, 16), v128.load(means + i, 16));
    const k0 = madd(x0, v128.load(b + i), v128.load(k + i));
    const k1 = madd(x1, v128.load(b + i, 16), v128.load(k + i, 16));
    const g0 = op.pass(v128.load(dy + i), y + i, lo, hi);
    const g1 = op.pass(v128.load(dy + i, 16), y + i + 16, lo, hi);
    const d0 = madd(g0, v128.load(a + i), k0);
    const d1 = madd(g1, v128.load(a + i, 16), k1);
    v128.store(dx + i, d0);
    v128.store(dx + i, d1, 16);
  }
  for (; i < stride; i += 16) {
    const rest = madd(f32x4.sub(v128.load(x + i), v128.load(means + i)), v128.load(b + i), v128.load(k + i));
    const g = op.pass(v128.load(dy + i), y + i, lo, hi);
    storeLanes(dx + i, madd(g, v128.load(a + i), rest), <i32>((stride - i) >> 2));
  }
}

/** A tile is a block of a plane. */
export function batchNormInputGradPlanes(args: BatchNormInputGradArgs, first: i32, last: i32, lane: i32): void {
  const blocks = blocksOf(args.length, args.block);
  for (let tile = first; tile < last; tile++) {
    const plane = tile / blocks;
    const b = tile - plane * blocks;
    const at = <usize>plane * floats(args.length) + floats(b * args.block);
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
