// Reductions: golden numbers from PyTorch, exact sums over every layout, long reductions in parts, errors.
import { describe, expect, test } from 'vitest';
import { backward } from '../../ts/autograd/backward.ts';
import { gradientOf } from '../../ts/autograd/gradient.ts';
import { slice } from '../../ts/ops/narrow.ts';
import { argmax, argmin, max, mean, min, variance } from '../../ts/ops/reduce.ts';
import { permute, reshape } from '../../ts/ops/shape.ts';
import { sum } from '../../ts/ops/sum.ts';
import { tensor, zeros } from '../../ts/tensor/create.ts';
import { data, item } from '../../ts/tensor/read.ts';
import { contiguousStrides } from '../../ts/tensor/shape.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import { type ReduceCase, reduceCases, reduceInputs, reduceTolerance } from '../cases/reduce.ts';
import { golden } from '../golden/load.ts';
import { expectClose, expectEqual } from '../reference/compare.ts';
import { reduce, reduceGeometry, reductions } from '../reference/reduce.ts';
import { integers, type Shape, sizeOf } from '../reference/values.ts';
import { layouts as everyLayout, solve, withEngine } from './harness.ts';

withEngine();

function run({ op, options }: ReduceCase, x: Tensor): Tensor {
  const { unbiased, ...rest } = options;
  if (op === 'var') return variance(x, options);
  if (op === 'argmax') return argmax(x, rest as { dim?: number });
  return { sum, mean, max, min }[op](x, rest);
}

describe('golden, in every layout', () => {
  for (const task of reduceCases) {
    test(task.name, () => {
      const { x: values, y: shape, dy } = reduceInputs(task);
      const expected = golden('reduce', task.name);
      for (const layout of everyLayout) {
        const answer = solve({
          inputs: { x: { data: values, shape: task.x, layout } },
          run: ({ x }) => run(task, x),
          dy: expected.dx && { data: dy, shape },
        });
        expect(answer.shape).toEqual(shape);
        expectClose(answer.y, expected.y.data, { tolerance: reduceTolerance, label: `y ${layout}` });
        if (expected.dx)
          expectClose(answer.gradients['x']!, expected.dx.data, { tolerance: reduceTolerance, label: `dx ${layout}` });
      }
    });
  }
});

/** Tensors of small integers in several layouts: row-major, permuted, sliced, all with the same logical elements. */
function layouts(name: string, shape: Shape): [string, Tensor, Float32Array][] {
  const values = integers(name, sizeOf(shape), -8, 8);
  const rowMajor = tensor(values, { shape });
  const order = shape.map((_, i) => i);
  const moved = [...order.slice(1), 0];
  const back = order.map((axis) => moved.indexOf(axis));
  const transposed = new Float32Array(values.length);
  const strides = contiguousStrides(shape);
  const into = moved.map((axis) => shape[axis]!);
  const places = contiguousStrides(into);
  values.forEach((value, i) => {
    const at = order.map((axis) => Math.floor(i / strides[axis]!) % shape[axis]!);
    transposed[moved.reduce((sum, axis, k) => sum + at[axis]! * places[k]!, 0)] = value;
  });
  const wide = new Float32Array(2 * values.length);
  values.forEach((value, i) => {
    wide[2 * i] = value;
  });
  const sliced = slice(tensor(wide, { shape: [...shape, 2] }), [...order.map(() => undefined), [0, 1]]);
  return [
    ['row-major', rowMajor, values],
    ['permuted', permute(tensor(transposed, { shape: into }), back), values],
    ['sliced', reshapeView(sliced, shape), values],
  ];
}

function reshapeView(x: Tensor, shape: Shape): Tensor {
  return permute(
    reshape(x, shape),
    shape.map((_, i) => i),
  );
}

const SHAPES: [number[], (number | number[] | undefined)[]][] = [
  [[17], [undefined, 0]],
  [
    [5, 6],
    [undefined, 0, 1],
  ],
  [
    [3, 16, 7],
    [0, 1, 2, [0, 2], [1, 2]],
  ],
  [
    [2, 5, 3, 4],
    [undefined, 1, [0, 2, 3], [2, 3], [0, 1]],
  ],
  [
    [1, 1, 1],
    [undefined, 1],
  ],
];

describe('exact on integers, in every layout', () => {
  for (const [shape, dims] of SHAPES)
    for (const dim of dims)
      test(`${JSON.stringify(shape)} over ${JSON.stringify(dim)}`, () => {
        const options = dim === undefined ? {} : { dim };
        for (const [layout, x, values] of layouts(`exact/${shape}`, shape)) {
          const label = `${layout} `;
          expectEqual(data(sum(x, options)), reduce(reductions.sum, values, shape, options), `${label}sum`);
          expectEqual(data(max(x, options)), reduce(reductions.max, values, shape, options), `${label}max`);
          expectEqual(data(min(x, options)), reduce(reductions.min, values, shape, options), `${label}min`);
          if (Array.isArray(dim)) continue;
          const along = dim === undefined ? {} : { dim };
          expectEqual(data(argmax(x, along)), reduce(reductions.argmax, values, shape, along), `${label}argmax`);
          const whole = tensor(values, { shape, dtype: 'i32' });
          expectEqual(data(argmax(whole, along)), reduce(reductions.argmax, values, shape, along), 'i32 argmax');
          expectEqual(data(sum(whole, options)), reduce(reductions.sum, values, shape, options), 'i32 sum');
        }
      });
});

