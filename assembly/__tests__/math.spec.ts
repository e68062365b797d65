// Accuracy of exp, log, sigmoid and tanh against f64, in units in the last place, and their special values.
import { expOf, logOf, powOf, sigmoidOf, sinTurns, tanhOf } from '../math';

/** Distance of y from the true value in units in the last place of f32; denormals have the unit 2^-149. */
function ulps(y: f32, truth: f64): f64 {
  const exponent = max(<i32>((reinterpret<u64>(truth) >> 52) & 0x7ff) - 1023, -126);
  return abs(<f64>y - truth) / reinterpret<f64>((<u64>(exponent - 23 + 1023)) << 52);
}

/** Every 9,973rd float between two bit patterns. */
const STEP: u32 = 9973;

function worst(first: u32, last: u32, f: (x: f32) => f32, truth: (x: f64) => f64): f64 {
  let error: f64 = 0;
  for (let bits = first; bits < last; bits += STEP) {
    const x = reinterpret<f32>(bits);
    error = max(error, ulps(f(x), truth(<f64>x)));
  }
  return error;
}

function bits(x: f32): u32 {
  return reinterpret<u32>(x);
}

describe('exp', () => {
  it('is within 1 ULP from the smallest result to overflow', () => {
    expect<f64>(worst(0, bits(88.7), expOf, (x: f64) => NativeMath.exp(x))).toBeLessThan(1.0);
    expect<f64>(worst(bits(-0.0), bits(-104), expOf, (x: f64) => NativeMath.exp(x))).toBeLessThan(1.0);
  });

  it('has the right limits', () => {
    expect<f32>(expOf(0)).toBe(1);
    expect<f32>(expOf(89)).toBe(Infinity);
    expect<f32>(expOf(Infinity)).toBe(Infinity);
    expect<f32>(expOf(-Infinity)).toBe(0);
    expect<f32>(expOf(-104)).toBe(0);
    expect<u32>(bits(expOf(-103.2))).toBe(1, 'the smallest denormal');
    expect<f32>(expOf(NaN)).toBeNaN();
  });
});

describe('log', () => {
  it('is within 1 ULP, denormals included', () => {
    expect<f64>(worst(1, bits(Infinity), logOf, (x: f64) => NativeMath.log(x))).toBeLessThan(1.0);
  });

  it('has the right limits', () => {
    expect<f32>(logOf(1)).toBe(0);
    expect<f32>(logOf(0)).toBe(-Infinity);
    expect<f32>(logOf(-0.0)).toBe(-Infinity);
    expect<f32>(logOf(-1)).toBeNaN();
    expect<f32>(logOf(-Infinity)).toBeNaN();
    expect<f32>(logOf(Infinity)).toBe(Infinity);
    expect<f32>(logOf(NaN)).toBeNaN();
  });
});

function sigmoidTruth(x: f64): f64 {
  return 1 / (1 + NativeMath.exp(-x));
}

describe('sigmoid', () => {
  it('is within 2.5 ULP, denormal results included', () => {
    expect<f64>(worst(0, bits(Infinity), sigmoidOf, sigmoidTruth)).toBeLessThan(2.5);
    expect<f64>(worst(bits(-0.0), bits(-Infinity), sigmoidOf, sigmoidTruth)).toBeLessThan(2.5);
  });

  it('has the right limits', () => {
    expect<f32>(sigmoidOf(0)).toBe(0.5);
    expect<f32>(sigmoidOf(Infinity)).toBe(1);
    expect<f32>(sigmoidOf(-Infinity)).toBe(0);
    expect<f32>(sigmoidOf(NaN)).toBeNaN();
  });
});

describe('tanh', () => {
  it('is within 2.6 ULP and odd', () => {
    expect<f64>(worst(0, bits(Infinity), tanhOf, (x: f64) => NativeMath.tanh(x))).toBeLessThan(2.6);
    expect<f64>(worst(bits(-0.0), bits(-Infinity), tanhOf, (x: f64) => NativeMath.tanh(x))).toBeLessThan(2.6);
  });

  it('has the right limits', () => {
    expect<f32>(tanhOf(Infinity)).toBe(1);
    expect<f32>(tanhOf(-Infinity)).toBe(-1);
    expect<u32>(bits(tanhOf(-0.0))).toBe(bits(-0.0));
    expect<u32>(bits(tanhOf(0.0))).toBe(0);
    expect<u32>(bits(tanhOf(reinterpret<f32>(1)))).toBe(1, 'the smallest denormal');
    expect<f32>(tanhOf(NaN)).toBeNaN();
  });
});

describe('sinTurns', () => {
  it('is within 2e-7', () => {
    let error: f64 = 0;
    for (let i = 0; i < 20000; i++) {
      const u = <f32>i / 10000;
      const y = f32x4.extract_lane(sinTurns(f32x4.splat(u)), 0);
      error = max(error, abs(<f64>y - NativeMath.sin(2 * NativeMath.PI * <f64>u)));
    }
    expect<f64>(error).toBeLessThan(2e-7);
  });
});

describe('pow', () => {
  it('has the special values of C', () => {
    expect<f32>(powOf(1, NaN)).toBe(1);
    expect<f32>(powOf(NaN, 0)).toBe(1);
    expect<f32>(powOf(-1, Infinity)).toBe(1);
    expect<f32>(powOf(-8, 3)).toBe(-512);
    expect<f32>(powOf(-8, 0.5)).toBeNaN();
    expect<f32>(powOf(0, -1)).toBe(Infinity);
  });
});
