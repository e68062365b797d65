// Losses over rows of class scores [rows, n] with i32 labels, and the squared error.
//
// Cross-entropy of row r with label t, class weights w and label smoothing s (PyTorch's definition):
//   loss_r = -(1 - s) w[t] log p[t] - (s / n) sum_c w[c] log p[c],   log p[c] = x[c] - max - log sum_j exp(x[j] - max)
// Its mean over the rows divides by the sum of w[t]. A row whose label is ignoreIndex counts nothing and gets no gradient.
// Forward keeps the probabilities; with W = sum_c w[c] the gradient is
//   dx[c] = g ((1 - s) w[t] + W s / n) p[c] - g w[c] s / n - (c == t) g (1 - s) w[t]
import { Input, Output } from './record';
import { INDEX_OUT_OF_RANGE, report } from './status';
import { contiguousSum } from './reduce';
import { logOf } from './math';
import { rowMax, softmaxRow } from './softmax';
import { laneMask, storeLanes, sumLanes } from './vector';


@unmanaged
export class CrossEntropyArgs {
  /** f32 [rows]. */
  losses: Output;
  /** f32 [rows]: the weight of each row in the mean, 0 where it is ignored. */
  counts: Output;
  /** f32 [rows, n]. */
  probabilities: Output;
  x: Input;
  /** i32 [rows]. */
  labels: Input;
  /** f32 [n], or nowhere: every class weighs 1. */
  weight: Input;
  rows: i32;
  n: i32;
  /** Rows per tile. */
  block: i32;
  ignoreIndex: i32;
  smoothing: f32;
}


@unmanaged
export class CrossEntropyGradArgs {
  dx: Output;
  probabilities: Input;
  labels: Input;
  /** f32 [n], or nowhere. */
  weight: Input;
  /** Gradient of the loss: one number, or one per row. */
  g: Input;
  /** What the sum of the losses was divided by, or nowhere. */
  divisor: Input;
  rows: i32;
  n: i32;
  block: i32;
  ignoreIndex: i32;
  smoothing: f32;
  /** 1: `g` has one number per row. */
  perRow: i32;
}


@unmanaged
export class NllArgs {
  losses: Output;
  counts: Output;
  /** Logarithms of probabilities, f32 [rows, n]. */
  x: Input;
  labels: Input;
  weight: Input;
  rows: i32;
  n: i32;
  block: i32;
  ignoreIndex: i32;
}


@unmanaged
export class NllGradArgs {
  dx: Output;
  labels: Input;
  weight: Input;
  g: Input;
  divisor: Input;
  rows: i32;
  n: i32;
  block: i32;
  ignoreIndex: i32;
  perRow: i32;
}


@unmanaged
export class LossTotalArgs {
  /** f32 [1]: sum of the losses, divided by the sum of the counts if `mean`. */
  y: Output;
  /** f32 [1]: what was divided by. */
  divisor: Output;
  losses: Input;
  counts: Input;
  rows: i32;
  mean: i32;
}


@unmanaged
export class SquaredErrorArgs {
  /** One partial sum per tile of SQUARED_ERROR_TILE elements. */
  y: Output;
  x: Input;
  target: Input;
  n: i32;
}


@unmanaged
export class SquaredErrorGradArgs {
  dx: Output;
  x: Input;
  target: Input;
  /** f32 [1]. */
  g: Input;
  n: i32;
  /** 2 for the sum, 2 / n for the mean; negative for the gradient of the target. */
  scale: f32;
}

/** Elements per tile of squaredError and squaredErrorGrad. */
export const SQUARED_ERROR_TILE: i32 = 32768;
const BLOCK: i32 = 1024;

// ---- Classes ------------------------------------------------------------------------------------------------------------

