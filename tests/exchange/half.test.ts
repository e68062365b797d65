import { expect, test } from 'vitest';
import { fromBfloat, fromHalf, toBfloat, toHalf } from '../../ts/exchange/half.ts';

test.each([
  ['f16', fromHalf, toHalf, 0x7c00],
  ['bf16', fromBfloat, toBfloat, 0x7f80],
] as const)(
  '%s: every value survives both ways, and the middle between two goes to the even one',
  (_, widen, narrow, infinity) => {
    for (let bits = 0; bits < infinity; bits++) {
      const value = widen(bits);
      expect(narrow(value) === bits && narrow(-value) === (bits | 0x8000), `bits ${bits}`).toBe(true);
      if (bits + 1 === infinity) continue;
      const middle = (value + widen(bits + 1)) / 2;
      expect(narrow(middle) === bits + (bits & 1), `above bits ${bits}`).toBe(true);
    }
    expect(widen(infinity)).toBe(Infinity);
    expect(widen(infinity | 0x8000)).toBe(-Infinity);
    expect(narrow(Infinity)).toBe(infinity);
    expect(widen(infinity | 1)).toBeNaN();
    expect(widen(narrow(NaN))).toBeNaN();
  },
);

test('known values', () => {
  expect([0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001].map(fromHalf)).toEqual([1, -2, 65504, 2 ** -14, 2 ** -24]);
  expect([65519, 65520, 1e9, 2 ** -25, 2 ** -25 * 1.001, 2 ** -26].map(toHalf)).toEqual([
    0x7bff, 0x7c00, 0x7c00, 0, 1, 0,
  ]);
  expect(fromBfloat(0x3f80)).toBe(1);
  expect(toBfloat(Math.PI)).toBe(0x4049);
});
