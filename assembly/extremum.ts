// y[kept] = max or min over the reduced axes of x, and where it was found.
//
// NaN wins and the first of equal values is taken, as in PyTorch. Geometry and the walks by rows and by columns: reduce.ts.
import { Input, Output, Table } from './record';
import {
  ReduceArgs,
  STRIDE_X,
  STRIDE_Y,
  firstLength,
  innerLength,
  innerStride,
  keptOffset,
  outerCount,
  outerOffset,
  partOf,
} from './reduce';
import { select, storeLanes } from './vector';

/** Largest or smallest value: the first fields are those of ReduceArgs. */
@unmanaged
export class ExtremumArgs {
  y: Output;
  x: Input;
  dims: Table;
  kept: i32;
  reduced: i32;
  outputs: i32;
  block: i32;
  chunk: i32;
  /** MAX_FLOAT, MIN_FLOAT, MAX_INTEGER or MIN_INTEGER. */
  kind: i32;
}

/** Value and position: ExtremumArgs (with chunk 0) and where the positions go. */
@unmanaged
export class PositionArgs {
  y: Output;
  x: Input;
  dims: Table;
  kept: i32;
  reduced: i32;
  outputs: i32;
  block: i32;
  chunk: i32;
  kind: i32;
  /** i32, one per output, as y: index among the reduced elements in the order of the table. */
  positions: Output;
}

export const MAX_FLOAT: i32 = 0;
export const MIN_FLOAT: i32 = 1;
export const MAX_INTEGER: i32 = 2;
export const MIN_INTEGER: i32 = 3;

// ---- The four orders. Values travel as 32-bit patterns. ------------------------------------------------------------------
// `takes`: lanes where x replaces best. Never where best is NaN, always where x alone is, so the first NaN stays.

@unmanaged
class MaxFloat {

  @inline takes(x: v128, best: v128): v128 {
    return v128.andnot(f32x4.eq(best, best), f32x4.le(x, best));
  }


  @inline beats(x: i32, best: i32): bool {
    const b = reinterpret<f32>(best);
    return b == b && !(reinterpret<f32>(x) <= b);
  }
}


@unmanaged
class MinFloat {

  @inline takes(x: v128, best: v128): v128 {
    return v128.andnot(f32x4.eq(best, best), f32x4.ge(x, best));
  }


  @inline beats(x: i32, best: i32): bool {
    const b = reinterpret<f32>(best);
    return b == b && !(reinterpret<f32>(x) >= b);
  }
}


@unmanaged
class MaxInteger {

  @inline takes(x: v128, best: v128): v128 {
    return i32x4.gt_s(x, best);
  }


  @inline beats(x: i32, best: i32): bool {
    return x > best;
  }
}


@unmanaged
class MinInteger {

  @inline takes(x: v128, best: v128): v128 {
    return i32x4.lt_s(x, best);
  }


  @inline beats(x: i32, best: i32): bool {
    return x < best;
  }
}

// ---- Rows ---------------------------------------------------------------------------------------------------------------

/** Extrema, one output at a time. */
export function extremumRows(args: ExtremumArgs, first: i32, last: i32, lane: i32): void {
  rowsOfKind(changetype<ReduceArgs>(args), args.kind, 0, first, last);
}

/** Extrema and their positions, one output at a time. */
export function positionRows(args: PositionArgs, first: i32, last: i32, lane: i32): void {
  rowsOfKind(changetype<ReduceArgs>(args), args.kind, args.positions, first, last);
}

function rowsOfKind(args: ReduceArgs, kind: i32, positions: usize, first: i32, last: i32): void {
  if (kind == MAX_FLOAT) rows<MaxFloat>(args, positions, first, last);
  else if (kind == MIN_FLOAT) rows<MinFloat>(args, positions, first, last);
  else if (kind == MAX_INTEGER) rows<MaxInteger>(args, positions, first, last);
  else rows<MinInteger>(args, positions, first, last);
}

