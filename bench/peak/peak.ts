// The arithmetic peak of 128-bit SIMD: loops that touch nothing but registers.
//
// x86 gives V8 fifteen vector registers, so both loops keep to fifteen values: a spill would measure the stack. Their dependent
// chains outnumber latency x throughput of current cores (4 cycles x 2 per cycle). Call them often and shortly: V8 changes from its
// baseline compiler to the optimising one between calls, never inside one.

/** Vector multiply-adds in one iteration of {@link mulAdd}: 7 chains. */
export function mulAddPerIteration(): i32 {
  return 7;
}

/**
 * Seven chains `p *= a` and seven sums `s += p`: as many multiplications as additions, none waiting for its partner's chain. `p = p * a + b`
 * would measure the sum of both latencies instead.
 */
export function mulAdd(iterations: i32, factor: f32): f32 {
  const a = f32x4.splat(factor);
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
  const sum = f32x4.add(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)), f32x4.add(f32x4.add(s4, s5), s6));
  return f32x4.extract_lane(sum, 0);
}

/** Vector multiply-adds in one iteration of {@link fusedMulAdd}: 12 chains. */
export function fusedMulAddPerIteration(): i32 {
  return 12;
}

/** Twelve chains `c = c * a + b`, one fused instruction each. In a build without relaxed SIMD it answers 0. */
export function fusedMulAdd(iterations: i32, factor: f32, addend: f32): f32 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    const a = f32x4.splat(factor),
      b = f32x4.splat(addend);
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
      c0 = f32x4.relaxed_madd(c0, a, b);
      c1 = f32x4.relaxed_madd(c1, a, b);
      c2 = f32x4.relaxed_madd(c2, a, b);
      c3 = f32x4.relaxed_madd(c3, a, b);
      c4 = f32x4.relaxed_madd(c4, a, b);
      c5 = f32x4.relaxed_madd(c5, a, b);
      c6 = f32x4.relaxed_madd(c6, a, b);
      c7 = f32x4.relaxed_madd(c7, a, b);
      c8 = f32x4.relaxed_madd(c8, a, b);
      c9 = f32x4.relaxed_madd(c9, a, b);
      c10 = f32x4.relaxed_madd(c10, a, b);
      c11 = f32x4.relaxed_madd(c11, a, b);
    }
    const sum = f32x4.add(
      f32x4.add(f32x4.add(f32x4.add(c0, c1), f32x4.add(c2, c3)), f32x4.add(f32x4.add(c4, c5), f32x4.add(c6, c7))),
      f32x4.add(f32x4.add(c8, c9), f32x4.add(c10, c11)),
    );
    return f32x4.extract_lane(sum, 0);
  }
  return 0;
}
