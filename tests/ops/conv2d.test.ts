// Convolution: every case of the list exactly on integers, in every layout, and against PyTorch on typical numbers.
import { describe, expect, test } from 'vitest';
import { conv2d } from '../../ts/ops/conv2d.ts';
import { type Conv2dCase, type Conv2dInputs, conv2dCases, conv2dInputs, conv2dTolerance } from '../cases/conv2d.ts';
import { golden } from '../golden/load.ts';
import { dot, expectClose, expectEqual } from '../reference/compare.ts';
import * as oracle from '../reference/conv2d.ts';
import { smallIntegers } from '../reference/values.ts';
import { type Input, type Layout, layouts, type Problem, solve, withEngine } from './harness.ts';

withEngine();

/** Layouts of x, weight and upstream gradient. */
type Layouts = Partial<Record<'x' | 'weight' | 'dy', Layout>>;

function problem(task: Conv2dCase, { geometry, x, weight, bias, dy }: Conv2dInputs, layout: Layouts = {}): Problem {
  const inputs: Record<string, Input> = {
    x: { data: x, shape: task.x, layout: layout.x },
    weight: { data: weight, shape: task.weight, layout: layout.weight },
  };
  if (bias) inputs.bias = { data: bias, shape: [bias.length] };
  return {
    inputs,
    run: (given) => conv2d(given.x!, given.weight!, given.bias, task.options),
    dy: { data: dy, shape: geometry.y, layout: layout.dy },
  };
}

/** Layouts that each operand meets at least once. */
const combinations: readonly Layouts[] = layouts.map((x, i) => ({
  x,
  weight: layouts[(i + 1) % layouts.length]!,
  dy: layouts[(i + 2) % layouts.length]!,
}));

describe('exact on integers', () => {
  test.each(conv2dCases)('$name', (task) => {
    const inputs = conv2dInputs(task, smallIntegers);
    const { geometry, x, weight, bias, dy } = inputs;
    const y = oracle.conv2d(x, weight, bias, geometry);
    const dx = oracle.conv2dInputGrad(dy, weight, geometry);
    const dw = oracle.conv2dWeightGrad(x, dy, geometry);
    const db = oracle.conv2dBiasGrad(dy, geometry);
    for (const layout of combinations) {
      const label = JSON.stringify(layout);
      const answer = solve(problem(task, inputs, layout));
      expect(answer.shape).toEqual(geometry.y);
      expectEqual(answer.y, y, `y ${label}`);
      expectEqual(answer.gradients.x!, dx, `dx ${label}`);
      expectEqual(answer.gradients.weight!, dw, `dw ${label}`);
      if (bias) expectEqual(answer.gradients.bias!, db, `db ${label}`);
    }
  });
});

describe('adjoint identity, exact on integers', () => {
  test.each(conv2dCases)('$name', (task) => {
    const inputs = { ...conv2dInputs(task, smallIntegers), bias: null };
    const { y, gradients } = solve(problem(task, inputs));
    const product = dot(y, inputs.dy);
    expect(dot(inputs.x, gradients.x!)).toBe(product);
    expect(dot(inputs.weight, gradients.weight!)).toBe(product);
  });
});

describe('PyTorch', () => {
  test.each(conv2dCases)('$name', (task) => {
    const inputs = conv2dInputs(task);
    const expected = golden('conv2d', task.name);
    const tolerance = conv2dTolerance(inputs.geometry);
    const { y, shape, gradients } = solve(problem(task, inputs, { x: 'channelsLast', weight: 'channelsLast' }));
    expect(shape).toEqual(expected.y.shape);
    expectClose(y, expected.y.data, { tolerance: tolerance.y, label: 'y' });
    expectClose(gradients.x!, expected.dx!.data, { tolerance: tolerance.dx, label: 'dx' });
    expectClose(gradients.weight!, expected.dw!.data, { tolerance: tolerance.dw, label: 'dw' });
    if (inputs.bias) expectClose(gradients.bias!, expected.db!.data, { tolerance: tolerance.db, label: 'db' });
  });
});
