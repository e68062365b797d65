// Comparing arrays of numbers: exactly, or within a tolerance that follows from how the numbers were made.
// Throws plain Errors, so that every runtime's tests can use it.
import type { Numbers } from './values.ts';

const unitRoundoff = 2 ** -24;

/**
 * An element may be off by `c * sqrt(terms) * 2^-24 * scale`: rounding errors of a sum of `terms` products grow like a
 * random walk. `scale` is the size of its partial sums, and never taken smaller than the largest expected number.
 */
export interface Tolerance {
  c: number;
  terms?: number;
  scale?: number;
}

/** The largest finite magnitude. */
export function magnitude(numbers: Numbers): number {
  let largest = 0;
  for (let i = 0; i < numbers.length; i++) {
    const size = Math.abs(numbers[i] as number);
    if (size > largest && size < Infinity) largest = size;
  }
  return largest;
}

/** The greatest permitted difference from any of the expected numbers. */
export function bound({ c, terms = 1, scale = 0 }: Tolerance, expected: Numbers): number {
  return c * Math.sqrt(terms) * unitRoundoff * Math.max(scale, magnitude(expected));
}

/** |a - b|; 0 for two NaN or the same infinity, Infinity where only one is NaN or infinite. */
export function difference(a: number, b: number): number {
  if (Object.is(a, b) || a === b) return 0;
  const distance = Math.abs(a - b);
  return Number.isNaN(distance) ? Infinity : distance;
}

function checkLength(actual: Numbers, expected: Numbers, label: string): void {
  if (actual.length !== expected.length) {
    throw new Error(`${label}: ${actual.length} elements, expected ${expected.length}`);
  }
}

/** Index of the element that is furthest off, and by how much. */
export function worst(actual: Numbers, expected: Numbers): { index: number; error: number } {
  let index = 0;
  let error = 0;
  for (let i = 0; i < expected.length; i++) {
    const distance = difference(actual[i] as number, expected[i] as number);
    if (distance > error) [index, error] = [i, distance];
  }
  return { index, error };
}

/** Throws unless every element of `actual` is within the tolerance of its expected number; names the worst. */
export function expectClose(
  actual: Numbers,
  expected: Numbers,
  { tolerance, label }: { tolerance: Tolerance; label: string },
): void {
  checkLength(actual, expected, label);
  const { index, error } = worst(actual, expected);
  const limit = bound(tolerance, expected);
  if (error > limit) {
    const pair = `${actual[index]}, expected ${expected[index]}`;
    throw new Error(
      `${label}: element ${index} is ${pair}: off by ${error.toExponential(2)}, allowed ${limit.toExponential(2)}`,
    );
  }
}

/** Throws unless all elements are equal with `===`, NaN equal to NaN, 0 equal to -0. */
export function expectEqual(actual: Numbers, expected: Numbers, label: string): void {
  checkLength(actual, expected, label);
  for (let i = 0; i < expected.length; i++) {
    const [a, b] = [actual[i] as number, expected[i] as number];
    if (a !== b && !(Number.isNaN(a) && Number.isNaN(b)))
      throw new Error(`${label}: element ${i} is ${a}, expected ${b}`);
  }
}

const float = new Float32Array(1);
const bits = new Int32Array(float.buffer);

/** Position of a float32 number among all float32 numbers in order; -0 and 0 share theirs. */
function rank(number: number): number {
  float[0] = number;
  const pattern = bits[0] as number;
  return pattern < 0 ? -(pattern & 0x7fffffff) : pattern;
}

/** How many float32 numbers lie between `actual` and the true value, the nearest float32 counting 0. NaN to NaN is 0. */
export function ulpDistance(actual: number, truth: number): number {
  if (Number.isNaN(actual) || Number.isNaN(truth)) return Number.isNaN(actual) && Number.isNaN(truth) ? 0 : Infinity;
  return Math.abs(rank(actual) - rank(truth));
}

/** Throws unless every element is at most `ulps` float32 numbers away from the expected one: for functions of one number. */
export function expectUlps(actual: Numbers, expected: Numbers, { ulps, label }: { ulps: number; label: string }): void {
  checkLength(actual, expected, label);
  for (let i = 0; i < expected.length; i++) {
    const [a, b] = [actual[i] as number, expected[i] as number];
    const distance = ulpDistance(a, b);
    if (distance > ulps)
      throw new Error(`${label}: element ${i} is ${a}, expected ${b}: ${distance} ulps off, allowed ${ulps}`);
  }
}

/** Sum of products: both sides of an adjoint identity. Exact for small integers. */
export function dot(a: Numbers, b: Numbers): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}
