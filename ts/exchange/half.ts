// The two 16-bit float formats of weight files, as bits: IEEE 754 half precision and bfloat16 (the upper half of an f32).
// Both ways are exact in the sense of IEEE 754: widening loses nothing, narrowing rounds to nearest, ties to even.

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

function bitsToNumber(bits: number): number {
  scratchBits[0] = bits;
  return scratch[0] as number;
}

function numberToBits(value: number): number {
  scratch[0] = value;
  return scratchBits[0] as number;
}

/** f16 bits to a number. */
export function fromHalf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return bitsToNumber(((half & 0x8000) << 16) | ((exponent + 112) << 23) | (fraction << 13));
}

/** A number to f16 bits. Above 65,519 it becomes infinity. */
export function toHalf(value: number): number {
  const bits = numberToBits(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  // Below 2^-14 the spacing is fixed at 2^-24: adding 0.5 puts that spacing on the last bit of the f32, which rounds.
  if (magnitude < 0x38800000) return sign | (numberToBits(bitsToNumber(magnitude) + 0.5) - 0x3f000000);
  return sign | (roundedShift(magnitude, 13) - (112 << 10));
}

/** bf16 bits to a number. */
export function fromBfloat(bfloat: number): number {
  return bitsToNumber(bfloat << 16);
}

/** A number to bf16 bits. */
export function toBfloat(value: number): number {
  const bits = numberToBits(value);
  const magnitude = bits & 0x7fffffff;
  const sign = (bits >>> 16) & 0x8000;
  return magnitude > 0x7f800000 ? sign | 0x7fc0 : sign | roundedShift(magnitude, 16);
}

/** Shifts right by `places`, rounding to nearest, ties to even. A carry into the exponent is the right next number. */
function roundedShift(bits: number, places: number): number {
  const half = (1 << (places - 1)) - 1;
  return (bits + half + ((bits >>> places) & 1)) >>> places;
}
