// y[kept] = sum over the reduced axes of f(x[kept, reduced]) / divisor, with f(x) = x or f(x) = (x - centre[kept])^2.
//
// Two walks over the same geometry:
//   rows      one output at a time; fast where the last reduced dimension is contiguous
//   columns   many neighbouring outputs at a time, x added row by row; the last kept dimension has stride 1 in x and in y
//
// Accuracy: f32 sums cover short fixed blocks only (BLOCK elements of a row, COLUMN_ROWS rows), which are added in f64. A long reduction is cut into parts of `chunk` indices, which a second command adds up. All of
// this follows from geometry, so the bits depend on nothing else.
import { Input, Output, Table } from './record';
import { scratch } from './control';
import { storeLanes, sumLanes } from './vector';

/**
 * A reduction. `dims` lists the kept dimensions, outermost first, three words each: size, stride in y, stride in x; then the
 * reduced ones, outermost first, two words each: size, stride in x. Strides count elements. At least one dimension is reduced.
 */
@unmanaged
export class ReduceArgs {
  y: Output;
  x: Input;
  dims: Table;
  /** Number of kept dimensions. */
  kept: i32;
  /** Number of reduced dimensions, at least 1. */
  reduced: i32;
  /** Product of the kept sizes. */
  outputs: i32;
  /** Rows: outputs per tile. Columns: columns per tile, a multiple of 4, at most COLUMN_BLOCK. */
  block: i32;
  /** 0, or: kept dimension 0 counts parts of the first reduced dimension, `chunk` indices each, the last one shorter. */
  chunk: i32;
  /** 1 for a sum, the number of elements for a mean. */
  divisor: f32;
}

/** A reduction of (x - centre)^2: ReduceArgs and the centre of each output, which lies as y does (without parts). */
@unmanaged
export class DeviationArgs {
  y: Output;
  x: Input;
  dims: Table;
  kept: i32;
  reduced: i32;
  outputs: i32;
  block: i32;
  chunk: i32;
  divisor: f32;
  centre: Input;
}

/** An exact integer sum in i32: ReduceArgs with the element type of x. */
@unmanaged
export class IntegerSumArgs {
  y: Output;
  x: Input;
  dims: Table;
  kept: i32;
  reduced: i32;
  outputs: i32;
  block: i32;
  chunk: i32;
  /** 1: x is u8; 4: x is i32. */
  bytes: i32;
}

/** Elements that one f32 sum covers before it goes to f64. */
const BLOCK: i32 = 1024;
/** Rows that one f32 column sum covers before it goes to f64. */
const COLUMN_ROWS: i32 = 128;
/** Columns per tile at most. */
export const COLUMN_BLOCK: i32 = 1024;
/** Scratch bytes per lane of sumColumns and deviationColumns: COLUMN_BLOCK sums in f32 and in f64. */
export const COLUMN_SCRATCH: i32 = 12288;

// ---- Geometry, shared with extremum.ts ----------------------------------------------------------------------------------

/** Word of a kept dimension that holds its stride in y. */
export const STRIDE_Y: usize = 4;
/** Word of a kept dimension that holds its stride in x. */
export const STRIDE_X: usize = 8;
const KEPT_BYTES: usize = 12;
const REDUCED_BYTES: usize = 8;

/** Offset in elements of kept index `index` among the first `kept` dimensions, in the tensor whose stride is at `word`. */
export function keptOffset(dims: usize, kept: i32, index: i32, word: usize): i32 {
  let offset = 0;
  let entry = dims + <usize>kept * KEPT_BYTES;
  for (let d = kept - 1; d > 0; d--) {
    entry -= KEPT_BYTES;
    const size = load<i32>(entry);
    const outer = index / size;
    offset += (index - outer * size) * load<i32>(entry + word);
    index = outer;
  }
  return kept > 0 ? offset + index * load<i32>(dims + word) : 0;
}

/** The part that kept index `index` of `count` belongs to; 0 where nothing is cut. */
export function partOf(args: ReduceArgs, index: i32, count: i32): i32 {
  return args.chunk ? index / (count / load<i32>(args.dims)) : 0;
}

/** Address of the reduced dimensions. */
// @ts-ignore: decorator
@inline
export function reducedDims(args: ReduceArgs): usize {
  return args.dims + <usize>args.kept * KEPT_BYTES;
}

/** Indices of the first reduced dimension that lie in `part`. */
export function firstLength(args: ReduceArgs, part: i32): i32 {
  const size = load<i32>(reducedDims(args));
  return args.chunk ? min(args.chunk, size - part * args.chunk) : size;
}

/** Length of the innermost reduced dimension, when the first has `length` indices. */
export function innerLength(args: ReduceArgs, length: i32): i32 {
  return args.reduced == 1 ? length : load<i32>(innerDim(args));
}

