// exp, log, sigmoid, tanh and sin(2 pi u) on four f32 lanes: the same bits on every engine, which `Math.exp` does not give.
//
// Largest error in units in the last place against f64, over every 64th float of the whole range:
//
//              plain  relaxed
//   exp         0.98    0.99    -inf -> 0, overflow -> inf, denormal results are kept
//   log         0.82    0.82    0 -> -inf, below 0 -> NaN, inf -> inf, denormal arguments are kept; no madd
//   sigmoid     2.44    2.44    denormal results are kept
//   tanh        2.50    2.50    denormals are kept
//   sinTurns    2e-7    2e-7    absolute, u in [0, 2); no madd
//
// NaN stays NaN in all of them. Functions without madd give the same bits in both builds.
//
// Every constant lies in memory and is loaded where it is used: V8 builds the splat of a literal with three instructions at
// each use, a load takes one, and fifteen registers would not hold them all anyway.
import { madd, nmadd } from './vector';

const ONE = memory.data<f32>([1]);
const TWO = memory.data<f32>([2]);
const HALF = memory.data<f32>([0.5]);
const MINUS_TWO = memory.data<f32>([-2]);
const SIGN_BIT = memory.data<u32>([0x80000000]);

const LOG2_E = memory.data<f32>([1.4426950408889634]);
/** -ln 2 in two parts; the first has 9 bits, so that its product with an exponent is exact. */
const MINUS_LN2_HIGH = memory.data<f32>([-0.693359375]);
const MINUS_LN2_LOW = memory.data<f32>([0.00021219444]);
/** (exp(r) - 1 - r) / r^2 = E2 + E3 r + .. + E6 r^4 on |r| <= ln(2) / 2, minimax: 0.05 ULP of exp(r). */
const E2 = memory.data<f32>([0.49999994]);
const E3 = memory.data<f32>([0.16666521]);
const E4 = memory.data<f32>([0.04166839]);
const E5 = memory.data<f32>([0.0083687454]);
const E6 = memory.data<f32>([0.001381454]);
/** 1.5 * 2^23 + 127: added to x, it rounds x to an integer n and leaves n + 127, the exponent field of 2^n, in the low bits. */
const ROUND_127 = memory.data<f32>([12583039]);
/** The same with n + 254: the sum of two exponent fields. */
const ROUND_254 = memory.data<f32>([12583166]);
/** exp(x) rounds to 0 below EXP_LOW and overflows above EXP_HIGH. */
const EXP_LOW = memory.data<f32>([-104]);
const EXP_HIGH = memory.data<f32>([89]);
/** 1.5 * 2^23 + 103: leaves the exponent field of 2^(n - 24). */
const ROUND_103 = memory.data<f32>([12583015]);
const TWO_TO_MINUS_24 = memory.data<f32>([5.9604644775390625e-8]);
/** 1 / (1 + exp(-x)) rounds to 0 below SIGMOID_LOW and to 1 above SIGMOID_HIGH. */
const SIGMOID_LOW = memory.data<f32>([-104]);
const SIGMOID_HIGH = memory.data<f32>([71]);
/** Constants of exp(-x), so that x need not be negated: every operation gives the bits it would give for -x. */
const MINUS_LOG2_E = memory.data<f32>([-1.4426950408889634]);
const REDUCE_HIGH = memory.data<f32>([0.693359375]);
const REDUCE_LOW = memory.data<f32>([-0.00021219444]);
const MINUS_E3 = memory.data<f32>([-0.16666521]);
const MINUS_E5 = memory.data<f32>([-0.0083687454]);
/** (1 - exp(x)) / (1 + exp(x)) rounds to 1 below. */
const TANH_LOW = memory.data<f32>([-18.1]);

/** Bits of the smallest normal number, and how many patterns from there are positive, normal and finite. */
const NORMAL = memory.data<u32>([0x00800000]);
const NORMALS = memory.data<u32>([0x7f000000]);
const SQRT_HALF = memory.data<u32>([0x3f3504f3]);
const MANTISSA = memory.data<u32>([0x007fffff]);
/** ln 2 in two parts; the first has 16 bits. */
const LN2_HIGH = memory.data<f32>([0.69313812256]);
const LN2_LOW = memory.data<f32>([0.0000090580006145]);
/** log((1 + s) / (1 - s)) = 2 s + s (L1 s^2 + .. + L4 s^8), from musl/src/math/logf.c (FreeBSD, Sun Microsystems). */
const L1 = memory.data<f32>([0.66666662693]);
const L2 = memory.data<f32>([0.40000972152]);
const L3 = memory.data<f32>([0.28498786688]);
const L4 = memory.data<f32>([0.24279078841]);

