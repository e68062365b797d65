// Functions of one and of two tensors: PyTorch's numbers, exact integers in every layout, errors over the whole range.
import { describe, expect, test } from 'vitest';
import { backward } from '../../ts/autograd/backward.ts';
import { relu, sigmoid, tanh } from '../../ts/ops/activation.ts';
import { eq, ge, gt, le, lt, ne, where } from '../../ts/ops/compare.ts';
import { relayout } from '../../ts/ops/copy.ts';
import { add, div, maximum, minimum, mul, neg, sub } from '../../ts/ops/elementwise.ts';
import { pow } from '../../ts/ops/pow.ts';
import { permute } from '../../ts/ops/shape.ts';
import { expand } from '../../ts/ops/sum.ts';
import { abs, clamp, exp, log, reciprocal, sqrt, square } from '../../ts/ops/unary.ts';
import { ones, tensor } from '../../ts/tensor/create.ts';
import { data } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import {
  type BinaryCase,
  type BinaryInputs,
  binaryCases,
  binaryInputs,
  elementwiseTolerance,
  specialOps,
  type UnaryCase,
  unaryCases,
  unaryInputs,
} from '../cases/elementwise.ts';
import { golden, goldenTensor } from '../golden/load.ts';
import { expectClose, expectEqual, expectUlps, type Tolerance } from '../reference/compare.ts';
import * as oracle from '../reference/elementwise.ts';
import { smallIntegers, values } from '../reference/values.ts';
import { type Input, type Layout, layouts, type Problem, solve, withEngine } from './harness.ts';

withEngine();

const unary: Record<keyof typeof oracle.unary, (x: Tensor) => Tensor> = {
  neg,
  abs,
  sqrt,
  exp,
  log,
  relu,
  sigmoid,
  tanh,
};

/** Greatest error of each function, in float32 numbers; the others are exact or correctly rounded. */
const ulps: Partial<Record<UnaryCase['op'], number>> = { exp: 1, log: 1, sigmoid: 3, tanh: 3, pow: 1 };

function applyUnary({ op, exponent = 1, options = {} }: UnaryCase): (x: Tensor) => Tensor {
  if (op === 'clamp') return (x) => clamp(x, options);
  return op === 'pow' ? (x) => pow(x, exponent) : unary[op];
}

describe('one tensor: PyTorch', () => {
  test.each(unaryCases)('$name', (task) => {
    const { x, dy } = unaryInputs(task);
    const f = applyUnary(task);
    const expected = golden('elementwise', task.name);
    const shape = [67];
    for (const layout of ['rowMajor', 'inside'] as const) {
      const { y, gradients } = solve({
        inputs: { x: { data: x, shape, layout } },
        run: ({ x }) => f(x),
        dy: { data: dy, shape },
      });
      expectUlps(y, expected.y.data, { ulps: ulps[task.op] ?? 0, label: 'y' });
      expectClose(gradients.x!, expected.dx!.data, { tolerance: elementwiseTolerance, label: 'dx' });
    }
  });

  test.each(specialOps)('%s of specials', (op) => {
    const { data, shape } = goldenTensor('elementwise/specials');
    const expected = golden('elementwise', `${op} of specials`);
    const dy = values(`elementwise/${op} of specials/dy`, shape);
    const { y, gradients } = solve({
      inputs: { x: { data, shape } },
      run: ({ x }) => unary[op](x),
      dy: { data: dy, shape },
    });
    expectUlps(y, expected.y.data, { ulps: ulps[op] ?? 0, label: 'y' });
    expectUlps(gradients.x!, expected.dx!.data, { ulps: 8, label: 'dx' });
  });
});

/** Every `step`th float32 number from `low` to `high`, both positive or both negative, in order of their bits. */
function sweep(low: number, high: number, step: number): Float32Array {
  const bits = new Int32Array(Float32Array.of(low, high).buffer);
  const [first, last] = [Math.min(bits[0]!, bits[1]!), Math.max(bits[0]!, bits[1]!)];
  const patterns = Int32Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, i) => first + i * step);
  return new Float32Array(patterns.buffer);
}

