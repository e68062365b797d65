// Each transform of Winograd convolution against its matrix: M x M^T in f64, one product after another. The matrices are made from their
// points here, not taken from the generator. Small integers have no rounding in them, except where weights are divided by products of
// differences of points.
import {
  BLOCK_BYTES,
  BLOCK_COLUMN,
  BLOCK_ROW,
  WINOGRAD_CHUNK,
  columnsOfGradient2to6,
  columnsOfGradient4to6,
  columnsOfInput4,
  columnsOfInput6,
  columnsOfOutput4to2,
  columnsOfOutput6to2,
  columnsOfOutput6to4,
  columnsOfTaps6to3,
  columnsOfTaps6to5,
  columnsOfWeight3to4,
  columnsOfWeight3to6,
  columnsOfWeight5to6,
  rowOfOutput4to2,
  rowOfOutput6to2,
  rowOfOutput6to4,
  rowsOfGradient2to6,
  rowsOfGradient4to6,
  rowsOfInput4,
  rowsOfInput6,
  rowsOfTaps6to3,
  rowsOfTaps6to5,
  rowsOfWeight3to4,
  rowsOfWeight3to6,
  rowsOfWeight5to6,
} from '../generated/winograd-transforms';

/** The finite points of alpha = 6, whose last point is infinity. */
const POINTS: StaticArray<f64> = [0, 0.625, -0.625, 1.5, -1.5];

// Values lie as [row][column][WINOGRAD_CHUNK channels], on both sides.
const PLANE: usize = 4 * <usize>WINOGRAD_CHUNK;
const UNTOUCHED: f32 = -77;
/** Rounding of a weight: its factor, two products, three sums, in either direction. */
const ROUNDED: f64 = 6e-7;

/** Coefficients of the product of (x - q) over the finite points, `left` excepted, lowest first. */
function lagrange(left: i32): StaticArray<f64> {
  const c = new StaticArray<f64>(6);
  c[0] = 1;
  for (let p = 0, degree = 0; p < 5; p++) {
    if (p == left) continue;
    degree++;
    for (let k = degree; k > 0; k--) c[k] = c[k - 1] - POINTS[p] * c[k];
    c[0] *= -POINTS[p];
  }
  return c;
}

/** B^T, 6 x 6. */
function inputMatrix(): StaticArray<f64> {
  const matrix = new StaticArray<f64>(36);
  for (let p = 0; p < 6; p++) {
    const row = lagrange(p);
    for (let k = 0; k < 6; k++) matrix[p * 6 + k] = row[k];
  }
  return matrix;
}

/** A^T, `outputs` x 6: powers of the points. */
function outputMatrix(outputs: i32): StaticArray<f64> {
  const matrix = new StaticArray<f64>(outputs * 6);
  for (let p = 0; p < 5; p++) {
    let power: f64 = 1;
    for (let i = 0; i < outputs; i++) {
      matrix[i * 6 + p] = power;
      power *= POINTS[p];
    }
  }
  matrix[outputs * 6 - 1] = 1;
  return matrix;
}

/** G, 6 x `taps`: powers of the points over their differences from the others. */
function weightMatrix(taps: i32): StaticArray<f64> {
  const matrix = new StaticArray<f64>(6 * taps);
  for (let p = 0; p < 5; p++) {
    let factor: f64 = 1;
    for (let q = 0; q < 5; q++) if (q != p) factor /= POINTS[p] - POINTS[q];
    for (let k = 0; k < taps; k++) {
      matrix[p * taps + k] = factor;
      factor *= POINTS[p];
    }
  }
  matrix[6 * taps - 1] = 1;
  return matrix;
}

/** `side` x `side` whole numbers from -most to most for each channel. */
function numbers(side: i32, most: i32): usize {
  const address = heap.alloc(<usize>(side * side) * PLANE);
  let state: u32 = 12345;
  for (let i = 0; i < side * side * WINOGRAD_CHUNK; i++) {
    state = state * 1664525 + 1013904223;
    store<f32>(address + 4 * <usize>i, <f32>(<i32>((state >>> 8) % <u32>(2 * most + 1)) - most));
  }
  return address;
}

/** Room for results, filled with what nobody computes. */
function room(bytes: usize): usize {
  const address = heap.alloc(bytes);
  for (let at: usize = 0; at < bytes; at += 4) store<f32>(address + at, UNTOUCHED);
  return address;
}

/** Addresses and masks of the rows of a tile, as the passes over pixels want them. */
function rowPointers(x: usize, side: i32): usize {
  const pointers = heap.alloc(8 * side);
  for (let i = 0; i < side; i++) {
    store<usize>(pointers + 8 * i, x + <usize>(i * side) * PLANE);
    store<i32>(pointers + 8 * i + 4, -1);
  }
  return pointers;
}

/**
 * The largest error of y = M x M^T over the sum of the magnitudes in it, for all channels of `pairs`; infinite where another channel
 * was written.
 */