/** Stride in elements of the innermost reduced dimension. */
export function innerStride(args: ReduceArgs): i32 {
  return load<i32>(innerDim(args), 4);
}

// @ts-ignore: decorator
@inline
function innerDim(args: ReduceArgs): usize {
  return reducedDims(args) + <usize>(args.reduced - 1) * REDUCED_BYTES;
}

/** How often the innermost reduced dimension is walked, when the first has `length` indices. */
export function outerCount(args: ReduceArgs, length: i32): i32 {
  if (args.reduced == 1) return 1;
  let count = length;
  for (let d = 1; d < args.reduced - 1; d++) count *= load<i32>(reducedDims(args) + <usize>d * REDUCED_BYTES);
  return count;
}

/** Offset in elements of walk number `index` of the innermost reduced dimension. */
export function outerOffset(args: ReduceArgs, index: i32): i32 {
  const dims = reducedDims(args);
  let offset = 0;
  for (let d = args.reduced - 2; d > 0; d--) {
    const entry = dims + <usize>d * REDUCED_BYTES;
    const size = load<i32>(entry);
    const outer = index / size;
    offset += (index - outer * size) * load<i32>(entry, 4);
    index = outer;
  }
  return args.reduced > 1 ? offset + index * load<i32>(dims, 4) : 0;
}

// ---- What is summed -----------------------------------------------------------------------------------------------------

@unmanaged
class Plain {

  @inline centre(address: usize): v128 {
    return i32x4.splat(0);
  }


  @inline vector(x: v128, centre: v128): v128 {
    return x;
  }


  @inline scalar(x: f32, centre: f32): f32 {
    return x;
  }
}


@unmanaged
class Deviation {

  @inline centre(address: usize): v128 {
    return v128.load(address);
  }


  @inline vector(x: v128, centre: v128): v128 {
    const d = f32x4.sub(x, centre);
    return f32x4.mul(d, d);
  }


  @inline scalar(x: f32, centre: f32): f32 {
    return (x - centre) * (x - centre);
  }
}

// ---- Rows ---------------------------------------------------------------------------------------------------------------

/** Sums, one output at a time. */
export function sumRows(args: ReduceArgs, first: i32, last: i32, lane: i32): void {
  rows<Plain>(args, 0, first, last);
}

/** Sums of squared deviations, one output at a time. */
export function deviationRows(args: DeviationArgs, first: i32, last: i32, lane: i32): void {
  rows<Deviation>(changetype<ReduceArgs>(args), args.centre, first, last);
}

function rows<Op>(args: ReduceArgs, centres: usize, first: i32, last: i32): void {
  const end = min(args.outputs, last * args.block);
  for (let output = first * args.block; output < end; output++) {
    const part = partOf(args, output, args.outputs);
    const y = keptOffset(args.dims, args.kept, output, STRIDE_Y);
    const x = args.x + ((<usize>keptOffset(args.dims, args.kept, output, STRIDE_X)) << 2);
    const centre: f32 = centres ? load<f32>(centres + ((<usize>(y - part * partStride(args))) << 2)) : 0;
    const total = rowTotal<Op>(args, x, firstLength(args, part), centre);
    store<f32>(args.y + ((<usize>y) << 2), <f32>(total / <f64>args.divisor));
  }
}

/** Stride in y from one part to the next. */
function partStride(args: ReduceArgs): i32 {
  return args.chunk ? load<i32>(args.dims, 4) : 0;
}

function rowTotal<Op>(args: ReduceArgs, x: usize, length: i32, centre: f32): f64 {
  const walks = outerCount(args, length);
  const n = innerLength(args, length);
  const stride = innerStride(args);
  let total: f64 = 0;
  for (let walk = 0; walk < walks; walk++) {
    const row = x + ((<usize>outerOffset(args, walk)) << 2);
    for (let i = 0; i < n; i += BLOCK) {
      const count = min(BLOCK, n - i);
      if (stride == 1) total += blockSum<Op>(row + ((<usize>i) << 2), count, centre);
      else total += stridedSum<Op>(row + ((<usize>(i * stride)) << 2), count, (<usize>stride) << 2, centre);
    }
  }
  return total;
}

/** Sum of `n` contiguous elements. */
export function contiguousSum(x: usize, n: i32): f64 {
  let total: f64 = 0;
  for (; n > BLOCK; n -= BLOCK, x += (<usize>BLOCK) << 2) total += blockSum<Plain>(x, BLOCK, 0);
  return total + blockSum<Plain>(x, n, 0);
}

