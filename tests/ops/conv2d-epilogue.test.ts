// What compile fuses into a convolution: y = clamp(conv(x, weight * scale) + bias + residual, lo, hi), against the composed ops.
import { describe, expect, test } from 'vitest';
import { conv2dOp } from '../../ts/ops/conv2d.ts';
import type { Conv2dGeometry } from '../../ts/ops/conv2d-geometry.ts';
import { channelsLast } from '../../ts/ops/copy.ts';
import { apply } from '../../ts/tensor/apply.ts';
import { ones, tensor, zeros } from '../../ts/tensor/create.ts';
import type { Operand } from '../../ts/tensor/op.ts';
import { type Conv2dCase, conv2dCases, conv2dInputs } from '../cases/conv2d.ts';
import { expectEqual } from '../reference/compare.ts';
import * as oracle from '../reference/conv2d.ts';
import { smallIntegers } from '../reference/values.ts';
import { type Input, solve, withEngine } from './harness.ts';

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

const [lo, hi] = [-30, 50];

/** The op with an activation fused. */
const clamped: typeof conv2dOp = {
  ...conv2dOp,
  infer(inputs, options) {
    const { geometry, outputs } = conv2dOp.infer(inputs, options);
    return { geometry: { ...geometry, lo, hi } as Conv2dGeometry, outputs };
  },
};

describe.each(['residual', 'scale', 'bias, residual, scale'])('%s: exact on integers', (operands) => {
  test.each([...conv2dCases, ...more])('$name', (task) => {
    const { geometry, x, weight, bias } = conv2dInputs(task, smallIntegers);
    const outputs = geometry.y[1]!;
    const scale = operands.includes('scale') ? smallIntegers('scale', [outputs]) : null;
    const residual = operands.includes('residual') ? smallIntegers('residual', geometry.y) : null;
    const added = operands.includes('bias') ? (bias ?? smallIntegers('bias', [outputs])) : null;
    const inputs: Record<string, Input> = {
      x: { data: x, shape: task.x, constant: true },
      weight: { data: weight, shape: task.weight, layout: 'channelsLast', constant: true },
    };
    if (scale) inputs.scale = { data: scale, shape: [outputs], constant: true };
    if (added) inputs.bias = { data: added, shape: [outputs], constant: true };
    if (residual) inputs.residual = { data: residual, shape: geometry.y, layout: 'channelsLast', constant: true };
    const { y } = solve({
      inputs,
      run: (given) => {
        const operands: Operand[] = [channelsLast(given.x!), given.weight!];
        operands.push(given.bias ?? null, given.residual ?? null, given.scale ?? null);
        return apply(clamped, operands, task.options ?? {})[0]!;
      },
    });
    const perOutput = weight.length / outputs;
    const scaled = weight.map((value, i) => value * (scale ? scale[Math.floor(i / perOutput)]! : 1));
    const sums = oracle.conv2d(x, scaled, added, geometry);
    expectEqual(
      y,
      sums.map((sum, i) => Math.min(Math.max(sum + (residual ? residual[i]! : 0), lo), hi)),
      'y',
    );
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
