// Functions of one and two tensors against PyTorch's numbers, in several layouts.
import '../../ts/autograd/tape.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backward } from '../../ts/autograd/backward.ts';
import { gradientOf } from '../../ts/autograd/gradient.ts';
import { relu, sigmoid, tanh } from '../../ts/ops/activation.ts';
import { eq, ge, gt, le, lt, ne, where } from '../../ts/ops/compare.ts';
import { relayout, to } from '../../ts/ops/copy.ts';
import { add, div, maximum, minimum, mul, pow, sub } from '../../ts/ops/elementwise.ts';
import { expand, permute, unsqueeze } from '../../ts/ops/shape.ts';
import { abs, clamp, exp, log, neg, reciprocal, sqrt, square } from '../../ts/ops/unary.ts';
import { init, shutdown } from '../../ts/runtime/engine.ts';
import { arange, tensor, zeros } from '../../ts/tensor/create.ts';
import { data } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import {
  type BinaryCase,
  binaryCases,
  binaryInputs,
  elementwiseTolerance,
  specialOps,
  type UnaryCase,
  unaryCases,
  unaryInputs,
} from '../cases/elementwise.ts';
import { golden, goldenTensor } from '../golden/load.ts';
import { expectClose, expectEqual } from '../reference/compare.ts';
import { type Numbers, type Shape, values } from '../reference/values.ts';

beforeAll(() => init({ threads: 1, debug: true }));
afterAll(shutdown);

const unary = { neg, abs, sqrt, exp, log, relu, sigmoid, tanh };
const binary = { add, sub, mul, div, pow, minimum, maximum, eq, ne, gt, ge, lt, le };

function leaf(numbers: Float32Array, shape: Shape): Tensor {
  return tensor(numbers, { shape, requiresGrad: true });
}

function gradient(x: Tensor): Numbers {
  return data(gradientOf(x)!);
}

function close(actual: Numbers, expected: Numbers, label: string): void {
  expectClose(actual, expected, { tolerance: elementwiseTolerance, label });
}

function callUnary({ op, exponent, options }: UnaryCase, x: Tensor): Tensor {
  if (op === 'clamp') return clamp(x, options!);
  return op === 'pow' ? pow(x, exponent!) : unary[op](x);
}

describe('functions of one tensor', () => {
  it.each(unaryCases)('$name', (task) => {
    const { x: numbers, dy } = unaryInputs(task);
    const x = leaf(numbers, [67]);
    const y = callUnary(task, x);
    const expected = golden('elementwise', task.name);
    close(data(y), expected.y.data, 'y');
    backward(y, { gradient: tensor(dy) });
    close(gradient(x), expected.dx!.data, 'dx');
  });

  it.each(specialOps)('%s of special numbers', (op) => {
    const x = leaf(goldenTensor('elementwise/specials').data, [goldenTensor('elementwise/specials').data.length]);
    const y = unary[op](x);
    const expected = golden('elementwise', `${op} of specials`);
    close(data(y), expected.y.data, 'y');
    backward(y, { gradient: tensor(values(`elementwise/${op} of specials/dy`, x.shape)) });
    close(gradient(x), expected.dx!.data, 'dx');
  });

  it('keeps the layout of a dense operand and packs any other', () => {
    const x = permute(tensor(values('x', [2, 3, 4]), { shape: [2, 3, 4] }), [2, 0, 1]);
    expect(neg(x).strides).toEqual(x.strides);
    expectEqual(
      data(neg(x)),
      data(x).map((v) => -v),
      'permuted',
    );
    const wide = expand(tensor([[1], [4]]), [2, 3]);
    expect(data(sqrt(wide))).toEqual(new Float32Array([1, 1, 1, 2, 2, 2]));
  });

  it('aligns the layout of an upstream gradient', () => {
    const x = leaf(values('x', [2, 3, 4]), [2, 3, 4]);
    const dy = relayout(tensor(values('dy', [2, 3, 4]), { shape: [2, 3, 4] }), [1, 8, 2]);
    backward(relu(x), { gradient: dy });
    expectEqual(
      gradient(x),
      data(x).map((v, i) => (v > 0 ? data(dy)[i]! : 0)),
      'dx',
    );
  });

  it('differentiates twice', () => {
    for (const [f, second] of [
      [sigmoid, (v: number) => ((s) => s * (1 - s) * (1 - 2 * s))(1 / (1 + Math.exp(-v)))],
      [tanh, (v: number) => -2 * Math.tanh(v) * (1 - Math.tanh(v) ** 2)],
      [square, () => 2],
      [reciprocal, (v: number) => 2 / v ** 3],
      [sqrt, (v: number) => -0.25 * v ** -1.5],
    ] as const) {
      const x = leaf(new Float32Array([0.5, 1.25, 2]), [3]);
      backward(f(x), { gradient: tensor([1, 1, 1]), createGraph: true });
      const dx = gradientOf(x)!;
      expect(dx.shape).toEqual([3]);
      const numbers = data(x).map(second);
      const y = leaf(data(x) as Float32Array, [3]);
      const first = firstDerivative(f, y);
      backward(first, { gradient: tensor([1, 1, 1]) });
      close(gradient(y), numbers, f.name);
    }
  });
});

