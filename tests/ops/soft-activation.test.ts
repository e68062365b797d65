// leakyRelu, silu, hardsigmoid and hardswish: PyTorch's numbers, a float64 oracle over sizes and ranges, second derivatives, layers.
import { describe, expect, test } from 'vitest';
import { backward } from '../../ts/autograd/backward.ts';
import { Hardsigmoid, Hardswish, LeakyReLU, type Module, SiLU } from '../../ts/nn/index.ts';
import { relayout } from '../../ts/ops/copy.ts';
import { add } from '../../ts/ops/elementwise.ts';
import { hardsigmoid, hardswish, leakyRelu, silu } from '../../ts/ops/soft-activation.ts';
import { ones, tensor } from '../../ts/tensor/create.ts';
import { scope } from '../../ts/tensor/lifetime.ts';
import { data } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import { expectClose, expectEqual, expectUlps } from '../reference/compare.ts';
import { smallIntegers, values } from '../reference/values.ts';
import { layouts, solve, withEngine } from './harness.ts';

withEngine();

/** A function with its first and second derivatives, in float64, and what PyTorch 1.13 gives for `points` in double. */
interface Activation {
  name: string;
  run: (x: Tensor) => Tensor;
  layer: () => Module;
  f: (x: number) => number;
  first: (x: number) => number;
  /** Null where it is 0 almost everywhere: then nothing reaches x. */
  second: ((x: number) => number) | null;
  golden: { y: number[]; dx: number[] };
  /** Of y and dx at `special`. */
  specials: { y: number[]; dx: number[] };
}

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
const points = [-5, -3, -2.25, -0.5, 0, 0.75, 3, 4.5];
const special = [nan, inf, -inf, 1e30, -1e30];
const s = (x: number): number => 1 / (1 + Math.exp(-x));

const activations: readonly Activation[] = [
  {
    name: 'leakyRelu',
    run: (x) => leakyRelu(x, { negativeSlope: 0.2 }),
    layer: () => new LeakyReLU({ negativeSlope: 0.2, inplace: true }),
    f: (x) => (x > 0 ? x : 0.2 * x),
    first: (x) => (x > 0 ? 1 : 0.2),
    second: null,
    golden: { y: [-1, -0.6, -0.45, -0.1, 0, 0.75, 3, 4.5], dx: [0.2, 0.2, 0.2, 0.2, 0.2, 1, 1, 1] },
    specials: { y: [nan, inf, -inf, 1e30, -2e29], dx: [0.2, 1, 0.2, 1, 0.2] },
  },
  {
    name: 'silu',
    run: silu,
    layer: () => new SiLU({ inplace: true }),
    f: (x) => x * s(x),
    first: (x) => s(x) * (1 + x * (1 - s(x))),
    second: (x) => s(x) * (1 - s(x)) * (2 + x * (1 - 2 * s(x))),
    golden: {
      y: [-0.033464255, -0.14227762, -0.214536296, -0.188770334, 0, 0.509384024, 2.85772238, 4.450558758],
      dx: [-0.026547432, -0.088104106, -0.09873091, 0.260038813, 0.5, 0.842599944, 1.088104106, 1.037911091],
    },
    specials: { y: [nan, inf, nan, 1e30, 0], dx: [nan, nan, nan, 1, 0] },
  },
  {
    name: 'hardsigmoid',
    run: hardsigmoid,
    layer: () => new Hardsigmoid({ inplace: true }),
    f: (x) => Math.min(Math.max(x + 3, 0), 6) / 6,
    first: (x) => (Math.abs(x) < 3 ? 1 / 6 : 0),
    second: null,
    golden: { y: [0, 0, 0.125, 5 / 12, 0.5, 0.625, 1, 1], dx: [0, 0, 1 / 6, 1 / 6, 1 / 6, 1 / 6, 0, 0] },
    specials: { y: [nan, 1, 0, 1, 0], dx: [0, 0, 0, 0, 0] },
  },
  {
    name: 'hardswish',
    run: hardswish,
    layer: () => new Hardswish({ inplace: true }),
    f: (x) => (x * Math.min(Math.max(x + 3, 0), 6)) / 6,
    first: (x) => (x < -3 ? 0 : x < 3 ? (2 * x + 3) / 6 : 1),
    second: (x) => (Math.abs(x) <= 3 ? 1 / 3 : 0),
    golden: { y: [0, 0, -0.28125, -5 / 24, 0, 0.46875, 3, 4.5], dx: [0, -0.5, -0.25, 1 / 3, 0.5, 0.75, 1, 1] },
    specials: { y: [nan, inf, nan, 1e30, 0], dx: [1, 1, 0, 1, 0] },
  },
];