/** 1.5 * 2^23: rounds to an integer and leaves it in the low bits. */
const ROUND = memory.data<f32>([12582912]);
/** sin(2 pi v) / v = S0 + S1 v^2 + .. + S5 v^10 on |v| <= 1/4, minimax. */
const S0 = memory.data<f32>([6.2831855]);
const S1 = memory.data<f32>([-41.3417]);
const S2 = memory.data<f32>([81.605225]);
const S3 = memory.data<f32>([-76.70417]);
const S4 = memory.data<f32>([42.007797]);
const S5 = memory.data<f32>([-14.381391]);

// @ts-ignore: decorator
@inline
function splat(constant: usize): v128 {
  return v128.load32_splat(constant);
}

/** exp(r) - 1 for |r| <= ln(2) / 2. */
// @ts-ignore: decorator
@inline
function expm1Reduced(r: v128): v128 {
  let q = madd(splat(E6), r, splat(E5));
  q = madd(q, r, splat(E4));
  q = madd(q, r, splat(E3));
  q = madd(q, r, splat(E2));
  return madd(f32x4.mul(r, r), q, r);
}

/** x - n ln 2, Cody and Waite's reduction in two steps. */
// @ts-ignore: decorator
@inline
function reduce(x: v128, n: v128): v128 {
  return madd(n, splat(MINUS_LN2_LOW), madd(n, splat(MINUS_LN2_HIGH), x));
}

/** exp(x). 2^n is applied as two factors, so that the ends of the range, denormal results included, are rounded once. */
// @ts-ignore: decorator
@inline
export function expLanes(x: v128): v128 {
  const bounded = f32x4.pmin(f32x4.pmax(x, splat(EXP_LOW)), splat(EXP_HIGH));
  const rounded = madd(bounded, splat(LOG2_E), splat(ROUND_254));
  const r = reduce(bounded, f32x4.sub(rounded, splat(ROUND_254)));
  const p = f32x4.add(expm1Reduced(r), splat(ONE));
  const half = i32x4.shr_u(rounded, 1);
  const scaled = f32x4.mul(p, i32x4.shl(half, 23));
  return f32x4.mul(scaled, i32x4.shl(i32x4.sub(rounded, half), 23));
}

/**
 * 1 / (1 + exp(-x)), as 2^-24 / (2^-24 + 2^-24 exp(-x)): the smallest results are denormal before exp(-x) overflows. With r the rest of x
 * after the reduction, exp(-r) = 1 - (r - r^2 (E2 - E3 r + E4 r^2 - ..)).
 */
// @ts-ignore: decorator
@inline
export function sigmoidLanes(x: v128): v128 {
  const bounded = f32x4.pmin(f32x4.pmax(x, splat(SIGMOID_LOW)), splat(SIGMOID_HIGH));
  const rounded = madd(bounded, splat(MINUS_LOG2_E), splat(ROUND_103));
  const n = f32x4.sub(rounded, splat(ROUND_103));
  const r = madd(n, splat(REDUCE_LOW), madd(n, splat(REDUCE_HIGH), bounded));
  let q = madd(splat(E6), r, splat(MINUS_E5));
  q = madd(q, r, splat(E4));
  q = madd(q, r, splat(MINUS_E3));
  q = madd(q, r, splat(E2));
  const p = f32x4.sub(splat(ONE), nmadd(f32x4.mul(r, r), q, r));
  const unit = splat(TWO_TO_MINUS_24);
  return f32x4.div(unit, madd(p, i32x4.shl(rounded, 23), unit));
}

/**
 * sigmoid of `blocks` x 16 floats, the bits of `sigmoidLanes`. Four chains of operations run side by side: one alone waits for each of its
 * results, and a core looks too few operations ahead to begin the next. Borders that are never crossed keep V8 11 from moving
 * arithmetic to the end of the loop, where registers do not suffice.
 */
