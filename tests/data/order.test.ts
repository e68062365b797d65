import { describe, expect, test } from 'vitest';
import { batchCount, batchRows, permutation } from '../../ts/data/order.ts';
import { multiplyHigh, philox } from '../../ts/data/philox.ts';

const hex = (block: Uint32Array): string[] => Array.from(block, (word) => word.toString(16).padStart(8, '0'));

describe('philox', () => {
  // Known answers of the authors' Random123 library (kat_vectors, philox4x32 with 10 rounds).
  test.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8'],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      ['408f276d', '41c83b0e', 'a20bc7c6', '6d5451fd'],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      ['d16cfe09', '94fdcceb', '5001e420', '24126ea1'],
    ],
  ])('counter %j, key %j', (counter, [key0 = 0, key1 = 0], expected) => {
    const block = Uint32Array.from(counter);
    philox(block, key0, key1);
    expect(hex(block)).toEqual(expected);
  });

  test('multiplyHigh is the upper half of the 64-bit product', () => {
    const values = [0, 1, 2, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xd2511f53, 0xfffffffe, 0xffffffff];
    for (const a of values) {
      for (const b of values) expect(multiplyHigh(a, b)).toBe(Number((BigInt(a) * BigInt(b)) >> 32n));
    }
  });
});

describe('permutation', () => {
  test('holds every row once, whatever the length', () => {
    for (const length of [0, 1, 2, 3, 4, 5, 7, 8, 9, 100, 1001]) {
      const rows = permutation(length, 3, 1);
      expect(Array.from(rows).sort((a, b) => a - b)).toEqual(Array.from({ length }, (_, i) => i));
    }
  });

  test('depends on seed and epoch and on nothing else', () => {
    const order = (seed: number, epoch: number): string => permutation(50, seed, epoch).join();
    expect(order(0, 0)).toBe(order(0, 0));
    expect(new Set([order(0, 0), order(0, 1), order(1, 0), order(1, 1)]).size).toBe(4);
    // Recorded once: another value means that every recorded training run changes.
    expect(Array.from(permutation(10, 0, 0))).toEqual([7, 1, 9, 5, 6, 2, 4, 8, 0, 3]);
  });

  test('every row is as likely in every place', () => {
    const counts = Array.from({ length: 5 }, () => new Array<number>(5).fill(0));
    const trials = 5000;
    for (let epoch = 0; epoch < trials; epoch++) {
      permutation(5, 7, epoch).forEach((row, place) => {
        const line = counts[place] as number[];
        line[row] = (line[row] as number) + 1;
      });
    }
    // Standard deviation of a count is sqrt(5000 * 0.2 * 0.8) = 28; five of them.
    for (const count of counts.flat()) expect(Math.abs(count - trials / 5)).toBeLessThan(142);
  });
});

describe('batchRows', () => {
  const options = { length: 10, batchSize: 4, shuffle: false, seed: 0, dropLast: false };
  const listed = (changes: Partial<typeof options>, epoch = 0): number[][] =>
    Array.from(batchRows({ ...options, ...changes }, epoch), (rows) => Array.from(rows));

  test('cuts the rows in order, with or without the short last batch', () => {
    expect(listed({})).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
    ]);
    expect(listed({ dropLast: true })).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
    ]);
    expect(listed({ length: 0 })).toEqual([]);
    expect(listed({ length: 3, dropLast: true })).toEqual([]);
  });

  test('batchCount says how many', () => {
    for (const length of [0, 3, 4, 5, 60000]) {
      for (const dropLast of [false, true]) {
        expect(listed({ length, dropLast })).toHaveLength(batchCount({ ...options, length, dropLast }));
      }
    }
    expect(batchCount({ ...options, length: 60000, batchSize: 256 })).toBe(235);
  });

  test('a shuffled pass holds every row once, in another order each epoch', () => {
    const passes = [0, 1, 2].map((epoch) => listed({ shuffle: true }, epoch).flat());
    for (const pass of passes) expect([...pass].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(new Set(passes.map(String)).size).toBe(3);
  });
});