/** Loss, weight and probabilities of each row. */
export function crossEntropy(args: CrossEntropyArgs, first: i32, last: i32, lane: i32): void {
  const n = args.n;
  const end = min(args.rows, last * args.block);
  for (let row = first * args.block; row < end; row++) {
    const x = args.x + ((<usize>row * <usize>n) << 2);
    const max = rowMax(x, n);
    const log = logOf(<f32>softmaxRow(args.probabilities + ((<usize>row * <usize>n) << 2), x, n, max));
    const label = checkedLabel(args.labels, row, n, args.ignoreIndex);
    let loss: f32 = 0;
    let count: f32 = 0;
    if (label >= 0) {
      count = classWeight(args.weight, label);
      loss = (<f32>1 - args.smoothing) * count * (log - (load<f32>(x + ((<usize>label) << 2)) - max));
      if (args.smoothing > 0) loss += (args.smoothing / <f32>n) * <f32>smoothLoss(x, args.weight, n, max, log);
    }
    store<f32>(args.losses + ((<usize>row) << 2), loss);
    store<f32>(args.counts + ((<usize>row) << 2), count);
  }
}

/** The label of a row, or -1 where it is to be ignored; a label outside 0 .. n - 1 is reported. */
function checkedLabel(labels: usize, row: i32, n: i32, ignoreIndex: i32): i32 {
  const label = load<i32>(labels + ((<usize>row) << 2));
  if (label == ignoreIndex) return -1;
  if (<u32>label < <u32>n) return label;
  report(INDEX_OUT_OF_RANGE, label, n);
  return -1;
}

// @ts-ignore: decorator
@inline
function classWeight(weight: usize, label: i32): f32 {
  return weight ? load<f32>(weight + ((<usize>label) << 2)) : 1;
}

/** -sum_c w[c] log p[c]. */
function smoothLoss(x: usize, weight: usize, n: i32, max: f32, log: f32): f64 {
  let total: f64 = 0;
  for (let c = 0; c < n; c++) {
    total += <f64>classWeight(weight, c) * <f64>(log - (load<f32>(x + ((<usize>c) << 2)) - max));
  }
  return total;
}

/** Gradient of crossEntropy with respect to the scores. */
export function crossEntropyGrad(args: CrossEntropyGradArgs, first: i32, last: i32, lane: i32): void {
  const n = args.n;
  const share = args.smoothing / <f32>n;
  const total = args.weight ? <f32>contiguousSum(args.weight, n) : <f32>n;
  const end = min(args.rows, last * args.block);
  for (let row = first * args.block; row < end; row++) {
    const at = (<usize>row * <usize>n) << 2;
    const label = checkedLabel(args.labels, row, n, args.ignoreIndex);
    if (label < 0) {
      memory.fill(args.dx + at, 0, (<usize>n) << 2);
      continue;
    }
    const g = rowGradient(args.g, args.divisor, args.perRow ? row : 0);
    const hit: f32 = (<f32>1 - args.smoothing) * classWeight(args.weight, label);
    scoreGradient(args.dx + at, args.probabilities + at, args.weight, n, g * (hit + total * share), g * share);
    const target = args.dx + at + ((<usize>label) << 2);
    store<f32>(target, load<f32>(target) - g * hit);
  }
}

// @ts-ignore: decorator
@inline
function rowGradient(g: usize, divisor: usize, row: i32): f32 {
  const value = load<f32>(g + ((<usize>row) << 2));
  return divisor ? value / load<f32>(divisor) : value;
}

/** dx = a p - b w. */
function scoreGradient(dx: usize, p: usize, weight: usize, n: i32, a: f32, b: f32): void {
  const factor = f32x4.splat(a);
  let offset = f32x4.splat(b);
  const share = offset;
  for (; n > 0; n -= 4, dx += 16, p += 16) {
    if (weight) {
      offset = f32x4.mul(share, v128.load(weight));
      weight += 16;
    }
    storeLanes(dx, f32x4.sub(f32x4.mul(factor, v128.load(p)), offset), n);
  }
}