/** The derivative of f as a function of x, built from what f's gradient is made of. */
function firstDerivative(f: (x: Tensor) => Tensor, x: Tensor): Tensor {
  if (f === sigmoid) return mul(sigmoid(x), sub(1, sigmoid(x)));
  if (f === tanh) return sub(1, square(tanh(x)));
  if (f === square) return mul(x, 2);
  if (f === reciprocal) return neg(reciprocal(square(x)));
  return div(0.5, sqrt(x));
}

function operands({ shapes }: BinaryCase, a: Float32Array, b: Float32Array): [Tensor, Tensor] {
  return [leaf(a, shapes.a), leaf(b, shapes.b)];
}

describe('functions of two tensors', () => {
  it.each(binaryCases)('$name', (task) => {
    const inputs = binaryInputs(task);
    const [a, b] = operands(task, inputs.a, inputs.b);
    const condition = to(tensor(inputs.condition, { shape: inputs.y }), 'u8');
    const y = task.op === 'where' ? where(condition, a, b) : binary[task.op](a, b);
    const expected = golden('elementwise', task.name);
    expect(y.shape).toEqual(expected.y.shape);
    close(data(y), expected.y.data, 'y');
    if (!expected.da) return expect(y.requiresGrad).toBe(false);
    backward(y, { gradient: tensor(inputs.dy, { shape: inputs.y }) });
    const tolerance = { ...elementwiseTolerance, scale: 1 };
    expectClose(gradient(a), expected.da.data, { tolerance, label: 'da' });
    expectClose(gradient(b), expected.db!.data, { tolerance, label: 'db' });
  });

  it('takes numbers on either side', () => {
    const x = tensor([1, 2]);
    expect([...data(sub(1, x))]).toEqual([0, -1]);
    expect([...data(div(x, 2))]).toEqual([0.5, 1]);
    expect([...data(ge(2, x))]).toEqual([1, 1]);
    expect([...data(le(x, 1))]).toEqual([1, 0]);
    expect([...data(where(gt(x, 1), x, 0))]).toEqual([0, 2]);
  });

  it('compares integers and bytes exactly, and mixed dtypes in the wider one', () => {
    const x = tensor([16777216, 16777217, -3], { dtype: 'i32' });
    expect([...data(eq(x, 16777217))]).toEqual([0, 1, 0]);
    expect([...data(lt(x, tensor(new Uint8Array([1, 2, 3]))))]).toEqual([0, 0, 1]);
    expect([...data(gt(tensor(new Uint8Array([0, 1, 200])), 0.5))]).toEqual([0, 1, 1]);
  });

  it('has PyTorch’s special cases of pow', () => {
    const x = tensor([1, -1, -2, -8, 0, Number.NaN]);
    expect([...data(pow(x, Number.NaN))]).toEqual([1, Number.NaN, Number.NaN, Number.NaN, Number.NaN, Number.NaN]);
    expect([...data(pow(x, Number.POSITIVE_INFINITY))].slice(0, 3)).toEqual([1, 1, Number.POSITIVE_INFINITY]);
    expect([...data(pow(x, 0))]).toEqual([1, 1, 1, 1, 1, 1]);
    expect(data(pow(x, 1 / 3))[3]).toBeNaN();
  });

  it('follows the layout of the first operand that has the shape of the result', () => {
    const x = relayout(tensor(values('x', [2, 3, 4, 5]), { shape: [2, 3, 4, 5] }), [60, 1, 15, 3]);
    const y = add(tensor(values('b', [3, 1, 1]), { shape: [3, 1, 1] }), x);
    expect(y.strides).toEqual(x.strides);
    const plain = add(tensor(values('b', [3, 1, 1]), { shape: [3, 1, 1] }), tensor(data(x), { shape: x.shape }));
    expectEqual(data(y), data(plain), 'layouts');
  });

  it('broadcasts large operands over many tiles', () => {
    const rows = 301;
    const columns = 257;
    const y = mul(unsqueeze(arange(rows), 1), arange(columns));
    const numbers = data(y);
    for (const [r, c] of [
      [0, 0],
      [300, 256],
      [127, 3],
      [64, 255],
    ] as const)
      expect(numbers[r * columns + c]).toBe(r * c);
  });
});

describe('errors', () => {
  it.each([
    ['add: shapes [2] and [3] do not broadcast', () => add(zeros([2]), zeros([3]))],
    [
      "mul: expected f32 tensors, got i32 and f32; convert with to('f32')",
      () => mul(zeros([2], { dtype: 'i32' }), 0.5),
    ],
    ["exp: expected an f32 tensor, got u8; convert with to('f32')", () => exp(to(zeros([2]), 'u8'))],
    ['add: expected a tensor or a number, got string', () => add(zeros([1]), '2' as unknown as number)],
    ['clamp: expected a min, a max or both', () => clamp(zeros([1]), {})],
    ['clamp: bounds must not be NaN, got NaN and Infinity', () => clamp(zeros([1]), { min: Number.NaN })],
    ["clamp: unknown option 'low', known are min, max", () => clamp(zeros([1]), { low: 1 } as object)],
    ['where: the condition must be u8, got f32', () => where(zeros([1]), 1, 2)],
    [
      'where: expected two f32 or two i32 tensors, got i32 and f32',
      () => where(to(zeros([1]), 'u8'), zeros([1], { dtype: 'i32' }), 0.5),
    ],
  ])('%s', (message, call) => {
    expect(call).toThrow(message);
  });
});
