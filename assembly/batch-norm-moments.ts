// Mean and variance of each channel, and the running statistics that they move.
//
// Never E[x^2] - E[x]^2 (mean 100, standard deviation 1: a variance of 0.998 for 0.9926). Each block takes two passes over
// memory that the first one brought into the cache: its mean, as a distance from its first element, then the squared deviations
// from that mean. What the blocks found is merged in f64 (Chan et al., "Updating Formulae and a Pairwise Algorithm for Computing
// Sample Variances", 1979).
import { blockLength, blocksOf, floats, partialOf, planeOffset, storeFloats } from './batch-norm-blocks';
import { scratch } from './control';
import { Input, Output, Update } from './record';
import { laneMask, storeLanes, sumLanes } from './vector';


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

/** A tile is a block of a plane. */
export function batchNormMomentsPlanes(args: BatchNormMomentsArgs, first: i32, last: i32, lane: i32): void {
  const blocks = blocksOf(args.length, args.block);
  for (let tile = first; tile < last; tile++) {
    const plane = tile / blocks;
    const b = tile - plane * blocks;
    const n = blockLength(b, args.length, args.block);
    const x = args.x + planeOffset(plane, b, args.length, args.block);
    const start = load<f32>(x);
    const mean = start + planeSum<Difference>(x, n, start) / <f32>n;
    const at = partialOf(args.partials, args.C, plane, b, blocks);
    store<f32>(at, mean);
    store<f32>(at + floats(args.C), planeSum<Deviation>(x, n, mean));
  }
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