/** Sum of `n` contiguous elements in f32. */
function blockSum<Op>(x: usize, n: i32, centre: f32): f32 {
  const op = changetype<Op>(0);
  const shift = f32x4.splat(centre);
  let s0 = i32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (; n >= 16; n -= 16, x += 64) {
    s0 = f32x4.add(s0, op.vector(v128.load(x), shift));
    s1 = f32x4.add(s1, op.vector(v128.load(x, 16), shift));
    s2 = f32x4.add(s2, op.vector(v128.load(x, 32), shift));
    s3 = f32x4.add(s3, op.vector(v128.load(x, 48), shift));
  }
  for (; n >= 4; n -= 4, x += 16) s0 = f32x4.add(s0, op.vector(v128.load(x), shift));
  let sum = sumLanes(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
  for (; n > 0; n--, x += 4) sum += op.scalar(load<f32>(x), centre);
  return sum;
}

/** Sum of `n` elements that lie `stride` bytes apart, in f32. */
function stridedSum<Op>(x: usize, n: i32, stride: usize, centre: f32): f32 {
  const op = changetype<Op>(0);
  let s0: f32 = 0;
  let s1: f32 = 0;
  for (; n >= 2; n -= 2, x += 2 * stride) {
    s0 += op.scalar(load<f32>(x), centre);
    s1 += op.scalar(load<f32>(x + stride), centre);
  }
  if (n) s0 += op.scalar(load<f32>(x), centre);
  return s0 + s1;
}

// ---- Columns ------------------------------------------------------------------------------------------------------------

/** Sums of neighbouring columns. Scratch: COLUMN_SCRATCH bytes per lane. */
export function sumColumns(args: ReduceArgs, first: i32, last: i32, lane: i32): void {
  columns<Plain>(args, 0, first, last, scratch(lane));
}

/** Sums of squared deviations of neighbouring columns. Scratch: COLUMN_SCRATCH bytes per lane. */
export function deviationColumns(args: DeviationArgs, first: i32, last: i32, lane: i32): void {
  columns<Deviation>(changetype<ReduceArgs>(args), args.centre, first, last, scratch(lane));
}

/** Tile `t` is column block t % across of outer index t / across. */
function columns<Op>(args: ReduceArgs, centres: usize, first: i32, last: i32, sums: usize): void {
  const outerKept = args.kept - 1;
  const width = load<i32>(args.dims + <usize>outerKept * KEPT_BYTES);
  const across = (width + args.block - 1) / args.block;
  const totals = sums + ((<usize>args.block) << 2);
  for (let tile = first; tile < last; tile++) {
    const outer = tile / across;
    const column = (tile - outer * across) * args.block;
    const count = min(args.block, width - column);
    const part = partOf(args, outer, args.outputs / width);
    const y = keptOffset(args.dims, outerKept, outer, STRIDE_Y) + column;
    const x = keptOffset(args.dims, outerKept, outer, STRIDE_X) + column;
    const centre = centres + ((<usize>(y - part * partStride(args))) << 2);
    memory.fill(sums, 0, <usize>args.block * 12);
    columnTotals<Op>(args, sums, totals, args.x + ((<usize>x) << 2), firstLength(args, part), count, centre);
    writeColumns(args.y + ((<usize>y) << 2), totals, count, args.divisor);
  }
}

function columnTotals<Op>(
  args: ReduceArgs,
  sums: usize,
  totals: usize,
  x: usize,
  length: i32,
  count: i32,
  centre: usize,
): void {
  const walks = outerCount(args, length);
  const n = innerLength(args, length);
  const stride = (<usize>innerStride(args)) << 2;
  let pending = 0;
  for (let walk = 0; walk < walks; walk++) {
    let row = x + ((<usize>outerOffset(args, walk)) << 2);
    for (let i = 0; i < n; i += COLUMN_ROWS) {
      const block = min(COLUMN_ROWS, n - i);
      if (pending + block > COLUMN_ROWS) {
        flush(totals, sums, count);
        pending = 0;
      }
      addBlock<Op>(sums, row, block, stride, count, centre);
      row += <usize>block * stride;
      pending += block;
    }
  }
  flush(totals, sums, count);
}

function addBlock<Op>(sums: usize, x: usize, n: i32, stride: usize, count: i32, centre: usize): void {
  for (; n >= 8; n -= 8, x += 8 * stride) addEightRows<Op>(sums, x, stride, count, centre);
  for (; n > 0; n--, x += stride) addRow<Op>(sums, x, count, centre);
}

function addEightRows<Op>(sums: usize, x: usize, stride: usize, count: i32, centre: usize): void {
  const op = changetype<Op>(0);
  const x4 = x + 4 * stride;
  const stride2: usize = 2 * stride;
  const stride3: usize = 3 * stride;
  for (let i: usize = 0, end = (<usize>count) << 2; i < end; i += 16) {
    const shift = op.centre(centre + i);
    const p = x + i;
    const q = x4 + i;
    const a = f32x4.add(op.vector(v128.load(p), shift), op.vector(v128.load(p + stride), shift));
    const b = f32x4.add(op.vector(v128.load(p + stride2), shift), op.vector(v128.load(p + stride3), shift));
    const c = f32x4.add(op.vector(v128.load(q), shift), op.vector(v128.load(q + stride), shift));
    const d = f32x4.add(op.vector(v128.load(q + stride2), shift), op.vector(v128.load(q + stride3), shift));
    v128.store(sums + i, f32x4.add(v128.load(sums + i), f32x4.add(f32x4.add(a, b), f32x4.add(c, d))));
  }
}

function addRow<Op>(sums: usize, x: usize, count: i32, centre: usize): void {
  const op = changetype<Op>(0);
  for (let i: usize = 0, end = (<usize>count) << 2; i < end; i += 16) {
    const value = op.vector(v128.load(x + i), op.centre(centre + i));
    v128.store(sums + i, f32x4.add(v128.load(sums + i), value));
  }
}

/** totals += sums; sums = 0. */
function flush(totals: usize, sums: usize, count: i32): void {
  for (; count > 0; count -= 4, sums += 16, totals += 32) {
    const x = v128.load(sums);
    const high = v128.shuffle<f32>(x, x, 2, 3, 2, 3);
    v128.store(totals, f64x2.add(v128.load(totals), f64x2.promote_low_f32x4(x)));
    v128.store(totals, f64x2.add(v128.load(totals, 16), f64x2.promote_low_f32x4(high)), 16);
    v128.store(sums, i32x4.splat(0));
  }
}

function writeColumns(y: usize, totals: usize, count: i32, divisor: f32): void {
  const d = f64x2.splat(<f64>divisor);
  for (; count > 0; count -= 4, y += 16, totals += 32) {
    const low = f32x4.demote_f64x2_zero(f64x2.div(v128.load(totals), d));
    const high = f32x4.demote_f64x2_zero(f64x2.div(v128.load(totals, 16), d));
    storeLanes(y, v128.shuffle<f32>(low, high, 0, 1, 4, 5), count);
  }
}

// ---- Integers -----------------------------------------------------------------------------------------------------------

/** Exact sums of i32 or u8 elements (the results of comparisons) in i32, one output at a time. Wraps beyond 32 bits. */
export function sumIntegers(args: IntegerSumArgs, first: i32, last: i32, lane: i32): void {
  const geometry = changetype<ReduceArgs>(args);
  const shift: usize = args.bytes == 4 ? 2 : 0;
  const end = min(args.outputs, last * args.block);
  for (let output = first * args.block; output < end; output++) {
    const y = keptOffset(args.dims, args.kept, output, STRIDE_Y);
    const x = args.x + ((<usize>keptOffset(args.dims, args.kept, output, STRIDE_X)) << shift);
    const length = firstLength(geometry, partOf(geometry, output, args.outputs));
    store<i32>(args.y + ((<usize>y) << 2), integerTotal(geometry, x, length, shift));
  }
}

function integerTotal(args: ReduceArgs, x: usize, length: i32, shift: usize): i32 {
  const walks = outerCount(args, length);
  const n = innerLength(args, length);
  const stride = innerStride(args);
  let total = 0;
  for (let walk = 0; walk < walks; walk++) {
    const row = x + ((<usize>outerOffset(args, walk)) << shift);
    if (shift == 0) total += stride == 1 ? byteSum(row, n) : stridedByteSum(row, n, <usize>stride);
    else total += stride == 1 ? wordSum(row, n) : stridedWordSum(row, n, (<usize>stride) << 2);
  }
  return total;
}

function byteSum(x: usize, n: i32): i32 {
  let sums = i32x4.splat(0);
  for (; n >= 16; n -= 16, x += 16) {
    const pairs = i16x8.extadd_pairwise_i8x16_u(v128.load(x));
    sums = i32x4.add(sums, i32x4.extadd_pairwise_i16x8_u(pairs));
  }
  return integerLanes(sums) + stridedByteSum(x, n, 1);
}

function stridedByteSum(x: usize, n: i32, stride: usize): i32 {
  let sum = 0;
  for (; n > 0; n--, x += stride) sum += <i32>load<u8>(x);
  return sum;
}

function wordSum(x: usize, n: i32): i32 {
  let sums = i32x4.splat(0);
  for (; n >= 4; n -= 4, x += 16) sums = i32x4.add(sums, v128.load(x));
  return integerLanes(sums) + stridedWordSum(x, n, 4);
}

function stridedWordSum(x: usize, n: i32, stride: usize): i32 {
  let sum = 0;
  for (; n > 0; n--, x += stride) sum += load<i32>(x);
  return sum;
}

function integerLanes(x: v128): i32 {
  return i32x4.extract_lane(x, 0) + i32x4.extract_lane(x, 1) + i32x4.extract_lane(x, 2) + i32x4.extract_lane(x, 3);
}
