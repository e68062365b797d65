// Softmax and log-softmax against PyTorch and the float64 oracle, in every layout.
import { describe, expect, test } from 'vitest';
import { logSoftmax, softmax } from '../../ts/ops/softmax.ts';
import { type SoftmaxCase, type SoftmaxOp, softmaxCases, softmaxInputs, softmaxTolerance } from '../cases/softmax.ts';
import { golden } from '../golden/load.ts';
import { expectClose } from '../reference/compare.ts';
import * as oracle from '../reference/softmax.ts';
import { type Shape, values } from '../reference/values.ts';
import { layouts, type Problem, solve, withEngine } from './harness.ts';

withEngine();

const ops: Record<SoftmaxOp, typeof softmax> = { softmax, logSoftmax };

function problem(op: SoftmaxOp, task: SoftmaxCase, { x, dy }: ReturnType<typeof softmaxInputs>): Problem<'x'> {
  return {
    inputs: { x: { data: x, shape: task.x } },
    run: ({ x }) => ops[op](x, task.dim),
    dy: { data: dy, shape: task.x },
  };
}

describe.each(['softmax', 'logSoftmax'] as const)('%s', (op) => {
  test.each(softmaxCases)('$name: PyTorch, in every layout', (task) => {
    const inputs = softmaxInputs(op, task);
    const expected = golden(op, task.name);
    const tolerance = softmaxTolerance(op, expected.y.data);
    for (const layout of layouts) {
      const base = problem(op, task, inputs);
      const { y, shape, gradients } = solve({ ...base, inputs: { x: { ...base.inputs.x, layout } } });
      expect(shape).toEqual(task.x);
      expectClose(y, expected.y.data, { tolerance: tolerance.y, label: `y ${layout}` });
      expectClose(gradients.x!, expected.dx!.data, { tolerance: tolerance.dx, label: `dx ${layout}` });
    }
  });

  /** Lengths around the vector widths, long rows and many rows. */
  const sizes: [shape: Shape, dim: number][] = [
    ...[1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 33, 63, 65].map((n): [Shape, number] => [[3, n], 1]),
    ...[1, 3, 4, 5, 8, 9, 17].map((n): [Shape, number] => [[2, 5, n], 1]),
    [[2, 4099], 1],
    [[1031, 10], 1],
    [[3, 10, 700], 1],
  ];
  test.each(sizes)('shape %j along %i against float64', (x, dim) => {
    const name = `${op}/${JSON.stringify(x)}`;
    const inputs = { x: values(`${name}/x`, x, { scale: 4 }), dy: values(`${name}/dy`, x) };
    const { y, gradients } = solve(problem(op, { name, x, dim }, inputs));
    const [expected, dx] =
      op === 'softmax'
        ? [oracle.softmax(inputs.x, x, dim), oracle.softmaxGrad(inputs.dy, inputs.x, x, dim)]
        : [oracle.logSoftmax(inputs.x, x, dim), oracle.logSoftmaxGrad(inputs.dy, inputs.x, x, dim)];
    const tolerance = softmaxTolerance(op, expected);
    expectClose(y, expected, { tolerance: tolerance.y, label: 'y' });
    const terms = x.at(dim)!;
    expectClose(gradients.x!, dx, { tolerance: { ...tolerance.dx, terms }, label: 'dx' });
  });
});
