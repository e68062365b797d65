// Pooling: every case of the list exactly on integers, in every layout, and against PyTorch on typical numbers.
import { describe, expect, test } from 'vitest';
import { avgPool2d, maxPool2d } from '../../ts/ops/pool.ts';
import { type PoolCase, type PoolInputs, poolCases, poolInputs, poolTolerance } from '../cases/pool.ts';
import { golden } from '../golden/load.ts';
import { dot, expectClose, expectEqual } from '../reference/compare.ts';
import * as oracle from '../reference/pool.ts';
import { smallIntegers } from '../reference/values.ts';
import { type Layout, layouts, type Problem, solve, withEngine } from './harness.ts';

withEngine();

function problem(
  { op, x: shape, kernel, options }: PoolCase,
  { geometry, x, dy }: PoolInputs,
  layout: Partial<Record<'x' | 'dy', Layout>> = {},
): Problem<'x'> {
  const pool = op === 'max' ? maxPool2d : avgPool2d;
  return {
    inputs: { x: { data: x, shape, layout: layout.x } },
    run: ({ x }) => pool(x, kernel, options),
    dy: { data: dy, shape: geometry.y, layout: layout.dy },
  };
}

/** Whether every quotient is exact: then so is the whole average of integers. */
function dividesExactly({ geometry }: PoolInputs): boolean {
  const ones = new Float32Array(geometry.x[0] * geometry.x[1] * geometry.x[2] * geometry.x[3]).fill(1);
  const inside = oracle.avgPool2d(ones, { ...geometry, options: { divisorOverride: 1 } });
  const shares = oracle.avgPool2d(ones, geometry);
  return shares.every((share, i) => Number.isInteger(Math.log2(share / inside[i]!)));
}

/** Cases whose answers to integers are whole or exact fractions; the others are compared with PyTorch alone. */
const exactCases = poolCases.filter((task) => task.op === 'max' || dividesExactly(poolInputs(task, smallIntegers)));
const exactAverages = exactCases.filter(({ op }) => op === 'avg');

describe('exact on integers', () => {
  test.each(exactCases)('$name', (task) => {
    const inputs = poolInputs(task, smallIntegers);
    const { geometry, x, dy } = inputs;
    const max = task.op === 'max';
    const y = max ? oracle.maxPool2d(x, geometry) : oracle.avgPool2d(x, geometry);
    const dx = max ? oracle.maxPool2dGrad(dy, x, geometry) : oracle.avgPool2dGrad(dy, geometry);
    layouts.forEach((layout, i) => {
      const answer = solve(problem(task, inputs, { x: layout, dy: layouts[(i + 1) % layouts.length]! }));
      expect(answer.shape).toEqual(geometry.y);
      expectEqual(answer.y, y, `y ${layout}`);
      expectEqual(answer.gradients.x!, dx, `dx ${layout}`);
    });
  });
});

describe('adjoint identity of averages, exact where the divisors are powers of two', () => {
  test('there are enough such cases', () => expect(exactAverages.length).toBeGreaterThanOrEqual(10));
  test.each(exactAverages)('$name', (task) => {
    const inputs = poolInputs(task, smallIntegers);
    const { y, gradients } = solve(problem(task, inputs));
    expect(dot(inputs.x, gradients.x!)).toBe(dot(y, inputs.dy));
  });
});

describe('PyTorch', () => {
  test.each(poolCases)('$name', (task) => {
    const inputs = poolInputs(task);
    const expected = golden('pool', task.name);
    const tolerance = poolTolerance(task, inputs.geometry);
    for (const layout of ['channelsLast', 'transposed'] as const) {
      const { y, shape, gradients } = solve(problem(task, inputs, { x: layout }));
      expect(shape).toEqual(expected.y.shape);
      expectClose(y, expected.y.data, { tolerance: tolerance.y, label: `y ${layout}` });
      expectClose(gradients.x!, expected.dx!.data, { tolerance: tolerance.dx, label: `dx ${layout}` });
    }
  });
});
