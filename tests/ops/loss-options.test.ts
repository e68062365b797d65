// Losses beyond the case list: nllLoss, class weights, probabilities as targets, labels out of range, errors.
import { describe, expect, test } from 'vitest';
import { backward } from '../../ts/autograd/backward.ts';
import { gradientOf } from '../../ts/autograd/gradient.ts';
import { crossEntropy, mseLoss, nllLoss } from '../../ts/ops/loss.ts';
import { permute } from '../../ts/ops/shape.ts';
import { logSoftmax } from '../../ts/ops/softmax.ts';
import { tensor, zeros } from '../../ts/tensor/create.ts';
import type { TypedArray } from '../../ts/tensor/dtype.ts';
import { data, item } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import { crossEntropyCases, crossEntropyInputs, lossTolerance } from '../cases/loss.ts';
import { golden } from '../golden/load.ts';
import { expectClose } from '../reference/compare.ts';
import { integers } from '../reference/values.ts';
import { solve, withEngine } from './harness.ts';

withEngine();

describe('nllLoss of logSoftmax is crossEntropy', () => {
  test.each(crossEntropyCases.filter(({ options }) => !options.labelSmoothing))('$name', (task) => {
    const { x, target, targetShape, dy } = crossEntropyInputs(task);
    const expected = golden('crossEntropy', task.name);
    const { y, gradients } = solve({
      inputs: { x: { data: x, shape: task.x }, target: { data: target, shape: targetShape } },
      run: ({ x, target }) => nllLoss(logSoftmax(x!, 1), target!, task.options),
      dy: { data: dy, shape: task.options.reduction === 'none' ? targetShape : [] },
    });
    expectClose(y, expected.y.data, { tolerance: lossTolerance, label: 'y' });
    expectClose(gradients['x']!, expected.dx!.data, { tolerance: { ...lossTolerance, scale: 1 }, label: 'dx' });
  });
});

const values = [
  [1, 2, 0.5],
  [-1, 0, 3],
  [2, 2, -2],
  [0.25, 0.75, 1.5],
];
const weight = (): Tensor => tensor([0.5, 2, 1]);
const labels = (): Tensor => tensor([0, 2, 1, 1], { dtype: 'i32' });
const oneHot = (): Tensor =>
  tensor([
    [1, 0, 0],
    [0, 0, 1],
    [0, 1, 0],
    [0, 1, 0],
  ]);

function lossAndGradient(run: (x: Tensor) => Tensor): [number, TypedArray] {
  const x = tensor(values, { requiresGrad: true });
  const loss = run(x);
  backward(loss);
  return [item(loss), data(gradientOf(x)!)];
}

describe('crossEntropy', () => {
  test.each([
    { labelSmoothing: 0, weighted: false },
    { labelSmoothing: 0, weighted: true },
    { labelSmoothing: 0.25, weighted: false },
    { labelSmoothing: 0.25, weighted: true },
  ])('labels equal one-hot probabilities: %o', ({ labelSmoothing, weighted }) => {
    const options = { labelSmoothing, reduction: 'sum' as const, ...(weighted ? { weight: weight() } : {}) };
    const [a, da] = lossAndGradient((x) => crossEntropy(x, labels(), options));
    const [b, db] = lossAndGradient((x) => crossEntropy(x, oneHot(), options));
    expectClose([a], [b], { tolerance: { c: 8 }, label: 'loss' });
    expectClose(da, db, { tolerance: { c: 16, scale: 1 }, label: 'gradient' });
  });

  test('the weighted mean divides by the weights of the labels', () => {
    const options = { weight: weight() };
    const total = item(crossEntropy(tensor(values), labels(), { ...options, reduction: 'sum' }));
    expect(item(crossEntropy(tensor(values), labels(), options))).toBeCloseTo(total / (0.5 + 1 + 2 + 2), 6);
  });

  test('u8 labels, and one sample without a batch', () => {
    const bytes = tensor(new Uint8Array([0, 2, 1, 1]));
    expect(item(crossEntropy(tensor(values), bytes))).toBe(item(crossEntropy(tensor(values), labels())));
    const single = crossEntropy(tensor([1, 2, 0.5]), tensor(1, { dtype: 'i32' }));
    expect(item(single)).toBeCloseTo(Math.log(Math.exp(-1) + 1 + Math.exp(-1.5)), 6);
  });

  test('losses per pixel have the shape of the labels', () => {
    const x = tensor(integers('loss/pixels', 2 * 3 * 4 * 5, -3, 3), { shape: [2, 3, 4, 5] });
    const target = tensor(integers('loss/pixels/target', 24, 0, 4), { shape: [2, 3, 4], dtype: 'i32' });
    expect(crossEntropy(permute(x, [0, 3, 1, 2]), target, { reduction: 'none' }).shape).toEqual([2, 3, 4]);
  });
});