export function sigmoidBlocks(y: usize, x: usize, blocks: i32): void {
  for (; blocks > 0; blocks--) {
    let c = splat(SIGMOID_LOW);
    let d = splat(SIGMOID_HIGH);
    let r0 = f32x4.pmin(f32x4.pmax(v128.load(x), c), d);
    let r1 = f32x4.pmin(f32x4.pmax(v128.load(x, 16), c), d);
    let r2 = f32x4.pmin(f32x4.pmax(v128.load(x, 32), c), d);
    let r3 = f32x4.pmin(f32x4.pmax(v128.load(x, 48), c), d);
    if (blocks == -1) break;
    c = splat(MINUS_LOG2_E);
    d = splat(ROUND_103);
    const n0 = madd(r0, c, d);
    const n1 = madd(r1, c, d);
    const n2 = madd(r2, c, d);
    const n3 = madd(r3, c, d);
    if (blocks == -2) break;
    c = splat(REDUCE_HIGH);
    let e = splat(REDUCE_LOW);
    let q0 = f32x4.sub(n0, d);
    r0 = madd(q0, e, madd(q0, c, r0));
    let q1 = f32x4.sub(n1, d);
    r1 = madd(q1, e, madd(q1, c, r1));
    if (blocks == -3) break;
    let q2 = f32x4.sub(n2, d);
    r2 = madd(q2, e, madd(q2, c, r2));
    let q3 = f32x4.sub(n3, d);
    r3 = madd(q3, e, madd(q3, c, r3));
    if (blocks == -4) break;
    c = splat(E6);
    d = splat(MINUS_E5);
    q0 = madd(c, r0, d);
    q1 = madd(c, r1, d);
    q2 = madd(c, r2, d);
    q3 = madd(c, r3, d);
    if (blocks == -5) break;
    c = splat(E4);
    q0 = madd(q0, r0, c);
    q1 = madd(q1, r1, c);
    q2 = madd(q2, r2, c);
    q3 = madd(q3, r3, c);
    if (blocks == -6) break;
    c = splat(MINUS_E3);
    q0 = madd(q0, r0, c);
    q1 = madd(q1, r1, c);
    q2 = madd(q2, r2, c);
    q3 = madd(q3, r3, c);
    if (blocks == -7) break;
    c = splat(E2);
    q0 = madd(q0, r0, c);
    q1 = madd(q1, r1, c);
    q2 = madd(q2, r2, c);
    q3 = madd(q3, r3, c);
    if (blocks == -8) break;
    c = splat(ONE);
    d = splat(TWO_TO_MINUS_24);
    r0 = nmadd(f32x4.mul(r0, r0), q0, r0);
    r1 = nmadd(f32x4.mul(r1, r1), q1, r1);
    r2 = nmadd(f32x4.mul(r2, r2), q2, r2);
    r3 = nmadd(f32x4.mul(r3, r3), q3, r3);
    if (blocks == -9) break;
    r0 = madd(f32x4.sub(c, r0), i32x4.shl(n0, 23), d);
    r1 = madd(f32x4.sub(c, r1), i32x4.shl(n1, 23), d);
    r2 = madd(f32x4.sub(c, r2), i32x4.shl(n2, 23), d);
    r3 = madd(f32x4.sub(c, r3), i32x4.shl(n3, 23), d);
    if (blocks == -10) break;
    v128.store(y, f32x4.div(d, r0));
    v128.store(y, f32x4.div(d, r1), 16);
    v128.store(y, f32x4.div(d, r2), 32);
    v128.store(y, f32x4.div(d, r3), 48);
    x += 64;
    y += 64;
  }
}

/** tanh|x| = -m / (m + 2) with m = exp(-2|x|) - 1, which keeps its relative accuracy near 0. */
// @ts-ignore: decorator
@inline
export function tanhLanes(x: v128): v128 {
  const bounded = f32x4.pmax(f32x4.mul(f32x4.abs(x), splat(MINUS_TWO)), splat(TANH_LOW));
  const rounded = madd(bounded, splat(LOG2_E), splat(ROUND_127));
  const r = reduce(bounded, f32x4.sub(rounded, splat(ROUND_127)));
  const power = i32x4.shl(rounded, 23);
  const m = madd(expm1Reduced(r), power, f32x4.sub(power, splat(ONE)));
  const t = f32x4.abs(f32x4.div(m, f32x4.add(m, splat(TWO))));
  return v128.or(t, v128.and(x, splat(SIGN_BIT)));
}

