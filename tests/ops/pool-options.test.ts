// Pooling beyond the case list: indices, images without a batch, second derivatives, errors.
import { describe, expect, test } from 'vitest';
import { backward } from '../../ts/autograd/backward.ts';
import { gradientOf } from '../../ts/autograd/gradient.ts';
import { type AvgPool2dOptions, avgPool2d, type MaxPool2dOptions, maxPool2d } from '../../ts/ops/pool.ts';
import { type NestedNumbers, tensor, zeros } from '../../ts/tensor/create.ts';
import { data } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import { poolCases, poolInputs } from '../cases/pool.ts';
import { expectEqual } from '../reference/compare.ts';
import { maxPool2dIndices } from '../reference/pool.ts';
import { withEngine } from './harness.ts';

withEngine();

describe('indices within the input plane', () => {
  test.each(poolCases.filter(({ op }) => op === 'max'))('$name', (task) => {
    const { geometry, x } = poolInputs(task);
    const options = { ...(task.options as MaxPool2dOptions), returnIndices: true as const };
    const [, indices] = maxPool2d(tensor(x, { shape: task.x }), task.kernel, options);
    const plane = task.x[2] * task.x[3];
    expect(indices.dtype).toBe('i32');
    expectEqual(
      data(indices),
      maxPool2dIndices(x, geometry).map((index) => index % plane),
      'indices',
    );
  });
});

const square: NestedNumbers = [
  [
    [0, 1, 2],
    [3, 4, 5],
    [6, 7, 8],
  ],
];

test('an image without a batch', () => {
  const y = maxPool2d(tensor(square), 2, { stride: 1 });
  expect(y.shape).toEqual([1, 2, 2]);
  expect([...data(y)]).toEqual([4, 5, 7, 8]);
  expect([...data(avgPool2d(tensor(square), 2, { stride: 1 }))]).toEqual([2, 3, 5, 6]);
});

test('average pooling can be differentiated twice', () => {
  const x = tensor(
    [
      [
        [
          [1, 2],
          [3, 4],
        ],
      ],
    ],
    { requiresGrad: true },
  );
  const dy = tensor([[[[2]]]], { requiresGrad: true });
  let dx: Tensor | undefined;
  x.hooks = [
    (gradient) => {
      dx = gradient;
      return undefined;
    },
  ];
  backward(avgPool2d(x, 2), { gradient: dy, createGraph: true });
  expect([...data(dx!)]).toEqual([0.5, 0.5, 0.5, 0.5]);
  backward(dx!, {
    gradient: tensor([
      [
        [
          [1, 2],
          [3, 6],
        ],
      ],
    ]),
  });
  expect([...data(gradientOf(dy)!)]).toEqual([3]);
});

describe('errors', () => {
  const x = (): Tensor => zeros([1, 2, 4, 5]);
  const max =
    (kernel: unknown, options: MaxPool2dOptions = {}) =>
    () =>
      maxPool2d(x(), kernel as number, options as { returnIndices?: false });
  const avg =
    (kernel: unknown, options: AvgPool2dOptions = {}) =>
    () =>
      avgPool2d(x(), kernel as number, options);
  const cases: [string, () => unknown, RegExp][] = [
    ['rank', () => maxPool2d(zeros([4, 4]), 2), /maxPool2d: expected images \[N,C,H,W\] or \[C,H,W\], got \[4,4\]/],
    ['dtype', () => avgPool2d(zeros([1, 1, 4, 4], { dtype: 'i32' }), 2), /avgPool2d: expected an f32 tensor, got i32/],
    ['kernel', max(0), /maxPool2d: kernelSize must be a whole number >= 1, got 0/],
    ['kernel kind', max('2'), /maxPool2d: kernelSize must be a number or a pair of numbers, got "2"/],
    ['stride', max(2, { stride: 0 }), /maxPool2d: stride must be a whole number >= 1, got 0/],
    ['stride NaN', avg(2, { stride: Number.NaN }), /avgPool2d: stride must be a whole number >= 1/],
    ['padding', avg(2, { padding: -1 }), /avgPool2d: padding must be a whole number >= 0, got -1/],
    ['much padding', max(3, { padding: 2 }), /maxPool2d: padding 2 is more than half of the kernel size 3/],
    ['dilation', max(2, { dilation: [1, 0] }), /maxPool2d: dilation must be a whole number >= 1, got \[1,0\]/],
    ['height', max(5), /maxPool2d: the window's height 5 is larger than the padded input's, 4 \+ 0 \+ 0/],
    ['width', avg([2, 8], { padding: [0, 1] }), /avgPool2d: the window's width 8 is larger than the padded input's/],
    ['same', max(3, { padding: 'same' }), /maxPool2d: padding 'same' needs stride 1, got \[3,3\]/],
    ['divisor', avg(2, { divisorOverride: 0 }), /avgPool2d: divisorOverride must be a whole number >= 1, got 0/],
    ['option', avg(2, { dilation: 1 } as never), /avgPool2d: unknown option 'dilation'/],
  ];
  test.each(cases)('%s', (_, call, message) => expect(call).toThrow(message));
});
