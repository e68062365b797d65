// Losses against PyTorch: every reduction, label smoothing, ignored labels, images, labels of each integer type.
import { describe, expect, test } from 'vitest';
import { crossEntropy, mseLoss } from '../../ts/ops/loss.ts';
import {
  type CrossEntropyInputs,
  type CrossEntropyTask,
  crossEntropyCases,
  crossEntropyInputs,
  lossTolerance,
  mseLossCases,
  mseLossInputs,
} from '../cases/loss.ts';
import { golden } from '../golden/load.ts';
import { expectClose, expectEqual } from '../reference/compare.ts';
import * as oracle from '../reference/loss.ts';
import { integers, smallIntegers, values } from '../reference/values.ts';
import { type Layout, layouts, type Problem, solve, withEngine } from './harness.ts';

withEngine();

function crossEntropyProblem(
  { x: shape, options }: Pick<CrossEntropyTask, 'x' | 'options'>,
  { x, target, targetShape, dy }: CrossEntropyInputs,
  layout: Layout = 'rowMajor',
): Problem<'x' | 'target'> {
  return {
    inputs: { x: { data: x, shape, layout }, target: { data: target, shape: targetShape } },
    run: ({ x, target }) => crossEntropy(x, target, options),
    dy: { data: dy, shape: options.reduction === 'none' ? targetShape : [] },
  };
}

describe('crossEntropy', () => {
  test.each(crossEntropyCases)('$name: PyTorch, in every layout', (task) => {
    const inputs = crossEntropyInputs(task);
    const expected = golden('crossEntropy', task.name);
    for (const layout of layouts) {
      const { y, shape, gradients } = solve(crossEntropyProblem(task, inputs, layout));
      expect(shape).toEqual(expected.y.shape);
      expectClose(y, expected.y.data, { tolerance: lossTolerance, label: `y ${layout}` });
      expectClose(gradients.x!, expected.dx!.data, { tolerance: lossTolerance, label: `dx ${layout}` });
    }
  });

  const sizes = [1, 3, 4, 5, 7, 8, 9, 16, 17, 33, 255, 257, 1025].flatMap((classes) => [
    [classes, 3],
    [classes, 130],
  ]);
  test.each(sizes)('%i classes, batch %i, against float64', (classes, batch) => {
    const name = `crossEntropy/${classes}/${batch}`;
    const x = [batch!, classes!];
    const inputs: CrossEntropyInputs = {
      x: values(`${name}/x`, x, { scale: 4 }),
      target: Int32Array.from(integers(`${name}/target`, batch!, 0, classes! - 1)),
      targetShape: [batch!],
      dy: Float32Array.of(1),
    };
    const { y, gradients } = solve(crossEntropyProblem({ x, options: {} }, inputs));
    const task = { x: inputs.x, shape: x, target: inputs.target };
    expectClose(y, oracle.crossEntropy(task), { tolerance: lossTolerance, label: 'y' });
    expectClose(gradients.x!, oracle.crossEntropyGrad(inputs.dy, task), { tolerance: lossTolerance, label: 'dx' });
  });

  test('the upstream gradient scales it', () => {
    const task = crossEntropyCases[0]!;
    const inputs = crossEntropyInputs(task);
    const once = solve(crossEntropyProblem(task, inputs)).gradients.x!;
    const twice = solve(crossEntropyProblem(task, { ...inputs, dy: Float32Array.of(2) })).gradients.x!;
    expectEqual(
      twice,
      Float32Array.from(once, (number) => 2 * number),
      'dx',
    );
  });
});

describe('mseLoss', () => {
  test.each(mseLossCases)('$name: PyTorch, in every layout', (task) => {
    const { x, target, dy } = mseLossInputs(task);
    const expected = golden('mseLoss', task.name);
    const shape = task.options.reduction === 'none' ? task.x : [];
    layouts.forEach((layout, i) => {
      const answer = solve({
        inputs: {
          x: { data: x, shape: task.x, layout },
          target: { data: target, shape: task.x, layout: layouts[(i + 1) % layouts.length] },
        },
        run: ({ x, target }) => mseLoss(x, target, task.options),
        dy: { data: dy, shape },
      });
      expect(answer.shape).toEqual(shape);
      expectClose(answer.y, expected.y.data, { tolerance: lossTolerance, label: `y ${layout}` });
      expectClose(answer.gradients.x!, expected.dx!.data, { tolerance: lossTolerance, label: `dx ${layout}` });
      expectClose(answer.gradients.target!, expected.dtarget!.data, { tolerance: lossTolerance, label: 'dtarget' });
    });
  });

  test.each([1, 3, 4, 5, 255, 256, 257, 16384, 16385, 100_003])('%i integers are exact in the sum', (count) => {
    const [x, target] = ['x', 'target'].map((name) => smallIntegers(`mse/${count}/${name}`, [count]));
    const { y, gradients } = solve({
      inputs: { x: { data: x!, shape: [count] }, target: { data: target!, shape: [count], constant: true } },
      run: ({ x, target }) => mseLoss(x, target, { reduction: 'sum' }),
      dy: { data: Float32Array.of(1), shape: [] },
    });
    expectEqual(y, oracle.mseLoss(x!, target!, 'sum'), 'y');
    expectEqual(gradients.x!, oracle.mseLossGrad([1], x!, target!, 'sum'), 'dx');
    expect(gradients.target).toBeUndefined();
  });
});
