// The norm of many gradients together, and scaling them all by it: torch.nn.utils.clip_grad_norm_.
//
// Squares are added in f32 over blocks of 1024, which are added in f64; blocks, tiles and their order follow from the sizes alone.
import { Input, Output, Table } from './record';
import { contiguousSum } from './reduce';
import { laneMask, maxLanes, storeLanes, sumLanes } from './vector';

/** Elements per tile. A gradient of n elements has ceil(n / CLIP_TILE) tiles of its own. */
export const CLIP_TILE: i32 = 16384;
const ENTRY_BYTES: usize = 12;
const BLOCK: i32 = 1024;
/** Added to the norm before it divides, as PyTorch does. */
const NORM_EPS: f32 = 1e-6;


@unmanaged
export class ClipArgs {
  /** f32, one per tile: its sum of squares, or its largest magnitude. Read by clipFactor. */
  partials: Output;
  /** Words per gradient: its address, its count, its first tile. */
  entries: Table;
  /** Number of gradients; none of them is empty. */
  count: i32;
  /** 1: the largest magnitude instead of the root of the sum of squares. */
  largest: i32;
}


@unmanaged
export class ClipFactorArgs {
  /** f32 [1]: the norm. */
  norm: Output;
  /** f32 [1]: what gradients are multiplied by, at most 1. */
  factor: Output;
  partials: Input;
  tiles: i32;
  largest: i32;
  maxNorm: f32;
}


@unmanaged
export class ClipScaleArgs {
  entries: Table;
  count: i32;
  factor: Input;
}

/** The gradient that a tile belongs to. */
function entryOf(entries: usize, count: i32, tile: i32): usize {
  let low = 0;
  let high = count;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (load<i32>(entries + <usize>middle * ENTRY_BYTES, 8) <= tile) low = middle;
    else high = middle;
  }
  return entries + <usize>low * ENTRY_BYTES;
}

// @ts-ignore: decorator
@inline
function tileAddress(entry: usize, tile: i32): usize {
  return load<usize>(entry) + ((<usize>((tile - load<i32>(entry, 8)) * CLIP_TILE)) << 2);
}

// @ts-ignore: decorator
@inline
function tileLength(entry: usize, tile: i32): i32 {
  return min(CLIP_TILE, load<i32>(entry, 4) - (tile - load<i32>(entry, 8)) * CLIP_TILE);
}

/** Sum of squares, or largest magnitude, of each tile. */
export function clipPartials(args: ClipArgs, first: i32, last: i32, lane: i32): void {
  for (let tile = first; tile < last; tile++) {
    const entry = entryOf(args.entries, args.count, tile);
    const x = tileAddress(entry, tile);
    const n = tileLength(entry, tile);
    store<f32>(args.partials + ((<usize>tile) << 2), args.largest ? largestMagnitude(x, n) : squareSum(x, n));
  }
}

function squareSum(x: usize, n: i32): f32 {
  let total: f64 = 0;
  for (; n > BLOCK; n -= BLOCK, x += (<usize>BLOCK) << 2) total += <f64>blockSquares(x, BLOCK);
  return <f32>(total + <f64>blockSquares(x, n));
}

function blockSquares(x: usize, n: i32): f32 {
  let s0 = i32x4.splat(0);
  let s1 = s0;
  for (; n >= 8; n -= 8, x += 32) {
    const a = v128.load(x);
    const b = v128.load(x, 16);
    s0 = f32x4.add(s0, f32x4.mul(a, a));
    s1 = f32x4.add(s1, f32x4.mul(b, b));
  }
  for (; n > 0; n -= 4, x += 16) {
    const a = v128.and(v128.load(x), laneMask(n));
    s0 = f32x4.add(s0, f32x4.mul(a, a));
  }
  return sumLanes(f32x4.add(s0, s1));
}

/** NaN if any element is. */
function largestMagnitude(x: usize, n: i32): f32 {
  let best = i32x4.splat(0);
  let unordered = best;
  for (; n > 0; n -= 4, x += 16) {
    const a = f32x4.abs(v128.and(v128.load(x), laneMask(n)));
    best = f32x4.pmax(best, a);
    unordered = v128.or(unordered, f32x4.ne(a, a));
  }
  return v128.any_true(unordered) ? NaN : maxLanes(best);
}

/** The norm of all, and the factor min(1, maxNorm / (norm + 1e-6)); NaN if the norm is. One tile. */
export function clipFactor(args: ClipFactorArgs, first: i32, last: i32, lane: i32): void {
  let norm: f32 = 0;
  if (args.largest) {
    for (let i = 0; i < args.tiles && norm == norm; i++) {
      const value = load<f32>(args.partials + ((<usize>i) << 2));
      if (!(value <= norm)) norm = value;
    }
  } else norm = <f32>sqrt<f64>(contiguousSum(args.partials, args.tiles));
  store<f32>(args.norm, norm);
  const factor: f32 = args.maxNorm / (norm + NORM_EPS);
  store<f32>(args.factor, factor > 1 ? 1 : factor);
}

/** g = g factor; nothing where the factor is 1. */
export function clipScale(args: ClipScaleArgs, first: i32, last: i32, lane: i32): void {
  const value = load<f32>(args.factor);
  if (value == 1) return;
  const factor = f32x4.splat(value);
  for (let tile = first; tile < last; tile++) {
    const entry = entryOf(args.entries, args.count, tile);
    let x = tileAddress(entry, tile);
    for (let n = tileLength(entry, tile); n > 0; n -= 4, x += 16) {
      storeLanes(x, f32x4.mul(v128.load(x), factor), n);
    }
  }
}