function rows<Op>(args: ReduceArgs, positions: usize, first: i32, last: i32): void {
  const end = min(args.outputs, last * args.block);
  for (let output = first * args.block; output < end; output++) {
    const y = (<usize>keptOffset(args.dims, args.kept, output, STRIDE_Y)) << 2;
    const x = args.x + ((<usize>keptOffset(args.dims, args.kept, output, STRIDE_X)) << 2);
    const length = firstLength(args, partOf(args, output, args.outputs));
    const best = bestOf<Op>(args, x, length);
    store<i32>(args.y + y, best);
    if (positions) store<i32>(positions + y, positionOf<Op>(args, x, length, best));
  }
}

function bestOf<Op>(args: ReduceArgs, x: usize, length: i32): i32 {
  const walks = outerCount(args, length);
  const n = innerLength(args, length);
  const stride = innerStride(args);
  let best = load<i32>(x);
  for (let walk = 0; walk < walks; walk++) {
    const row = x + ((<usize>outerOffset(args, walk)) << 2);
    if (stride == 1) best = bestOfRow<Op>(row, n, best);
    else best = bestStrided<Op>(row, n, (<usize>stride) << 2, best);
  }
  return best;
}

function bestOfRow<Op>(x: usize, n: i32, start: i32): i32 {
  const op = changetype<Op>(0);
  let best0 = i32x4.splat(start);
  let best1 = best0;
  for (; n >= 8; n -= 8, x += 32) {
    const x0 = v128.load(x);
    const x1 = v128.load(x, 16);
    best0 = select(op.takes(x0, best0), x0, best0);
    best1 = select(op.takes(x1, best1), x1, best1);
  }
  best0 = select(op.takes(best1, best0), best1, best0);
  let best = i32x4.extract_lane(best0, 0);
  best = better<Op>(i32x4.extract_lane(best0, 1), best);
  best = better<Op>(i32x4.extract_lane(best0, 2), best);
  best = better<Op>(i32x4.extract_lane(best0, 3), best);
  return bestStrided<Op>(x, n, 4, best);
}

function bestStrided<Op>(x: usize, n: i32, stride: usize, best: i32): i32 {
  for (; n > 0; n--, x += stride) best = better<Op>(load<i32>(x), best);
  return best;
}

// @ts-ignore: decorator
@inline
function better<Op>(x: i32, best: i32): i32 {
  return changetype<Op>(0).beats(x, best) ? x : best;
}

/** Where `best` lies first: at the first element that it does not beat. */
function positionOf<Op>(args: ReduceArgs, x: usize, length: i32, best: i32): i32 {
  const walks = outerCount(args, length);
  const n = innerLength(args, length);
  const stride = innerStride(args);
  for (let walk = 0; walk < walks; walk++) {
    const row = x + ((<usize>outerOffset(args, walk)) << 2);
    const start = stride == 1 ? skipRow<Op>(row, n, best) : 0;
    const i = findStrided<Op>(row, start, n, (<usize>stride) << 2, best);
    if (i < n) return walk * n + i;
  }
  return 0;
}

/** Start of the first group of four that holds an element which `best` does not beat. */
function skipRow<Op>(x: usize, n: i32, best: i32): i32 {
  const op = changetype<Op>(0);
  const value = i32x4.splat(best);
  let i = 0;
  for (; i + 4 <= n; i += 4, x += 16) {
    if (!i32x4.all_true(op.takes(value, v128.load(x)))) return i;
  }
  return i;
}

function findStrided<Op>(x: usize, i: i32, n: i32, stride: usize, best: i32): i32 {
  const op = changetype<Op>(0);
  x += <usize>i * stride;
  for (; i < n; i++, x += stride) {
    if (!op.beats(best, load<i32>(x))) return i;
  }
  return n;
}

// ---- Columns ------------------------------------------------------------------------------------------------------------

/** Extrema of neighbouring columns. */
export function extremumColumns(args: ExtremumArgs, first: i32, last: i32, lane: i32): void {
  columnsOfKind(changetype<ReduceArgs>(args), args.kind, 0, first, last);
}