describe('errors over the whole range, in float32 numbers', () => {
  const ranges: [op: 'exp' | 'log' | 'sigmoid' | 'tanh', low: number, high: number][] = [
    ['exp', 2 ** -40, 89],
    ['exp', -(2 ** -40), -104],
    ['log', 2 ** -149, 3e38],
    ['sigmoid', 2 ** -40, 100],
    ['sigmoid', -(2 ** -40), -104],
    ['tanh', 2 ** -149, 20],
    ['tanh', -(2 ** -149), -20],
  ];
  test.each(ranges)('%s from %f to %f', (op, low, high) => {
    const x = sweep(low, high, 10007);
    const { y } = solve({ inputs: { x: { data: x, shape: [x.length] } }, run: ({ x }) => unary[op](x) });
    expectUlps(y, Float64Array.from(x, oracle.unary[op].f), { ulps: ulps[op]!, label: op });
  });
});

/** Sizes around the vector and tile widths. */
const sizes = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 4095, 4097, 16383, 16385, 32769];

describe('every size', () => {
  test.each(sizes)('%i elements', (count) => {
    const shape = [count];
    const [a, b, dy] = ['a', 'b', 'dy'].map((name) => smallIntegers(`size ${count}/${name}`, shape));
    const { y, gradients } = solve({
      inputs: { a: { data: a!, shape }, b: { data: b!, shape } },
      run: ({ a, b }) => add(mul(a, b), relu(a)),
      dy: { data: dy!, shape },
    });
    expectEqual(
      y,
      a!.map((number, i) => number * b![i]! + Math.max(number, 0)),
      'y',
    );
    expectEqual(
      gradients.a!,
      a!.map((number, i) => dy![i]! * (b![i]! + (number > 0 ? 1 : 0))),
      'da',
    );
    expectEqual(
      gradients.b!,
      a!.map((number, i) => dy![i]! * number),
      'db',
    );
  });
});

const binary: Record<Exclude<BinaryCase['op'], 'where'>, (a: Tensor, b: Tensor) => Tensor> = {
  add,
  sub,
  mul,
  div,
  pow,
  minimum,
  maximum,
  eq,
  ne,
  gt,
  lt,
};

function binaryProblem(
  { op }: Pick<BinaryCase, 'op'>,
  { a, b, condition, y, dy, shapes }: BinaryInputs,
  layout: Partial<Record<'a' | 'b', Layout>> = {},
): Problem {
  const inputs: Record<string, Input> = {
    a: { data: a, shape: shapes.a, layout: layout.a },
    b: { data: b, shape: shapes.b, layout: layout.b },
  };
  if (op === 'where') {
    inputs.condition = { data: Uint8Array.from(condition), shape: y };
    return { inputs, run: ({ a, b, condition }) => where(condition!, a!, b!), dy: { data: dy, shape: y } };
  }
  const differentiable = oracle.binary[op].da !== undefined;
  return { inputs, run: ({ a, b }) => binary[op](a!, b!), dy: differentiable ? { data: dy, shape: y } : undefined };
}

/** A gradient summed over repetitions: terms of size 1 may cancel. */
const sharedTolerance: Tolerance = { ...elementwiseTolerance, scale: 1 };

describe('two tensors: PyTorch', () => {
  test.each(binaryCases)('$name', (task) => {
    const inputs = binaryInputs(task);
    const expected = golden('elementwise', task.name);
    const { y, shape, gradients } = solve(binaryProblem(task, inputs));
    expect(shape).toEqual(expected.y.shape);
    expectUlps(y, expected.y.data, { ulps: task.op === 'pow' ? ulps.pow! : 0, label: 'y' });
    if (expected.da) expectClose(gradients.a!, expected.da.data, { tolerance: sharedTolerance, label: 'da' });
    if (expected.db) expectClose(gradients.b!, expected.db.data, { tolerance: sharedTolerance, label: 'db' });
  });
});