describe('long reductions are cut into parts', () => {
  const LONG: [number[], number | number[] | undefined][] = [
    [[300001], undefined],
    [[40001, 6], 0],
    [[5000, 64], 0],
    [[3, 70000], undefined],
    [
      [4, 3, 200, 100],
      [0, 2, 3],
    ],
  ];
  for (const [shape, dim] of LONG)
    test(`${JSON.stringify(shape)} over ${JSON.stringify(dim)}`, () => {
      const options = dim === undefined ? {} : { dim };
      const values = integers(`long/${shape}`, sizeOf(shape), -8, 8);
      const x = tensor(values, { shape });
      const groups = reduceGeometry(shape, options).groups;
      const sums = groups.map((group) => group.reduce((total, i) => total + values[i]!, 0));
      expectEqual(data(sum(x, options)), sums, 'sum');
      expectEqual(data(sum(tensor(values, { shape, dtype: 'i32' }), options)), sums, 'i32');
      expectEqual(
        data(max(x, options)),
        sums.map(() => 8),
        'max',
      );
      const squares = groups.map((group, k) => {
        const middle = sums[k]! / group.length;
        return group.reduce((total, i) => total + (values[i]! - middle) ** 2, 0) / (group.length - 1);
      });
      expectClose(data(variance(x, options)), squares, { tolerance: { c: 4 }, label: 'var' });
    });
});

test('sums of 4 million numbers keep their digits', () => {
  const values = Float32Array.from({ length: 1 << 22 }, (_, i) => 1 + (i % 7) / 8);
  const truth = values.reduce((total, value) => total + value, 0);
  expect(Math.abs(item(sum(tensor(values))) / truth - 1)).toBeLessThan(1e-7);
});

test('comparisons are counted exactly', () => {
  expect(sum(tensor(new Uint8Array(100003).fill(1))).dtype).toBe('i32');
  expect(item(sum(tensor(new Uint8Array(300003).fill(255))))).toBe(300003 * 255);
});

test('max with indices gives the whole gradient to the first maximum', () => {
  const x = tensor(
    [
      [1, 5, 5],
      [Number.NaN, 2, Number.NaN],
    ],
    { requiresGrad: true },
  );
  const [values, indices] = max(x, { dim: 1, returnIndices: true });
  expect([...data(values)]).toEqual([5, Number.NaN]);
  expect([...data(indices)]).toEqual([1, 0]);
  backward(values, { gradient: tensor([2, 3]) });
  expect([...data(gradientOf(x)!)]).toEqual([0, 2, 0, 3, 0, 0]);
  const [least, at] = min(x, { dim: 0, keepdim: true, returnIndices: true });
  expect(least.shape).toEqual([1, 3]);
  expect([...data(at)]).toEqual([1, 1, 1]);
  expect(item(argmin(tensor([3, 1, 1])))).toBe(1);
});

test('a tensor without dimensions, and one without elements', () => {
  expect(item(sum(tensor(3)))).toBe(3);
  expect(item(argmax(tensor(3), { dim: 0 }))).toBe(0);
  expect(item(sum(zeros([0, 3])))).toBe(0);
  expect([...data(sum(zeros([0, 3]), { dim: 0 }))]).toEqual([0, 0, 0]);
  expect(data(sum(zeros([0, 3]), { dim: 1 })).length).toBe(0);
  expect(item(mean(zeros([0])))).toBeNaN();
  expect(item(variance(tensor([1])))).toBeNaN();
});

describe('errors name the op and both values', () => {
  const x = (): Tensor => zeros([2, 3]);
  const CASES: [string, () => unknown, RegExp][] = [
    ['dim', () => sum(x(), { dim: 2 }), /sum: dim 2 is out of range for a tensor with 2 dimensions/],
    ['dim twice', () => mean(x(), { dim: [1, -1] }), /mean: dim \[1,-1\] names a dimension twice/],
    ['option', () => sum(x(), { axis: 1 } as never), /sum: unknown option 'axis', known are dim, keepdim/],
    ['dtype', () => mean(zeros([2], { dtype: 'i32' })), /mean: expected an f32 tensor, got i32/],
    ['empty', () => max(zeros([2, 0]), { dim: 1 }), /max: \[2,0\] has no elements along the reduced dimensions/],
    ['indices', () => max(x(), { returnIndices: true }), /max: returnIndices needs a single dim, got none/],
    ['positions', () => argmax(x(), { dim: [0] as never }), /argmax: dim must be one number, got \[0\]/],
    ['bytes', () => max(tensor(new Uint8Array(2))), /max: expected an f32 or i32 tensor, got u8/],
  ];
  for (const [name, call, message] of CASES) test(name, () => expect(call).toThrow(message));
});