/** For numbers of magnitude 8. */
const wide = { c: 8, terms: 1, scale: 8 };
const tolerance = { c: 4, terms: 1, scale: 1 };

/** y and dx of a row of numbers. */
function answer({ run }: Activation, x: Float32Array, dy: Float32Array) {
  const shape = [x.length];
  const { y, gradients } = solve({
    inputs: { x: { data: x, shape } },
    run: (given) => run(given.x!),
    dy: { data: dy, shape },
  });
  return { y, dx: gradients.x! };
}

describe.each(activations)('$name', (activation) => {
  const { f, first, second, golden, specials } = activation;

  test('PyTorch', () => {
    const { y, dx } = answer(activation, Float32Array.from(points), new Float32Array(8).fill(1));
    expectClose(y, golden.y, { tolerance, label: 'y' });
    expectClose(dx, golden.dx, { tolerance, label: 'dx' });
  });

  test('NaN, infinities and large numbers as PyTorch', () => {
    const { y, dx } = answer(activation, Float32Array.from(special), new Float32Array(5).fill(1));
    expectUlps(y, specials.y, { ulps: 2, label: 'y' });
    expectUlps(dx, specials.dx, { ulps: 2, label: 'dx' });
  });

  test.each([0, 1, 3, 4, 15, 16, 17, 67, 1023, 1025, 16385, 32771])('%i numbers', (size) => {
    const x = values(`soft/${activation.name}/${size}`, [size], { scale: 8 });
    const dy = smallIntegers(`soft/dy/${size}`, [size]);
    const { y, dx } = answer(activation, x, dy);
    expectClose(y, Float64Array.from(x, f), { tolerance: wide, label: 'y' });
    const expected = Float64Array.from(x, (value, i) => dy[i]! * first(value));
    expectClose(dx, expected, { tolerance: wide, label: 'dx' });
  });

  test('in every layout', () => {
    const shape = [2, 5, 3, 4];
    const x = values('soft/x', shape, { scale: 5 });
    const dy = values('soft/dy', shape);
    const expected = answer(activation, x, dy);
    layouts.forEach((layout, i) => {
      const { y, gradients } = solve({
        inputs: { x: { data: x, shape, layout } },
        run: (given) => activation.run(given.x!),
        dy: { data: dy, shape, layout: layouts[(i + 1) % layouts.length]! },
      });
      expectEqual(y, expected.y, 'y');
      expectEqual(gradients.x!, expected.dx, 'dx');
    });
  });

  test('second derivatives through createGraph', () => {
    scope(() => {
      const x = tensor([-4, -1, 0.5, 2, 5], { requiresGrad: true });
      const again = derivative(derivative(activation.run(x), x)!, x);
      if (second) expectClose(data(again!), [...data(x)].map(second), { tolerance, label: 'second' });
      else expect(again).toBeUndefined();
    });
  });

  test('the layer is the function', () => {
    scope(() => {
      const x = tensor(values('soft/layer', [40], { scale: 5 }));
      expectEqual(data(activation.layer().forward(x)), data(activation.run(x)), 'y');
    });
  });
});

test('the result has the layout of the argument', () => {
  const x = relayout(ones([1, 3, 2, 2]), [12, 1, 6, 3]);
  expect(silu(x).strides).toEqual(x.strides);
  expect(leakyRelu(x).strides).toEqual(x.strides);
});

test('leakyRelu says what it does not know', () => {
  expect(data(leakyRelu(tensor([-100, 1])))).toEqual(Float32Array.of(-1, 1));
  expect(() => leakyRelu(tensor([1]), { slope: 1 } as never)).toThrow(TypeError);
  expect(() => leakyRelu(tensor([1]), { negativeSlope: '1' as never })).toThrow('negativeSlope must be a number');
  expect(() => leakyRelu(tensor([1], { dtype: 'i32' }))).toThrow('leakyRelu: expected an f32 tensor, got i32');
});

/** dy/dx as a tensor that can be differentiated again: what reaches x, taken by a hook; undefined if nothing does. */
function derivative(y: Tensor, x: Tensor): Tensor | undefined {
  let reached: Tensor | undefined;
  const hook = (gradient: Tensor): undefined => {
    reached = reached ? add(reached, gradient) : gradient;
  };
  x.hooks = [hook];
  backward(y, { gradient: ones(y.shape), createGraph: true });
  x.hooks = null;
  return reached;
}
