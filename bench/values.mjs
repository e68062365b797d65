// The same numbers for every contestant, and a fingerprint of what it answered that does not depend on memory layout.

/** Values in [-1, 1): the first steps of MurmurHash3's finaliser over the index. bench/rivals/torch_worker.py has the same formula. */
export function fill(length, seed) {
  const values = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    let hash = Math.imul(i + seed * 0x1000003, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    values[i] = ((hash ^ (hash >>> 13)) >>> 16) / 32768 - 1;
  }
  return values;
}

/** Class labels 0 to `classes - 1`. */
export function labels(length, classes) {
  return Int32Array.from({ length }, (_, i) => (i * 7 + 3) % classes);
}

export function product(shape) {
  return shape.reduce((total, extent) => total * extent, 1);
}

/** Copies a dense tensor into the order of `axes`: output axis i is input axis `axes[i]`. */
export function permute(values, shape, axes) {
  const strides = shape.map((_, axis) => product(shape.slice(axis + 1)));
  const result = new Float32Array(values.length);
  const [A, B, C, D] = axes.map((axis) => shape[axis]);
  const [sa, sb, sc, sd] = axes.map((axis) => strides[axis]);
  let at = 0;
  for (let a = 0; a < A; a++)
    for (let b = 0; b < B; b++)
      for (let c = 0; c < C; c++) for (let d = 0; d < D; d++) result[at++] = values[a * sa + b * sb + c * sc + d * sd];
  return result;
}

/** Sum and Euclidean norm: equal for equal tensors in any layout. */
export function fingerprint(values) {
  let sum = 0;
  let squares = 0;
  for (const value of values) {
    sum += value;
    squares += value * value;
  }
  return [sum, Math.sqrt(squares)];
}

/** Whether two fingerprints belong to the same tensor up to float32 rounding. */
export function agree([sum, norm], [otherSum, otherNorm]) {
  const scale = Math.max(norm, otherNorm, 1e-30);
  return Math.abs(norm - otherNorm) <= 1e-3 * scale && Math.abs(sum - otherSum) <= 1e-2 * scale;
}

/** Parameter `index` of LeNet: uniform within 1 / sqrt(fan in). */
export function lenetParameter(shape, index) {
  const fanIn = LENET_FAN_IN[index >> 1];
  return fill(product(shape), index).map((value) => value / Math.sqrt(fanIn));
}

const LENET_FAN_IN = [25, 150, 400, 120, 84];