/** Extrema and positions of neighbouring columns. */
export function positionColumns(args: PositionArgs, first: i32, last: i32, lane: i32): void {
  columnsOfKind(changetype<ReduceArgs>(args), args.kind, args.positions, first, last);
}

function columnsOfKind(args: ReduceArgs, kind: i32, positions: usize, first: i32, last: i32): void {
  if (kind == MAX_FLOAT) columns<MaxFloat>(args, positions, first, last);
  else if (kind == MIN_FLOAT) columns<MinFloat>(args, positions, first, last);
  else if (kind == MAX_INTEGER) columns<MaxInteger>(args, positions, first, last);
  else columns<MinInteger>(args, positions, first, last);
}

/** Tile `t` is column block t % across of outer index t / across, as in reduce.ts. */
function columns<Op>(args: ReduceArgs, positions: usize, first: i32, last: i32): void {
  const outerKept = args.kept - 1;
  const width = load<i32>(args.dims + <usize>outerKept * 12);
  const across = (width + args.block - 1) / args.block;
  for (let tile = first; tile < last; tile++) {
    const outer = tile / across;
    const column = (tile - outer * across) * args.block;
    const length = firstLength(args, partOf(args, outer, args.outputs / width));
    let y = (<usize>(keptOffset(args.dims, outerKept, outer, STRIDE_Y) + column)) << 2;
    let x = args.x + ((<usize>(keptOffset(args.dims, outerKept, outer, STRIDE_X) + column)) << 2);
    let count = min(args.block, width - column);
    if (!positions) {
      for (; count >= 16; count -= 16, y += 64, x += 64) bestOf16Columns<Op>(args, args.y + y, x, length);
    }
    for (; count > 0; count -= 4, y += 16, x += 16) {
      bestOf4Columns<Op>(args, args.y + y, positions ? positions + y : 0, x, length, count);
    }
  }
}

function bestOf16Columns<Op>(args: ReduceArgs, y: usize, x: usize, length: i32): void {
  const op = changetype<Op>(0);
  const walks = outerCount(args, length);
  const n = innerLength(args, length);
  const stride = (<usize>innerStride(args)) << 2;
  let best0 = v128.load(x);
  let best1 = v128.load(x, 16);
  let best2 = v128.load(x, 32);
  let best3 = v128.load(x, 48);
  for (let walk = 0; walk < walks; walk++) {
    let row = x + ((<usize>outerOffset(args, walk)) << 2);
    for (let i = 0; i < n; i++, row += stride) {
      const x0 = v128.load(row);
      const x1 = v128.load(row, 16);
      const x2 = v128.load(row, 32);
      const x3 = v128.load(row, 48);
      best0 = select(op.takes(x0, best0), x0, best0);
      best1 = select(op.takes(x1, best1), x1, best1);
      best2 = select(op.takes(x2, best2), x2, best2);
      best3 = select(op.takes(x3, best3), x3, best3);
    }
  }
  v128.store(y, best0);
  v128.store(y, best1, 16);
  v128.store(y, best2, 32);
  v128.store(y, best3, 48);
}

function bestOf4Columns<Op>(args: ReduceArgs, y: usize, positions: usize, x: usize, length: i32, count: i32): void {
  const op = changetype<Op>(0);
  const walks = outerCount(args, length);
  const n = innerLength(args, length);
  const stride = (<usize>innerStride(args)) << 2;
  let best = v128.load(x);
  let at = i32x4.splat(0);
  let here = 0;
  for (let walk = 0; walk < walks; walk++) {
    let row = x + ((<usize>outerOffset(args, walk)) << 2);
    for (let i = 0; i < n; i++, row += stride, here++) {
      const value = v128.load(row);
      const takes = op.takes(value, best);
      best = select(takes, value, best);
      at = select(takes, i32x4.splat(here), at);
    }
  }
  storeLanes(y, best, count);
  if (positions) storeLanes(positions, at, count);
}