describe('two tensors: exact on integers, in every layout', () => {
  const exactOps = ['add', 'sub', 'mul', 'minimum', 'maximum', 'where'] as const;
  const shapes = binaryCases.filter(({ op }) => op === 'add').map((task) => task.shapes);
  test.each(
    exactOps.flatMap((op) => shapes.map((shapes) => ({ op, shapes, name: `${op} ${JSON.stringify(shapes)}` }))),
  )('$name', ({ op, shapes, name }) => {
    const given = binaryInputs({ name, op, shapes, fills: { a: {}, b: {} } });
    const [a, b] = [smallIntegers(`${name}/a`, shapes.a), smallIntegers(`${name}/b`, shapes.b)];
    const inputs = { ...given, a, b, dy: smallIntegers(`${name}/dy`, given.y) };
    const operands = { a, b, shapes };
    const y =
      op === 'where' ? oracle.where(given.condition, operands) : oracle.applyBinary(oracle.binary[op], operands);
    const { da, db } =
      op === 'where'
        ? oracle.whereGrad(inputs.dy, given.condition, operands)
        : oracle.binaryGrad(oracle.binary[op] as Required<oracle.Binary>, inputs.dy, operands);
    for (const first of layouts)
      for (const second of layouts) {
        const answer = solve(binaryProblem({ op }, inputs, { a: first, b: second }));
        expectEqual(answer.y, y, `y ${first} ${second}`);
        expectEqual(answer.gradients.a!, da, `da ${first} ${second}`);
        expectEqual(answer.gradients.b!, db, `db ${first} ${second}`);
      }
  });
});

describe('functions of others', () => {
  const x = values('square/x', [67], { fill: 'positive' });
  const dy = values('square/dy', [67]);
  test.each([
    ['square', square, oracle.power(2)],
    ['reciprocal', reciprocal, oracle.power(-1)],
  ] as const)('%s is a power', (_, op, { f, dx }) => {
    const { y, gradients } = solve({
      inputs: { x: { data: x, shape: [67] } },
      run: ({ x }) => op(x),
      dy: { data: dy, shape: [67] },
    });
    expectUlps(y, Float64Array.from(x, f), { ulps: 0, label: 'y' });
    const expected = Float64Array.from(x, (number, i) => dx(number, dy[i]!));
    expectClose(gradients.x!, expected, { tolerance: elementwiseTolerance, label: 'dx' });
  });

  test.each([
    ['ge', ge, (a: number, b: number) => a >= b],
    ['le', le, (a: number, b: number) => a <= b],
  ] as const)('%s with ties and NaN', (_, op, f) => {
    const [a, b] = [values('ge/a', [67], { fill: 'nan' }), values('ge/b', [67], { fill: 'nan' })];
    const inputs = { a: { data: a, shape: [67] }, b: { data: b, shape: [67] } };
    const { y } = solve({ inputs, run: ({ a, b }) => op(a, b) });
    expectEqual(
      y,
      Float64Array.from(a, (number, i) => Number(f(number, b[i]!))),
      'y',
    );
  });

  const second: [string, (x: Tensor) => Tensor, (x: number) => number][] = [
    [
      'sigmoid',
      (x) => mul(sigmoid(x), sub(1, sigmoid(x))),
      (v) => ((s) => s * (1 - s) * (1 - 2 * s))(1 / (1 + Math.exp(-v))),
    ],
    ['tanh', (x) => sub(1, square(tanh(x))), (v) => -2 * Math.tanh(v) * (1 - Math.tanh(v) ** 2)],
    ['reciprocal', (x) => neg(reciprocal(square(x))), (v) => 2 / v ** 3],
    ['sqrt', (x) => div(0.5, sqrt(x)), (v) => -0.25 * v ** -1.5],
  ];
  test.each(second)('chains: the derivative of the derivative of %s', (_, first, expected) => {
    const { gradients } = solve({
      inputs: { x: { data: x, shape: [67] } },
      run: ({ x }) => first(x),
      dy: { data: new Float32Array(67).fill(1), shape: [67] },
    });
    expectClose(gradients.x!, Float64Array.from(x, expected), { tolerance: elementwiseTolerance, label: 'dx' });
  });
});