/** Negative log-likelihood of each row, its weight in the mean. */
export function nllLoss(args: NllArgs, first: i32, last: i32, lane: i32): void {
  const end = min(args.rows, last * args.block);
  for (let row = first * args.block; row < end; row++) {
    const label = checkedLabel(args.labels, row, args.n, args.ignoreIndex);
    const count: f32 = label < 0 ? 0 : classWeight(args.weight, label);
    const at = (<usize>(row * args.n + max(label, 0))) << 2;
    store<f32>(args.losses + ((<usize>row) << 2), label < 0 ? 0 : -count * load<f32>(args.x + at));
    store<f32>(args.counts + ((<usize>row) << 2), count);
  }
}

/** Gradient of nllLoss: -g w[t] at the label, 0 elsewhere. */
export function nllLossGrad(args: NllGradArgs, first: i32, last: i32, lane: i32): void {
  const end = min(args.rows, last * args.block);
  for (let row = first * args.block; row < end; row++) {
    const dx = args.dx + ((<usize>row * <usize>args.n) << 2);
    memory.fill(dx, 0, (<usize>args.n) << 2);
    const label = checkedLabel(args.labels, row, args.n, args.ignoreIndex);
    if (label < 0) continue;
    const g = rowGradient(args.g, args.divisor, args.perRow ? row : 0);
    store<f32>(dx + ((<usize>label) << 2), -g * classWeight(args.weight, label));
  }
}

/** Sum or weighted mean of the losses of all rows; one tile. */
export function lossTotal(args: LossTotalArgs, first: i32, last: i32, lane: i32): void {
  const divisor: f32 = args.mean ? <f32>contiguousSum(args.counts, args.rows) : 1;
  store<f32>(args.divisor, divisor);
  store<f32>(args.y, <f32>(contiguousSum(args.losses, args.rows) / <f64>divisor));
}

// ---- Squared error ------------------------------------------------------------------------------------------------------

/** Sums of (x - target)^2, one per tile. */
export function squaredError(args: SquaredErrorArgs, first: i32, last: i32, lane: i32): void {
  for (let tile = first; tile < last; tile++) {
    const start = tile * SQUARED_ERROR_TILE;
    const end = min(args.n, start + SQUARED_ERROR_TILE);
    let total: f64 = 0;
    for (let i = start; i < end; i += BLOCK) {
      const at = (<usize>i) << 2;
      total += squaredErrorBlock(args.x + at, args.target + at, min(BLOCK, end - i));
    }
    store<f32>(args.y + ((<usize>tile) << 2), <f32>total);
  }
}

function squaredErrorBlock(x: usize, target: usize, n: i32): f32 {
  let s0 = i32x4.splat(0);
  let s1 = s0;
  for (; n >= 8; n -= 8, x += 32, target += 32) {
    const d0 = f32x4.sub(v128.load(x), v128.load(target));
    const d1 = f32x4.sub(v128.load(x, 16), v128.load(target, 16));
    s0 = f32x4.add(s0, f32x4.mul(d0, d0));
    s1 = f32x4.add(s1, f32x4.mul(d1, d1));
  }
  for (; n > 0; n -= 4, x += 16, target += 16) {
    const d = f32x4.sub(v128.load(x), v128.load(target));
    s0 = f32x4.add(s0, v128.and(f32x4.mul(d, d), laneMask(n)));
  }
  return sumLanes(f32x4.add(s0, s1));
}

/** dx = scale g (x - target). */
export function squaredErrorGrad(args: SquaredErrorGradArgs, first: i32, last: i32, lane: i32): void {
  const start = first * SQUARED_ERROR_TILE;
  const end = min(args.n, last * SQUARED_ERROR_TILE);
  const at = (<usize>start) << 2;
  scaledDifference(args.dx + at, args.x + at, args.target + at, end - start, args.scale * load<f32>(args.g));
}

function scaledDifference(dx: usize, x: usize, target: usize, n: i32, factor: f32): void {
  const f = f32x4.splat(factor);
  for (; n > 0; n -= 4, dx += 16, x += 16, target += 16) {
    storeLanes(dx, f32x4.mul(f, f32x4.sub(v128.load(x), v128.load(target))), n);
  }
}