function worst(matrix: StaticArray<f64>, to: i32, from: i32, x: usize, y: usize, pairs: i32): f64 {
  let most: f64 = 0;
  for (let i = 0; i < to; i++) {
    for (let j = 0; j < to; j++) {
      for (let c = 0; c < WINOGRAD_CHUNK; c++) {
        const found = load<f32>(y + <usize>(i * to + j) * PLANE + 4 * <usize>c);
        if (c >= 8 * pairs) {
          if (found != UNTOUCHED) return Infinity;
          continue;
        }
        let sum: f64 = 0;
        let scale: f64 = 1e-30;
        for (let k = 0; k < from; k++) {
          for (let l = 0; l < from; l++) {
            const term =
              matrix[i * from + k] *
              <f64>load<f32>(x + <usize>(k * from + l) * PLANE + 4 * <usize>c) *
              matrix[j * from + l];
            sum += term;
            scale += abs(term);
          }
        }
        most = max(most, abs(<f64>found - sum) / scale);
      }
    }
  }
  return most;
}

/** The two passes of a transform whose input lies in planes, to `side` x `side` values. */
function transformed(
  columns: (from: usize, plane: usize, to: usize, pairs: i32) => void,
  rows: (from: usize, to: usize, plane: usize, pairs: i32) => void,
  x: usize,
  side: i32,
  pairs: i32,
): usize {
  const block = room(BLOCK_BYTES);
  const y = room(<usize>(side * side) * PLANE);
  columns(x, PLANE, block, pairs);
  rows(block, y, PLANE, pairs);
  return y;
}

/** One pair of vectors, and a whole chunk. */
const PAIRS: StaticArray<i32> = [1, 4];

describe('input transforms', () => {
  test('6 x 6 pixels, exact on integers', () => {
    for (let i = 0; i < PAIRS.length; i++) {
      const pairs = PAIRS[i];
      const x = numbers(6, 3);
      const block = room(BLOCK_BYTES);
      const y = room(36 * PLANE);
      columnsOfInput6(rowPointers(x, 6), PLANE, 0, 0, 6, block, pairs);
      rowsOfInput6(block, y, PLANE, pairs);
      expect(worst(inputMatrix(), 6, 6, x, y, pairs)).toBe(0);
    }
  });

  test('4 x 4 pixels, exact on integers', () => {
    const matrix: StaticArray<f64> = [1, 0, -1, 0, 0, 1, 1, 0, 0, -1, 1, 0, 0, 1, 0, -1];
    for (let i = 0; i < PAIRS.length; i++) {
      const pairs = PAIRS[i];
      const x = numbers(4, 100);
      const block = room(BLOCK_BYTES);
      const y = room(16 * PLANE);
      columnsOfInput4(rowPointers(x, 4), PLANE, 0, 0, 4, block, pairs);
      rowsOfInput4(block, y, PLANE, pairs);
      expect(worst(matrix, 4, 4, x, y, pairs)).toBe(0);
    }
  });

  test('columns outside are left alone, rows outside are read where their pointer says', () => {
    const x = numbers(6, 3);
    const zeros = heap.alloc(PLANE);
    memory.fill(zeros, 0, PLANE);
    const pointers = rowPointers(x, 6);
    store<usize>(pointers, zeros);
    store<i32>(pointers + 4, 0);
    const block = room(BLOCK_BYTES);
    columnsOfInput6(pointers, PLANE, 0, 1, 5, block, 4);
    expect(load<f32>(block)).toBe(UNTOUCHED);
    expect(load<f32>(block + 5 * BLOCK_COLUMN + 5 * BLOCK_ROW)).toBe(UNTOUCHED);
    memory.fill(x, 0, 6 * PLANE);
    for (let i = 0; i < 6; i++) {
      memory.fill(x + <usize>(6 * i) * PLANE, 0, PLANE);
      memory.fill(x + <usize>(6 * i + 5) * PLANE, 0, PLANE);
      memory.fill(block + <usize>i * BLOCK_ROW, 0, BLOCK_COLUMN);
      memory.fill(block + <usize>i * BLOCK_ROW + 5 * BLOCK_COLUMN, 0, BLOCK_COLUMN);
    }
    const y = room(36 * PLANE);
    rowsOfInput6(block, y, PLANE, 4);
    expect(worst(inputMatrix(), 6, 6, x, y, 4)).toBe(0);
  });

  test('gradients for the gradient of weights, 4 x 4 and 2 x 2', () => {
    for (let i = 0; i < PAIRS.length; i++) {
      const pairs = PAIRS[i];
      const block = room(BLOCK_BYTES);
      const four = numbers(4, 3);
      const y = room(36 * PLANE);
      columnsOfGradient4to6(rowPointers(four, 4), PLANE, 0, 0, 4, block, pairs);
      rowsOfGradient4to6(block, y, PLANE, pairs);
      expect(worst(weightMatrix(4), 6, 4, four, y, pairs)).toBeLessThan(ROUNDED);
      const two = numbers(2, 3);
      columnsOfGradient2to6(rowPointers(two, 2), PLANE, 0, 0, 2, block, pairs);
      rowsOfGradient2to6(block, y, PLANE, pairs);
      expect(worst(weightMatrix(2), 6, 2, two, y, pairs)).toBeLessThan(ROUNDED);
    }
  });
});