describe('second derivatives through createGraph', () => {
  const functions: [string, (x: Tensor) => Tensor, (x: number) => number][] = [
    ['sigmoid', sigmoid, (v) => ((s) => s * (1 - s) * (1 - 2 * s))(1 / (1 + Math.exp(-v)))],
    ['tanh', tanh, (v) => -2 * Math.tanh(v) * (1 - Math.tanh(v) ** 2)],
    ['exp', exp, Math.exp],
    ['log', log, (v) => -1 / v ** 2],
    ['square', square, () => 2],
    ['reciprocal', reciprocal, (v) => 2 / v ** 3],
    ['sqrt', sqrt, (v) => -0.25 * v ** -1.5],
    ['pow', (x) => pow(x, 3), (v) => 6 * v],
    ['mul', (x) => mul(x, mul(x, x)), (v) => 6 * v],
    ['div', (x) => div(1, x), (v) => 2 / v ** 3],
  ];
  test.each(functions)('%s', (_, f, expected) => {
    const x = tensor([0.5, 1.25, 2], { requiresGrad: true });
    const first = derivative(f(x), x);
    const second = derivative(first, x);
    expectClose(data(second), [0.5, 1.25, 2].map(expected), { tolerance: elementwiseTolerance, label: 'second' });
  });

  /** dy/dx as a tensor that can be differentiated again: what reaches x, taken by a hook. */
  function derivative(y: Tensor, x: Tensor): Tensor {
    let reached: Tensor | undefined;
    const hook = (gradient: Tensor): undefined => {
      reached = reached ? add(reached, gradient) : gradient;
    };
    x.hooks = [hook];
    backward(y, { gradient: ones(y.shape), createGraph: true });
    x.hooks = null;
    return reached!;
  }
});

describe('operands', () => {
  test('numbers stand on either side', () => {
    const x = tensor([1, 2]);
    expect([...data(sub(1, x))]).toEqual([0, -1]);
    expect([...data(div(x, 2))]).toEqual([0.5, 1]);
    expect([...data(ge(2, x))]).toEqual([1, 1]);
    expect([...data(le(x, 1))]).toEqual([1, 0]);
    expect([...data(where(gt(x, 1), x, 0))]).toEqual([0, 2]);
  });

  test('integers and bytes are compared exactly, mixed dtypes in the wider one', () => {
    const x = tensor([16777216, 16777217, -3], { dtype: 'i32' });
    expect([...data(eq(x, 16777217))]).toEqual([0, 1, 0]);
    expect([...data(lt(x, tensor(new Uint8Array([1, 2, 3]))))]).toEqual([0, 0, 1]);
    expect([...data(gt(tensor(new Uint8Array([0, 1, 200])), 0.5))]).toEqual([0, 1, 1]);
  });

  test("pow has PyTorch's special cases", () => {
    const x = tensor([1, -1, -2, -8, 0, Number.NaN]);
    expect([...data(pow(x, Number.NaN))]).toEqual([1, Number.NaN, Number.NaN, Number.NaN, Number.NaN, Number.NaN]);
    expect([...data(pow(x, Number.POSITIVE_INFINITY))].slice(0, 3)).toEqual([1, 1, Number.POSITIVE_INFINITY]);
    expect([...data(pow(x, 0))]).toEqual([1, 1, 1, 1, 1, 1]);
    expect(data(pow(x, 1 / 3))[3]).toBeNaN();
  });

  test('a dense layout is kept, any other packed', () => {
    const x = permute(tensor(values('x', [2, 3, 4]), { shape: [2, 3, 4] }), [2, 0, 1]);
    expect(neg(x).strides).toEqual(x.strides);
    expect(data(sqrt(expand(tensor([[1], [4]]), [2, 3])))).toEqual(new Float32Array([1, 1, 1, 2, 2, 2]));
  });

  test('the first operand that has the shape of the result gives it its layout', () => {
    const x = relayout(tensor(values('x', [2, 3, 4, 5]), { shape: [2, 3, 4, 5] }), [60, 1, 15, 3]);
    expect(add(tensor(values('b', [3, 1, 1]), { shape: [3, 1, 1] }), x).strides).toEqual(x.strides);
  });

  test('large operands broadcast over many tiles', () => {
    const [rows, columns] = [301, 257];
    const { y } = solve({
      inputs: {
        a: { data: Float32Array.from({ length: rows }, (_, i) => i), shape: [rows, 1] },
        b: { data: Float32Array.from({ length: columns }, (_, i) => i), shape: [columns] },
      },
      run: ({ a, b }) => mul(a, b),
    });
    expectEqual(
      y,
      Float32Array.from({ length: rows * columns }, (_, i) => Math.floor(i / columns) * (i % columns)),
      'y',
    );
  });

  test('an element has the same bits wherever it stands', () => {
    const x = values('bits', [53], { scale: 30 });
    const one = (value: number): number => data(sigmoid(tensor([value])))[0]!;
    expectEqual(data(sigmoid(tensor(x))), x.map(one), 'sigmoid');
  });
});
