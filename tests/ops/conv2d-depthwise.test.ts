// Depthwise convolution: strips of every width, kernels with and without strips of their own, and borders wherever they can fall. (Golden values
// and layouts: conv2d.test.ts.)
import { describe, expect, test } from 'vitest';
import { conv2d } from '../../ts/ops/conv2d.ts';
import { type Conv2dCase, conv2dInputs } from '../cases/conv2d.ts';
import { dot, expectEqual } from '../reference/compare.ts';
import * as oracle from '../reference/conv2d.ts';
import { type Four, smallIntegers } from '../reference/values.ts';
import { type Answer, solve, withEngine } from './harness.ts';

withEngine();

function answerOf(task: Conv2dCase): { answer: Answer; inputs: ReturnType<typeof conv2dInputs> } {
  const inputs = conv2dInputs(task, smallIntegers);
  const { geometry, x, weight, bias, dy } = inputs;
  const answer = solve({
    inputs: {
      x: { data: x, shape: task.x, layout: 'channelsLast' },
      weight: { data: weight, shape: task.weight },
      bias: { data: bias!, shape: [bias!.length] },
    },
    run: (given) => conv2d(given.x, given.weight, given.bias, task.options),
    dy: { data: dy, shape: geometry.y, layout: 'channelsLast' },
  });
  return { answer, inputs };
}

function expectExact(task: Conv2dCase): void {
  const { answer, inputs } = answerOf(task);
  const { geometry, x, weight, bias, dy } = inputs;
  expectEqual(answer.y, oracle.conv2d(x, weight, bias, geometry), `${task.name}: y`);
  expectEqual(answer.gradients.x!, oracle.conv2dInputGrad(dy, weight, geometry), `${task.name}: dx`);
  expectEqual(answer.gradients.weight!, oracle.conv2dWeightGrad(x, dy, geometry), `${task.name}: dw`);
}

/** A depthwise convolution of `channels` planes. */
function depthwise(
  channels: number,
  [images, height, width]: readonly number[],
  [kh, kw]: readonly number[],
  options: Conv2dCase['options'],
): Conv2dCase {
  const x = [images, channels, height, width] as Four;
  const name = `${x} ${kh}x${kw} ${JSON.stringify(options)}`;
  return { name, x, weight: [channels, 1, kh!, kw!] as Four, options: { ...options, groups: channels } };
}

describe('every width, exact on integers', () => {
  const kernels = [
    [1, 1],
    [2, 2],
    [3, 3],
    [4, 4],
    [5, 5],
    [7, 7],
    [3, 6],
  ] as const;
  test.each(kernels.flatMap(([kh, kw]) => [1, 2, 3].map((stride) => ({ kh, kw, stride }))))(
    '$kh x $kw, stride $stride',
    ({ kh, kw, stride }) => {
      for (let width = kw; width < 19; width++) {
        const padding = [
          [kh >> 1, (kh - 1) >> 1],
          [(width + 1) % kw, width % kw],
        ] as const;
        expectExact(depthwise(2 + (width % 9), [1 + (width % 2), kh + 2, width], [kh, kw], { stride, padding }));
      }
    },
  );
});

describe('borders, exact on integers', () => {
  const tasks = [
    depthwise(5, [0, 6, 7], [3, 3], { padding: 1 }),
    depthwise(5, [1, 1, 1], [3, 3], { padding: 1 }),
    depthwise(5, [2, 2, 3], [5, 5], { padding: 2 }),
    depthwise(4, [1, 4, 4], [3, 3], { padding: 5 }),
    depthwise(6, [1, 3, 9], [3, 3], {
      padding: [
        [0, 4],
        [3, 0],
      ],
    }),
    depthwise(6, [1, 9, 10], [3, 3], {
      padding: [
        [0, 1],
        [0, 1],
      ],
      stride: 2,
    }),
    depthwise(9, [1, 6, 12], [3, 3], { padding: 6, stride: 2 }),
    depthwise(9, [2, 14, 12], [3, 3], { padding: 1, stride: [2, 1] }),
    depthwise(4, [1, 17, 9], [7, 5], { padding: 2, stride: [3, 1] }),
    depthwise(8, [1, 13, 20], [3, 3], { dilation: 2, padding: 2 }),
    depthwise(7, [1, 13, 20], [3, 3], { dilation: [3, 1], padding: [3, 1], stride: [1, 2] }),
    depthwise(7, [1, 17, 19], [5, 3], { dilation: [1, 3], padding: [2, 3], stride: [2, 2] }),
    depthwise(3, [2, 12, 13], [3, 3], { dilation: 2, padding: 2, stride: 4 }),
    depthwise(2, [1, 30, 31], [11, 11], { padding: 5, stride: 2 }),
    depthwise(70, [1, 9, 8], [3, 3], { padding: 'same' }),
    depthwise(2, [1, 3, 70], [1, 9], { padding: [0, 4] }),
  ];
  test.each(tasks)('$name', (task) => expectExact(task));
});

test('padding adds nothing, not even to infinite gradients or pixels', () => {
  const task = depthwise(4, [1, 5, 9], [3, 3], { padding: 1 });
  const inputs = conv2dInputs(task, smallIntegers);
  const x = inputs.x.map(() => Number.POSITIVE_INFINITY);
  const weight = inputs.weight.map((value) => Math.abs(value) + 1);
  const y = solve({
    inputs: { x: { data: x, shape: task.x, layout: 'channelsLast' }, weight: { data: weight, shape: task.weight } },
    run: (given) => conv2d(given.x, given.weight, null, task.options),
  }).y;
  expect(y.every((value) => value === Number.POSITIVE_INFINITY)).toBe(true);
});

test.each([1, 2])('tensors larger than the caches, stride %i: adjoint, exact on integers', (stride) => {
  const task = depthwise(37, [2, 130, 131], [3, 3], { padding: 1, stride });
  const { answer, inputs } = answerOf(task);
  const { y, gradients } = answer;
  const product = dot(y, inputs.dy) - dot(inputs.bias!, gradients.bias!);
  expect(dot(inputs.x, gradients.x!)).toBe(product);
  expect(dot(inputs.weight, gradients.weight!)).toBe(product);
  expectEqual(y, oracle.conv2d(inputs.x, inputs.weight, inputs.bias, inputs.geometry), 'y');
});
