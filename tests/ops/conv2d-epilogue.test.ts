// What compile fuses into a convolution: y = clamp(conv(x, weight * scale) + bias + residual, lo, hi), against the composed ops.
import { describe, expect, test } from 'vitest';
import { conv2dOp } from '../../ts/ops/conv2d.ts';
import { apply } from '../../ts/tensor/apply.ts';
import { ones, tensor, zeros } from '../../ts/tensor/create.ts';
import type { Operand } from '../../ts/tensor/op.ts';
import { type Conv2dCase, conv2dCases } from '../cases/conv2d.ts';
import { expectEqual } from '../reference/compare.ts';
import { epilogues, solveEpilogue } from './epilogue.ts';
import { withEngine } from './harness.ts';

// The product alone: Winograd's algorithm has tests of its own.
withEngine({ threads: 1, debug: true, winograd: false });

/** Geometries that end strips, panels and blocks of k in every way. */
const more: readonly Conv2dCase[] = [
  { name: '1x1, one pixel, 70 outputs', x: [1, 9, 1, 1], weight: [70, 9, 1, 1] },
  { name: '1x1, 31 columns', x: [1, 5, 1, 1], weight: [31, 5, 1, 1] },
  { name: '1x1, deep', x: [1, 1300, 3, 5], weight: [20, 1300, 1, 1] },
  { name: '3x3, deep, 13 outputs', x: [2, 230, 6, 7], weight: [13, 230, 3, 3], options: { padding: 1 } },
  { name: '1x1, stride 2', x: [2, 20, 9, 8], weight: [17, 20, 1, 1], options: { stride: 2 } },
  { name: '3x3, narrow', x: [3, 8, 5, 3], weight: [12, 8, 3, 3], options: { padding: 1 } },
  { name: 'dilated', x: [1, 4, 12, 11], weight: [9, 4, 3, 3], options: { dilation: 3, padding: 2 } },
  { name: 'groups of 3 outputs', x: [2, 8, 7, 9], weight: [12, 2, 3, 3], options: { groups: 4, padding: 1 } },
];

describe.each(epilogues)('%s: exact on integers', (epilogue) => {
  test.each([...conv2dCases, ...more])('$name', (task) => {
    const { y, expected } = solveEpilogue(task, epilogue);
    expectEqual(y, expected, 'y');
  });
});

test('operands that do not fit are named', () => {
  const [x, weight] = [ones([1, 3, 4, 4]), ones([2, 3, 1, 1])];
  const call = (residual: Operand, scale: Operand) => () => apply(conv2dOp, [x, weight, null, residual, scale], {});
  expect(call(ones([1, 2, 4, 3]), null)).toThrow(/conv2d: residual \[1,2,4,3\]/);
  expect(call(zeros([1, 2, 4, 4]), null)).toThrow(/conv2d: residual .* channels-last/);
  expect(call(null, ones([3]))).toThrow(/conv2d: scale \[3\] does not fit, expected \[2\]/);
  expect(call(null, tensor([1, 2], { dtype: 'i32' }))).toThrow(/conv2d: scale must be f32/);
});