describe('errors', () => {
  const x = (): Tensor => zeros([4, 3]);
  const target = (): Tensor => zeros([4], { dtype: 'i32' });

  test('a label out of range is reported by the run that meets it', () => {
    const bad = tensor([0, 3, 1, 2], { dtype: 'i32' });
    expect(() => crossEntropy(x(), bad)).toThrow(/crossEntropy: index or label 3 is out of range, expected 0 to 2/);
    const negative = tensor([0, -1, 1, 2], { dtype: 'i32' });
    expect(() => nllLoss(x(), negative)).toThrow(/nllLoss: index or label -1 is out of range, expected 0 to 2/);
    expect(item(crossEntropy(x(), negative, { ignoreIndex: -1 }))).toBeCloseTo(Math.log(3), 6);
  });

  const cases: [string, () => unknown, RegExp][] = [
    [
      'labels',
      () => crossEntropy(x(), zeros([3], { dtype: 'i32' })),
      /crossEntropy: scores \[4,3\] need one label per sample, \[4\], got target \[3\]/,
    ],
    [
      'probabilities',
      () => crossEntropy(x(), zeros([4])),
      /crossEntropy: target \[4\] holds probabilities \(f32\) and must have the shape of the scores \[4,3\]/,
    ],
    [
      'reduction',
      () => crossEntropy(x(), target(), { reduction: 'avg' as never }),
      /crossEntropy: reduction is 'mean', 'sum' or 'none', got "avg"/,
    ],
    [
      'smoothing',
      () => crossEntropy(x(), target(), { labelSmoothing: 2 }),
      /crossEntropy: labelSmoothing must lie between 0 and 1, got 2/,
    ],
    ['NaN', () => crossEntropy(x(), target(), { labelSmoothing: Number.NaN }), /between 0 and 1, got NaN/],
    [
      'weight',
      () => crossEntropy(x(), target(), { weight: zeros([4]) }),
      /crossEntropy: weight \[4\] for 3 classes, expected \[3\]/,
    ],
    ['ignoreIndex', () => nllLoss(x(), target(), { ignoreIndex: 0.5 }), /nllLoss: ignoreIndex must be a whole number/],
    ['option', () => nllLoss(x(), target(), { dim: 1 } as never), /nllLoss: unknown option 'dim'/],
    ['scores', () => crossEntropy(zeros([4, 3], { dtype: 'i32' }), target()), /crossEntropy: expected an f32 tensor/],
    ['no classes', () => crossEntropy(tensor(1), target()), /crossEntropy: scores \[\] have no dimension of classes/],
    ['shapes', () => mseLoss(zeros([4]), zeros([4, 1])), /mseLoss: x \[4\] and target \[4,1\] have different shapes/],
    ['target', () => mseLoss(zeros([4]), [1] as never), /mseLoss: target must be a Tensor, got object/],
  ];
  test.each(cases)('%s', (_, call, message) => expect(call).toThrow(message));
});