describe('weight transforms', () => {
  test('3 x 3 taps to 6 x 6', () => {
    const x = numbers(3, 3);
    const y = transformed(columnsOfWeight3to6, rowsOfWeight3to6, x, 6, 4);
    expect(worst(weightMatrix(3), 6, 3, x, y, 4)).toBeLessThan(ROUNDED);
  });

  test('3 x 3 taps to 4 x 4, exact on integers', () => {
    const matrix: StaticArray<f64> = [1, 0, 0, 0.5, 0.5, 0.5, 0.5, -0.5, 0.5, 0, 0, 1];
    const x = numbers(3, 3);
    const y = transformed(columnsOfWeight3to4, rowsOfWeight3to4, x, 4, 1);
    expect(worst(matrix, 4, 3, x, y, 1)).toBe(0);
  });

  test('5 x 5 taps to 6 x 6', () => {
    const x = numbers(5, 3);
    const y = transformed(columnsOfWeight5to6, rowsOfWeight5to6, x, 6, 4);
    expect(worst(weightMatrix(5), 6, 5, x, y, 4)).toBeLessThan(ROUNDED);
  });

  test('6 x 6 sums to 3 x 3 gradients of taps, exact on integers', () => {
    const x = numbers(6, 3);
    const y = transformed(columnsOfTaps6to3, rowsOfTaps6to3, x, 3, 4);
    expect(worst(outputMatrix(3), 3, 6, x, y, 4)).toBe(0);
  });

  test('6 x 6 sums to 5 x 5 gradients of taps', () => {
    const x = numbers(6, 3);
    const y = transformed(columnsOfTaps6to5, rowsOfTaps6to5, x, 5, 4);
    expect(worst(outputMatrix(5), 5, 6, x, y, 4)).toBeLessThan(ROUNDED);
  });
});

describe('output transforms, exact on integers', () => {
  test('6 x 6 sums to 4 x 4 pixels', () => {
    const x = numbers(6, 1);
    const block = room(BLOCK_BYTES);
    const y = room(16 * PLANE);
    const init = heap.alloc(4 * PLANE);
    memory.fill(init, 0, 4 * PLANE);
    columnsOfOutput6to4(x, PLANE, block, 4);
    for (let i: usize = 0; i < 4; i++) {
      const p = y + 4 * i * PLANE;
      const row = block + i * BLOCK_ROW;
      rowOfOutput6to4(row, init, p, p + PLANE, p + 2 * PLANE, p + 3 * PLANE, -Infinity, Infinity, 4);
    }
    expect(worst(outputMatrix(4), 4, 6, x, y, 4)).toBe(0);
  });

  test('6 x 6 sums to 2 x 2 pixels', () => {
    const x = numbers(6, 3);
    const block = room(BLOCK_BYTES);
    const y = room(4 * PLANE);
    const init = heap.alloc(4 * PLANE);
    memory.fill(init, 0, 4 * PLANE);
    columnsOfOutput6to2(x, PLANE, block, 1);
    for (let i: usize = 0; i < 2; i++) {
      const p = y + 2 * i * PLANE;
      rowOfOutput6to2(block + i * BLOCK_ROW, init, p, p + PLANE, -Infinity, Infinity, 1);
    }
    expect(worst(outputMatrix(2), 2, 6, x, y, 1)).toBe(0);
  });

  test('4 x 4 sums to 2 x 2 pixels, with what is added and bounds', () => {
    const matrix: StaticArray<f64> = [1, 1, 1, 0, 0, 1, -1, -1];
    const x = numbers(4, 100);
    const block = room(BLOCK_BYTES);
    const init = heap.alloc(4 * PLANE);
    memory.fill(init, 0, 4 * PLANE);
    const y = room(4 * PLANE);
    columnsOfOutput4to2(x, PLANE, block, 4);
    for (let i: usize = 0; i < 2; i++) {
      const p = y + 2 * i * PLANE;
      rowOfOutput4to2(block + i * BLOCK_ROW, init, p, p + PLANE, -Infinity, Infinity, 4);
    }
    expect(worst(matrix, 2, 4, x, y, 4)).toBe(0);
    for (let c: usize = 0; c < PLANE; c += 4) {
      store<f32>(init + c, 1000);
      store<f32>(init + PLANE + c, -1000);
    }
    const bounded = room(2 * PLANE);
    rowOfOutput4to2(block, init, bounded, bounded + PLANE, -900, 1050, 4);
    for (let c: usize = 0; c < PLANE; c += 4) {
      expect(load<f32>(bounded + c)).toBe(min<f32>(1050, max<f32>(-900, load<f32>(y + c) + 1000)));
      expect(load<f32>(bounded + PLANE + c)).toBe(min<f32>(1050, max<f32>(-900, load<f32>(y + PLANE + c) - 1000)));
    }
  });
});
