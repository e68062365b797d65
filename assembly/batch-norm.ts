// y[r, c] = clamp((x[r, c] - mean[c]) scale[c] + shift[c] + residual[r, c], lo, hi), over blocks of rows or of planes.
import { blockLength, blocksOf, floats, inverseDeviation, planeOffset } from './batch-norm-blocks';
import { Input, Output } from './record';
import { clamp, madd, storeLanes } from './vector';


@unmanaged
export class BatchNormScaleArgs {
  /** [2, C]: weight / sqrt(variance + eps), and bias less what that makes of `rest`. */
  coefficients: Output;
  variance: Input;
  /** What the mean lost when it was rounded; 0: nothing. */
  rest: Input;
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

/** One tile. */
export function batchNormScale(args: BatchNormScaleArgs, first: i32, last: i32, lane: i32): void {
  const stride = floats(args.C);
  for (let at: usize = 0; at < stride; at += 4) {
    const weight: f64 = args.weight ? <f64>load<f32>(args.weight + at) : 1;
    const scale = inverseDeviation(load<f32>(args.variance + at), args.eps) * weight;
    store<f32>(args.coefficients + at, <f32>scale);
    const rest: f64 = args.rest ? <f64>load<f32>(args.rest + at) : 0;
    const bias: f64 = args.bias ? <f64>load<f32>(args.bias + at) : 0;
    store<f32>(args.coefficients + stride + at, <f32>(bias - rest * scale));
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
    const at = planeOffset(plane, b, args.length, args.block);
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