/**
 * log(x) of positive normal numbers: x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), s = f / (2 + f). `shift` is
 * subtracted from k. The order of the sums is musl's, which claims less than 1 ULP.
 */
// @ts-ignore: decorator
@inline
function logNormal(x: v128, shift: v128): v128 {
  const bits = i32x4.sub(x, splat(SQRT_HALF));
  const k = f32x4.convert_i32x4_s(i32x4.sub(i32x4.shr_s(bits, 23), shift));
  const f = f32x4.sub(i32x4.add(v128.and(bits, splat(MANTISSA)), splat(SQRT_HALF)), splat(ONE));
  const s = f32x4.div(f, f32x4.add(f, splat(TWO)));
  const z = f32x4.mul(s, s);
  const w = f32x4.mul(z, z);
  const even = f32x4.mul(w, f32x4.add(splat(L2), f32x4.mul(w, splat(L4))));
  const odd = f32x4.mul(z, f32x4.add(splat(L1), f32x4.mul(w, splat(L3))));
  const halfSquare = f32x4.mul(f32x4.mul(f, f), splat(HALF));
  let y = f32x4.mul(s, f32x4.add(halfSquare, f32x4.add(even, odd)));
  y = f32x4.sub(f32x4.add(y, f32x4.mul(k, splat(LN2_LOW))), halfSquare);
  return f32x4.add(f32x4.add(y, f), f32x4.mul(k, splat(LN2_HIGH)));
}

/** log(x). */
// @ts-ignore: decorator
@inline
export function logLanes(x: v128): v128 {
  const special = i32x4.ge_u(i32x4.sub(x, splat(NORMAL)), splat(NORMALS));
  if (v128.any_true(special)) return logSpecial(x);
  return logNormal(x, i32x4.splat(0));
}

/** log(x) of anything: zero, negative and denormal numbers, infinity, NaN. */
function logSpecial(x: v128): v128 {
  const denormal = f32x4.lt(x, splat(NORMAL));
  const scaled = v128.bitselect(f32x4.mul(x, f32x4.splat(33554432)), x, denormal);
  let y = logNormal(scaled, v128.and(denormal, i32x4.splat(25)));
  y = v128.bitselect(y, f32x4.splat(NaN), f32x4.ge(x, f32x4.splat(0)));
  y = v128.bitselect(x, y, f32x4.eq(x, f32x4.splat(Infinity)));
  return v128.bitselect(f32x4.splat(-Infinity), y, f32x4.eq(x, f32x4.splat(0)));
}

/** sin(2 pi u) for u in [0, 2); cos(2 pi u) = sinTurns(u + 1/4). The reduction v = u - n / 2 is exact. */
// @ts-ignore: decorator
@inline
export function sinTurns(u: v128): v128 {
  const rounded = f32x4.add(f32x4.add(u, u), splat(ROUND));
  const n = f32x4.sub(rounded, splat(ROUND));
  const v = f32x4.sub(u, f32x4.mul(n, splat(HALF)));
  const z = f32x4.mul(v, v);
  let p = f32x4.add(f32x4.mul(z, splat(S5)), splat(S4));
  p = f32x4.add(f32x4.mul(z, p), splat(S3));
  p = f32x4.add(f32x4.mul(z, p), splat(S2));
  p = f32x4.add(f32x4.mul(z, p), splat(S1));
  p = f32x4.add(f32x4.mul(z, p), splat(S0));
  return v128.xor(f32x4.mul(v, p), i32x4.shl(rounded, 31));
}

// The same functions of one number, bit for bit.

export function expOf(x: f32): f32 {
  return f32x4.extract_lane(expLanes(f32x4.splat(x)), 0);
}

export function logOf(x: f32): f32 {
  return f32x4.extract_lane(logLanes(f32x4.splat(x)), 0);
}

export function sigmoidOf(x: f32): f32 {
  return f32x4.extract_lane(sigmoidLanes(f32x4.splat(x)), 0);
}

export function tanhOf(x: f32): f32 {
  return f32x4.extract_lane(tanhLanes(f32x4.splat(x)), 0);
}

/** x^y with C's special cases, as PyTorch has them: 1^y = 1 even for NaN, (-1)^(+-inf) = 1. */
export function powOf(x: f32, y: f32): f32 {
  if (x == 1 || (x == -1 && abs(y) == Infinity)) return 1;
  return Mathf.pow(x, y);
}
