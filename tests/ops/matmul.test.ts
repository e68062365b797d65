// Matrix products: sizes around every block constant in all forms, matmul with its broadcasting, linear.
import { describe, expect, test } from 'vitest';
import { add } from '../../ts/ops/elementwise.ts';
import { linear, matmul } from '../../ts/ops/matmul.ts';
import { transpose } from '../../ts/ops/shape.ts';
import {
  type GemmCase,
  gemmCases,
  gemmInputs,
  gemmTolerance,
  type MatmulCase,
  type MatmulInputs,
  matmulCases,
  matmulInputs,
} from '../cases/gemm.ts';
import { golden } from '../golden/load.ts';
import { dot, expectClose, expectEqual } from '../reference/compare.ts';
import * as oracle from '../reference/gemm.ts';
import { smallIntegers, upstream } from '../reference/values.ts';
import { type Layout, layouts, type Problem, solve, withEngine } from './harness.ts';

withEngine();

/** The product that a form means, and how a, b and bias of its storage order enter it. */
const forms: Record<oracle.GemmForm, Problem<'a' | 'b' | 'bias'>['run']> = {
  NN: ({ a, b, bias }) => add(matmul(a, b), bias),
  NT: ({ a, b, bias }) => linear(a, b, bias),
  TN: ({ a, b, bias }) => add(matmul(transpose(a, 0, 1), b), bias),
};

function gemmProblem(task: GemmCase, { a, b, bias }: ReturnType<typeof gemmInputs>): Problem<'a' | 'b' | 'bias'> {
  const { form, M, N, K } = task;
  return {
    inputs: {
      a: { data: a, shape: form === 'TN' ? [K, M] : [M, K] },
      b: { data: b, shape: form === 'NT' ? [N, K] : [K, N] },
      bias: { data: bias, shape: [N] },
    },
    run: forms[form],
    dy: { data: upstream(`gemm/${task.name}`, [M, N], smallIntegers), shape: [M, N] },
  };
}

describe('every size in every form', () => {
  test.each(gemmCases)('$name', (task) => {
    const inputs = gemmInputs(task, smallIntegers);
    const problem = gemmProblem(task, inputs);
    const { y, gradients } = solve(problem);
    expectEqual(y, oracle.gemm(inputs.a, inputs.b, { ...task, bias: inputs.bias }), 'y');
    const product = dot(y, problem.dy!.data) - dot(inputs.bias, gradients.bias!);
    expect(dot(inputs.a, gradients.a!)).toBe(product);
    expect(dot(inputs.b, gradients.b!)).toBe(product);
  });

  test.each(gemmCases)('$name, typical numbers', (task) => {
    const inputs = gemmInputs(task);
    const { y } = solve({ ...gemmProblem(task, inputs), dy: undefined });
    const expected = oracle.gemm(inputs.a, inputs.b, { ...task, bias: inputs.bias });
    expectClose(y, expected, { tolerance: gemmTolerance(task.K), label: 'y' });
  });
});

function matmulProblem(
  task: MatmulCase,
  { geometry, a, b, dy }: MatmulInputs,
  [first, second]: readonly [Layout, Layout],
): Problem<'a' | 'b'> {
  return {
    inputs: { a: { data: a, shape: task.a, layout: first }, b: { data: b, shape: task.b, layout: second } },
    run: ({ a, b }) => matmul(a, b),
    dy: { data: dy, shape: geometry.y, layout: second },
  };
}

describe('matmul', () => {
  test.each(matmulCases)('$name: exact on integers, in every layout', (task) => {
    const inputs = matmulInputs(task, smallIntegers);
    const { a, b, dy, geometry } = inputs;
    const expected = oracle.matmulGrad(dy, a, b, geometry);
    for (const first of layouts)
      for (const second of layouts) {
        const answer = solve(matmulProblem(task, inputs, [first, second]));
        expectEqual(answer.y, oracle.matmul(a, b, geometry), `y ${first} ${second}`);
        expectEqual(answer.gradients.a!, expected.da, `da ${first} ${second}`);
        expectEqual(answer.gradients.b!, expected.db, `db ${first} ${second}`);
        expect(dot(a, answer.gradients.a!)).toBe(dot(answer.y, dy));
      }
  });

  test.each(matmulCases)('$name: PyTorch', (task) => {
    const inputs = matmulInputs(task);
    const { y, shape, gradients } = solve(matmulProblem(task, inputs, ['rowMajor', 'rowMajor']));
    const expected = golden('matmul', task.name);
    const tolerance = gemmTolerance(inputs.geometry.K);
    expect(shape).toEqual(expected.y.shape);
    expectClose(y, expected.y.data, { tolerance, label: 'y' });
    const longest = gemmTolerance(y.length);
    expectClose(gradients.a!, expected.da!.data, { tolerance: longest, label: 'da' });
    expectClose(gradients.b!, expected.db!.data, { tolerance: longest, label: 'db' });
  });
});

test('a right operand of more than 4 MB, deeper than a k block, for few rows: exact on integers', () => {
  const [M, K, N] = [20, 1030, 1001];
  const [a, b] = [smallIntegers('far/a', [M, K]), smallIntegers('far/b', [K, N])];
  const { y: c } = solve({
    inputs: { a: { data: a, shape: [M, K] }, b: { data: b, shape: [K, N] } },
    run: ({ a, b }) => matmul(a, b),
    dy: { data: smallIntegers('far/dy', [M, N]), shape: [M, N] },
  });
  for (let i = 0; i < c.length; i += 31) {
    const [row, column] = [Math.floor(i / N), i % N];
    let sum = 0;
    for (let k = 0; k < K; k++) sum += a[row * K + k]! * b[k * N + column]!;
    expect(c[i]).toBe(sum);
  }
});

test('linear keeps leading dimensions', () => {
  const data = smallIntegers('linear/x', [2, 3, 4]);
  const weight = smallIntegers('linear/weight', [5, 4]);
  const { y, shape } = solve({
    inputs: { x: { data, shape: [2, 3, 4] }, weight: { data: weight, shape: [5, 4] } },
    run: ({ x, weight }) => linear(x, weight),
    dy: { data: smallIntegers('linear/dy', [2, 3, 5]), shape: [2, 3, 5] },
  });
  expect(shape).toEqual([2, 3, 5]);
  expectEqual(y, oracle.gemm(data, weight, { M: 6, N: 5, K: 4, form: 'NT' }), 'y');
});
