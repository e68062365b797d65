// Softmax and log-softmax: second derivatives and errors.
import { expect, test } from 'vitest';
import { backward } from '../../ts/autograd/backward.ts';
import { assignGradient, gradientOf } from '../../ts/autograd/gradient.ts';
import { mul } from '../../ts/ops/elementwise.ts';
import { logSoftmax, softmax } from '../../ts/ops/softmax.ts';
import { sum } from '../../ts/ops/sum.ts';
import { tensor, zeros } from '../../ts/tensor/create.ts';
import { data } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import { expectClose } from '../reference/compare.ts';
import { logSoftmaxGrad, softmaxGrad } from '../reference/softmax.ts';
import { uniform } from '../reference/values.ts';
import { withEngine } from './harness.ts';

withEngine();

test.each([
  ['softmax', softmax, softmaxGrad],
  ['logSoftmax', logSoftmax, logSoftmaxGrad],
] as const)('%s: second derivative against differences of the oracle', (name, op, oracle) => {
  const shape = [3, 7];
  const numbers = (part: string): Float32Array => uniform(`second/${name}/${part}`, 21);
  const [x0, dy, v] = [numbers('x'), numbers('dy'), numbers('v')];
  const h = 1e-5;
  const gradientAt = (sign: number): Float64Array =>
    oracle(
      dy,
      Float64Array.from(x0, (value, i) => value + sign * h * v[i]!),
      shape,
      1,
    );
  const [up, down] = [gradientAt(1), gradientAt(-1)];

  // The Hessian is symmetric: what a step along v changes in dx is the gradient of <v, dx>.
  const x = tensor(x0, { shape, requiresGrad: true });
  let dx: Tensor | undefined;
  x.hooks = [
    (gradient) => {
      dx ??= gradient;
      return undefined;
    },
  ];
  backward(op(x, 1), { gradient: tensor(dy, { shape }), createGraph: true });
  assignGradient(x, null);
  backward(sum(mul(dx!, tensor(v, { shape }))));
  const expected = up.map((value, i) => (value - down[i]!) / (2 * h));
  expectClose(data(gradientOf(x)!), expected, { tolerance: { c: 64, scale: 1 }, label: 'second' });
});

test('errors', () => {
  expect(() => softmax(zeros([2, 3]), 2)).toThrow(/softmax: dim 2 is out of range for a tensor with 2 dimensions/);
  expect(() => softmax(zeros([2, 3]), undefined as never)).toThrow(/softmax: dim must be a number, got undefined/);
  expect(() => logSoftmax(zeros([2], { dtype: 'i32' }), 0)).toThrow(/logSoftmax: expected an f32 tensor, got i32/);
});
