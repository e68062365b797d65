// The loops of the arithmetic peak of 128-bit SIMD: multiply-adds that touch nothing but registers. The kernel `peak` runs them inside
// the engine, bench/peak/peak.ts on their own.
//
// V8 has fifteen vector registers on x64, so both loops keep to that: a spill would measure the stack. Their independent chains
// outnumber latency x throughput of current cores (4 cycles x 2 per cycle).

/** Vector multiply-adds in one iteration of `fused` and of `separate`: their chains. */
export const FUSED_CHAINS: i32 = 12;
export const SEPARATE_CHAINS: i32 = 7;

/** Twelve chains c = c a + a, one fused instruction each. Only in builds with relaxed SIMD. */
export function fused(iterations: i32, a: v128): v128 {
  if (!ASC_FEATURE_RELAXED_SIMD) return a;
  let c0 = a,
    c1 = a,
    c2 = a,
    c3 = a,
    c4 = a,
    c5 = a,
    c6 = a,
    c7 = a,
    c8 = a,
    c9 = a,
    c10 = a,
    c11 = a;
  for (let i = 0; i < iterations; i++) {
    c0 = f32x4.relaxed_madd(c0, a, a);
    c1 = f32x4.relaxed_madd(c1, a, a);
    c2 = f32x4.relaxed_madd(c2, a, a);
    c3 = f32x4.relaxed_madd(c3, a, a);
    c4 = f32x4.relaxed_madd(c4, a, a);
    c5 = f32x4.relaxed_madd(c5, a, a);
    c6 = f32x4.relaxed_madd(c6, a, a);
    c7 = f32x4.relaxed_madd(c7, a, a);
    c8 = f32x4.relaxed_madd(c8, a, a);
    c9 = f32x4.relaxed_madd(c9, a, a);
    c10 = f32x4.relaxed_madd(c10, a, a);
    c11 = f32x4.relaxed_madd(c11, a, a);
  }
  c0 = f32x4.add(f32x4.add(c0, c1), f32x4.add(c2, c3));
  c4 = f32x4.add(f32x4.add(c4, c5), f32x4.add(c6, c7));
  c8 = f32x4.add(f32x4.add(c8, c9), f32x4.add(c10, c11));
  return f32x4.add(f32x4.add(c0, c4), c8);
}

/** Seven chains p = p a and seven sums s = s + p, none waiting for its partner: p = p a + b would measure the sum of both latencies. */
export function separate(iterations: i32, a: v128): v128 {
  let p0 = a,
    p1 = a,
    p2 = a,
    p3 = a,
    p4 = a,
    p5 = a,
    p6 = a;
  let s0 = a,
    s1 = a,
    s2 = a,
    s3 = a,
    s4 = a,
    s5 = a,
    s6 = a;
  for (let i = 0; i < iterations; i++) {
    p0 = f32x4.mul(p0, a);
    s0 = f32x4.add(s0, p0);
    p1 = f32x4.mul(p1, a);
    s1 = f32x4.add(s1, p1);
    p2 = f32x4.mul(p2, a);
    s2 = f32x4.add(s2, p2);
    p3 = f32x4.mul(p3, a);
    s3 = f32x4.add(s3, p3);
    p4 = f32x4.mul(p4, a);
    s4 = f32x4.add(s4, p4);
    p5 = f32x4.mul(p5, a);
    s5 = f32x4.add(s5, p5);
    p6 = f32x4.mul(p6, a);
    s6 = f32x4.add(s6, p6);
  }
  s0 = f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3));
  return f32x4.add(s0, f32x4.add(f32x4.add(s4, s5), s6));
}
