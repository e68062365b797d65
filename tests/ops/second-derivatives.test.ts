// Second derivatives of losses and of max pooling: the same as those of the sums and products that they stand for, also where what
// arrives from behind depends on the input.
import { expect, test } from 'vitest';
import {
  crossEntropy,
  logSoftmax,
  matmul,
  maxPool2d,
  mul,
  nllLoss,
  reshape,
  scope,
  sum,
  type Tensor,
  tanh,
  tensor,
} from '../../ts/index.ts';
import type { CrossEntropyOptions } from '../../ts/ops/loss.ts';
import { expectClose } from '../reference/compare.ts';
import { type Numbers, uniform } from '../reference/values.ts';
import { withEngine } from './harness.ts';

withEngine();

const tolerance = { c: 64, scale: 1 };

/** The gradient of <v, gradient of g(f(x))> with a g that curves, so that what f is handed backwards depends on x. */
function second(f: (x: Tensor) => Tensor, shape: readonly number[]): Numbers {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return scope(() => {
    const x = tensor(uniform('second/x', size), { shape, requiresGrad: true });
    const y = f(mul(tanh(x), x));
    sum(mul(mul(y, y), y)).backward({ createGraph: true });
    const gradient = x.grad!;
    x.grad = null;
    sum(mul(gradient, tensor(uniform('second/v', size), { shape }))).backward();
    return x.grad!.data();
  });
}

const labels = [1, 0, 4, 3, 1, 2];
const weights = [0.5, 1.5, 0.75, 1, 2];
const losses: readonly (CrossEntropyOptions & { readonly weighted?: boolean })[] = [
  {},
  { reduction: 'sum' },
  { reduction: 'none' },
  { ignoreIndex: 1 },
  { weighted: true },
  { weighted: true, ignoreIndex: 3, reduction: 'none' },
  { labelSmoothing: 0.25 },
  { labelSmoothing: 0.25, weighted: true, reduction: 'sum' },
  { labelSmoothing: 0.25, weighted: true, ignoreIndex: 0 },
];

/** Minus the share of each log-probability in each loss, and what their sum is divided by. */
function shares({ ignoreIndex, labelSmoothing = 0, weighted }: (typeof losses)[number]) {
  const weight = weighted ? weights : weights.map(() => 1);
  const counted = labels.filter((label) => label !== ignoreIndex);
  const rows = labels.map((label) =>
    weight.map((w, c) =>
      label === ignoreIndex ? 0 : -w * ((c === label ? 1 - labelSmoothing : 0) + labelSmoothing / 5),
    ),
  );
  return { rows: tensor(rows), divisor: counted.reduce((total, label) => total + weight[label]!, 0) };
}

/** The losses of samples as the reduction wants them. */
function reduced(perSample: Tensor, divisor: number, { reduction = 'mean' }: CrossEntropyOptions): Tensor {
  if (reduction === 'none') return perSample;
  return reduction === 'sum' ? sum(perSample) : sum(perSample).div(divisor);
}

test.each(losses)('crossEntropy, %o', ({ weighted, ...options }) => {
  scope(() => {
    const { rows, divisor } = shares({ ...options, ...(weighted ? { weighted } : {}) });
    const given = weighted ? { ...options, weight: tensor(weights) } : options;
    const target = tensor(Int32Array.from(labels));
    const found = second((x) => crossEntropy(x, target, given), [6, 5]);
    const expected = second((x) => reduced(sum(mul(logSoftmax(x, 1), rows), { dim: 1 }), divisor, options), [6, 5]);
    expectClose(found, expected, { tolerance, label: 'second' });
  });
});

test.each(losses.filter(({ labelSmoothing }) => !labelSmoothing))('nllLoss, %o', ({ weighted, ...options }) => {
  scope(() => {
    const { rows, divisor } = shares({ ...options, ...(weighted ? { weighted } : {}) });
    const given = weighted ? { ...options, weight: tensor(weights) } : options;
    const target = tensor(Int32Array.from(labels));
    const found = second((x) => nllLoss(x, target, given), [6, 5]);
    const expected = second((x) => reduced(sum(mul(x, rows), { dim: 1 }), divisor, options), [6, 5]);
    expectClose(found, expected, { tolerance, label: 'second' });
  });
});

test.each([{ kernel: 2 }, { kernel: 3, stride: 1, padding: 1 }, { kernel: 3, stride: 2, padding: 1 }])(
  'maxPool2d, %o',
  ({ kernel, ...options }) => {
    scope(() => {
      const shape = [2, 3, 6, 7];
      const numbers = tensor(uniform('second/x', 252), { shape });
      const [pooled, indices] = maxPool2d(mul(tanh(numbers), numbers), kernel, { ...options, returnIndices: true });
      // Every output takes one input: a product with a matrix of ones and zeros.
      const positions = indices.data();
      const picks = new Float32Array(positions.length * 252);
      const perPlane = positions.length / 6;
      positions.forEach((position, o) => {
        picks[o * 252 + Math.floor(o / perPlane) * 42 + position] = 1;
      });
      const matrix = tensor(picks, { shape: [positions.length, 252] });
      const found = second((x) => maxPool2d(x, kernel, options), shape);
      const expected = second((x) => reshape(matmul(matrix, reshape(x, [252, 1])), pooled.shape), shape);
      expect(found.length).toBe(252);
      expectClose(found, expected, { tolerance, label: 'second' });
    });
  },
);
