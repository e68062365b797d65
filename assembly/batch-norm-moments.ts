// Mean and variance of each channel, and the running statistics that they move.
//
// Never E[x^2] - E[x]^2 (mean 100, standard deviation 1: a variance of 0.998 for 0.9926). Each block takes two passes over
// memory that the first one brought into the cache: a centre near its mean, then the sums of the deviations from it and of their
// squares. The centre need not be the mean: what it misses, the sum of deviations says (mean 10^4 and deviation 10^-2 are right to
// seven digits, though f32 knows 10^4 to 10^-3 only). A channel of a block whose sums leave f32 (256 times 10^37) is summed once
// more in f64. What the blocks found is merged in f64 (Chan et al., "Updating Formulae and a Pairwise Algorithm for Computing Sample
// Variances", 1979).
import { blockLength, blocksOf, floats, partialOf, planeOffset, storeFloats } from './batch-norm-blocks';
import { scratch } from './control';
import { Input, Output, Update } from './record';
import { laneMask, madd, storeLanes, sumLanes } from './vector';


@unmanaged
export class BatchNormMomentsArgs {
  /** [blocks, 3, C]: centre, sum of deviations from it and sum of their squares, of each block. */
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
  /** What the mean lost when it was rounded to f32. */
  rest: Output;
  partials: Input;
  C: i32;
  length: i32;
  block: i32;
  /** Blocks in all. */
  blocks: i32;
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

/** A tile is a block of rows. Scratch: 2 C floats, each C rounded up to 8. */
export function batchNormMomentsColumns(args: BatchNormMomentsArgs, first: i32, last: i32, lane: i32): void {
  const C = args.C;
  const stride = floats(C);
  const padded = (stride + 31) & ~31;
  const sums = scratch(lane);
  for (let b = first; b < last; b++) {
    const rows = blockLength(b, args.length, args.block);
    const x = args.x + <usize>(b * args.block) * stride;
    const centre = args.partials + <usize>(3 * b) * stride;
    memory.fill(sums, 0, padded);
    columnSums(sums, x, rows, stride);
    storeMeans(centre, sums, C, <f32>rows);
    memory.fill(sums, 0, 2 * padded);
    columnDeviations(sums, x, rows, stride, centre);
    storeFloats(centre + stride, sums, C);
    storeFloats(centre + 2 * stride, sums + padded, C);
    mendOverflow(centre, sums, x, rows, C);
  }
}

/** Computes anew the channels of a block whose sums of deviations, in `sums`, are not finite. */
function mendOverflow(centre: usize, sums: usize, x: usize, rows: i32, C: i32): void {
  const stride = floats(C);
  for (let i: usize = 0; i < stride; i += 16) {
    const s = v128.load(sums + i);
    if (!v128.any_true(f32x4.ne(f32x4.sub(s, s), i32x4.splat(0)))) continue;
    for (let at = i; at < min(stride, i + 16); at += 4) {
      if (!isFinite(load<f32>(sums + at))) storeWideMoments(centre + at, stride, x + at, stride, rows);
    }
  }
}

/** Stores centre, sum of deviations and sum of their squares, `distance` bytes apart, of n floats every `step` bytes, summed in f64. */
function storeWideMoments(to: usize, distance: usize, x: usize, step: usize, n: i32): void {
  let sum: f64 = 0;
  for (let i = 0; i < n; i++) sum += <f64>load<f32>(x + <usize>i * step);
  const centre = <f64>(<f32>(sum / <f64>n));
  let squares: f64 = 0;
  for (let i = 0; i < n; i++) {
    const d = <f64>load<f32>(x + <usize>i * step) - centre;
    squares += d * d;
  }
  store<f32>(to, <f32>centre);
  // Of an infinite number the mean is infinite, not NaN.
  store<f32>(to + distance, isFinite(centre) ? <f32>(sum - <f64>n * centre) : 0);
  store<f32>(to + 2 * distance, <f32>squares);
}

/** Adds rows to sums[c]. All loops over rows work in groups of 8 channels: the last may hold others' numbers. */
function columnSums(sums: usize, x: usize, rows: i32, stride: usize): void {
  for (; rows >= 4; rows -= 4, x += 4 * stride) sumFourRows(sums, x, stride);
  for (; rows > 0; rows--, x += stride) sumRow(sums, x, stride);
}

function sumFourRows(sums: usize, x: usize, stride: usize): void {
  const x1 = x + stride;
  const x2 = x1 + stride;
  const x3 = x2 + stride;
  for (let i: usize = 0; i < stride; i += 32) {
    const a0 = f32x4.add(v128.load(x + i), v128.load(x1 + i));
    const a1 = f32x4.add(v128.load(x + i, 16), v128.load(x1 + i, 16));
    const b0 = f32x4.add(v128.load(x2 + i), v128.load(x3 + i));
    const b1 = f32x4.add(v128.load(x2 + i, 16), v128.load(x3 + i, 16));
    const s0 = f32x4.add(v128.load(sums + i), f32x4.add(a0, b0));
    const s1 = f32x4.add(v128.load(sums + i, 16), f32x4.add(a1, b1));
    v128.store(sums + i, s0);
    v128.store(sums + i, s1, 16);
  }
}

function sumRow(sums: usize, x: usize, stride: usize): void {
  for (let i: usize = 0; i < stride; i += 32) {
    const s0 = f32x4.add(v128.load(sums + i), v128.load(x + i));
    const s1 = f32x4.add(v128.load(sums + i, 16), v128.load(x + i, 16));
    v128.store(sums + i, s0);
    v128.store(sums + i, s1, 16);
  }
}

/** mean = sum / n for `count` floats. */
function storeMeans(mean: usize, sums: usize, count: i32, n: f32): void {
  const divisor = f32x4.splat(n);
  for (; count > 0; count -= 4, mean += 16, sums += 16) {
    storeLanes(mean, f32x4.div(v128.load(sums), divisor), count);
  }
}

/** Adds the deviations of rows from `centre` to sums[c], and their squares to what lies behind. */
function columnDeviations(sums: usize, x: usize, rows: i32, stride: usize, centre: usize): void {
  for (; rows >= 4; rows -= 4, x += 4 * stride) deviateFourRows(sums, x, stride, centre);
  for (; rows > 0; rows--, x += stride) deviateRow(sums, x, stride, centre);
}

function deviateFourRows(sums: usize, x: usize, stride: usize, centre: usize): void {
  const squares = sums + ((stride + 31) & ~31);
  const x1 = x + stride;
  const x2 = x1 + stride;
  const x3 = x2 + stride;
  for (let i: usize = 0; i < stride; i += 32) {
    const m0 = v128.load(centre + i);
    const m1 = v128.load(centre + i, 16);
    const a0 = f32x4.sub(v128.load(x + i), m0);
    const a1 = f32x4.sub(v128.load(x + i, 16), m1);
    const b0 = f32x4.sub(v128.load(x1 + i), m0);
    const b1 = f32x4.sub(v128.load(x1 + i, 16), m1);
    const c0 = f32x4.sub(v128.load(x2 + i), m0);
    const c1 = f32x4.sub(v128.load(x2 + i, 16), m1);
    const d0 = f32x4.sub(v128.load(x3 + i), m0);
    const d1 = f32x4.sub(v128.load(x3 + i, 16), m1);
    const s0 = f32x4.add(v128.load(sums + i), f32x4.add(f32x4.add(a0, b0), f32x4.add(c0, d0)));
    const s1 = f32x4.add(v128.load(sums + i, 16), f32x4.add(f32x4.add(a1, b1), f32x4.add(c1, d1)));
    v128.store(sums + i, s0);
    v128.store(sums + i, s1, 16);
    const p0 = madd(b0, b0, f32x4.mul(a0, a0));
    const p1 = madd(b1, b1, f32x4.mul(a1, a1));
    const q0 = f32x4.add(madd(c0, c0, p0), madd(d0, d0, v128.load(squares + i)));
    const q1 = f32x4.add(madd(c1, c1, p1), madd(d1, d1, v128.load(squares + i, 16)));
    v128.store(squares + i, q0);
    v128.store(squares + i, q1, 16);
  }
}

function deviateRow(sums: usize, x: usize, stride: usize, centre: usize): void {
  const squares = sums + ((stride + 31) & ~31);
  for (let i: usize = 0; i < stride; i += 16) {
    const d = f32x4.sub(v128.load(x + i), v128.load(centre + i));
    v128.store(sums + i, f32x4.add(v128.load(sums + i), d));
    v128.store(squares + i, madd(d, d, v128.load(squares + i)));
  }
}

/** A tile is a block of a plane. */
export function batchNormMomentsPlanes(args: BatchNormMomentsArgs, first: i32, last: i32, lane: i32): void {
  const blocks = blocksOf(args.length, args.block);
  for (let tile = first; tile < last; tile++) {
    const plane = tile / blocks;
    const b = tile - plane * blocks;
    const n = blockLength(b, args.length, args.block);
    const x = args.x + planeOffset(plane, b, args.length, args.block);
    const centre = planeSum(x, n) / <f32>n;
    const at = partialOf(args.partials, 3, args.C, plane, b, blocks);
    store<f32>(at, centre);
    const distance = floats(args.C);
    planeDeviations(x, n, centre, at + distance, at + 2 * distance);
    if (!isFinite(load<f32>(at + distance))) storeWideMoments(at, distance, x, 4, n);
  }
}

function planeSum(x: usize, n: i32): f32 {
  let s0 = i32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (; n >= 16; n -= 16, x += 64) {
    s0 = f32x4.add(s0, v128.load(x));
    s1 = f32x4.add(s1, v128.load(x, 16));
    s2 = f32x4.add(s2, v128.load(x, 32));
    s3 = f32x4.add(s3, v128.load(x, 48));
  }
  for (; n >= 4; n -= 4, x += 16) s0 = f32x4.add(s0, v128.load(x));
  if (n > 0) s1 = f32x4.add(s1, v128.and(v128.load(x), laneMask(n)));
  return sumLanes(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
}

/** Stores the sum of the deviations from `centre` and that of their squares. */
function planeDeviations(x: usize, n: i32, centre: f32, sum: usize, squares: usize): void {
  const m = f32x4.splat(centre);
  let s0 = i32x4.splat(0);
  let s1 = s0;
  let q0 = s0;
  let q1 = s0;
  for (; n >= 8; n -= 8, x += 32) {
    const a = f32x4.sub(v128.load(x), m);
    const b = f32x4.sub(v128.load(x, 16), m);
    s0 = f32x4.add(s0, a);
    s1 = f32x4.add(s1, b);
    q0 = madd(a, a, q0);
    q1 = madd(b, b, q1);
  }
  for (; n > 0; n -= 4, x += 16) {
    const d = v128.and(f32x4.sub(v128.load(x), m), laneMask(n));
    s0 = f32x4.add(s0, d);
    q0 = madd(d, d, q0);
  }
  store<f32>(sum, sumLanes(f32x4.add(s0, s1)));
  store<f32>(squares, sumLanes(f32x4.add(q0, q1)));
}

/** Mean and variance from what the blocks found. A tile is four channels. */
export function batchNormMerge(args: BatchNormMergeArgs, first: i32, last: i32, lane: i32): void {
  for (let tile = first; tile < last; tile++) mergeFour(args, (<usize>tile) << 4, args.C - 4 * tile);
}

/**
 * In f64, for blocks of n numbers with centre c, and s and q the sums of deviations and of their squares:
 * mean = sum of (n c + s) / count; variance = sum of (q + 2 e s + n e^2) / count with e = c - mean.
 */
function mergeFour(args: BatchNormMergeArgs, at: usize, left: i32): void {
  const stride = floats(args.C);
  const perRow = blocksOf(args.length, args.block);
  let low = f64x2.splat(0);
  let high = low;
  let count: f64 = 0;
  let block = args.partials + at;
  for (let b = 0; b < args.blocks; b++, block += 3 * stride) {
    const n: f64 = <f64>blockLength(b % perRow, args.length, args.block);
    const c = v128.load(block);
    const s = v128.load(block + stride);
    low = f64x2.add(low, f64x2.add(f64x2.mul(f64x2.splat(n), promoteLow(c)), promoteLow(s)));
    high = f64x2.add(high, f64x2.add(f64x2.mul(f64x2.splat(n), promoteHigh(c)), promoteHigh(s)));
    count += n;
  }
  low = f64x2.div(low, f64x2.splat(count));
  high = f64x2.div(high, f64x2.splat(count));
  const mean = demote(low, high);
  storeLanes(args.mean + at, mean, left);
  storeLanes(args.rest + at, demote(f64x2.sub(low, promoteLow(mean)), f64x2.sub(high, promoteHigh(mean))), left);
  let squaresLow = f64x2.splat(0);
  let squaresHigh = squaresLow;
  block = args.partials + at;
  for (let b = 0; b < args.blocks; b++, block += 3 * stride) {
    const n = f64x2.splat(<f64>blockLength(b % perRow, args.length, args.block));
    const c = v128.load(block);
    const s = v128.load(block + stride);
    const q = v128.load(block + 2 * stride);
    const eLow = f64x2.sub(promoteLow(c), low);
    const eHigh = f64x2.sub(promoteHigh(c), high);
    squaresLow = f64x2.add(squaresLow, aboutMean(promoteLow(q), promoteLow(s), eLow, n));
    squaresHigh = f64x2.add(squaresHigh, aboutMean(promoteHigh(q), promoteHigh(s), eHigh, n));
  }
  squaresLow = f64x2.div(squaresLow, f64x2.splat(count));
  squaresHigh = f64x2.div(squaresHigh, f64x2.splat(count));
  // Equal numbers far from zero may leave less than nothing; a NaN stays.
  const variance = f32x4.pmax(demote(squaresLow, squaresHigh), i32x4.splat(0));
  storeLanes(args.variance + at, variance, left);
}

/** q + e (2 s + n e) */
// @ts-ignore: decorator
@inline
function aboutMean(q: v128, s: v128, e: v128, n: v128): v128 {
  return f64x2.add(q, f64x2.mul(e, f64x2.add(f64x2.add(s, s), f64x2.mul(n, e))));
}

// @ts-ignore: decorator
@inline
function promoteLow(x: v128): v128 {
  return f64x2.promote_low_f32x4(x);
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
