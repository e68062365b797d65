// Winograd convolution, chosen for every geometry it fits: exactly on integers where its transforms are exact (F(2x2, 3x3)), else
// within a stated error, against PyTorch, and with everything that compile fuses. 'winograd2' takes 3 x 3 and 5 x 5 kernels.
import { describe, expect, test, vi } from 'vitest';
import type { Conv2dAlgorithm, Conv2dGeometry } from '../../ts/ops/conv2d-geometry.ts';
import { winogradSides } from '../../ts/ops/conv2d-winograd.ts';
import { winogradWeightGradSide } from '../../ts/ops/conv2d-winograd-grad.ts';
import { init, shutdown } from '../../ts/runtime/engine.ts';
import { type Conv2dCase, type Conv2dInputs, conv2dCases, conv2dInputs } from '../cases/conv2d.ts';
import { golden } from '../golden/load.ts';
import { dot, expectEqual, magnitude, worst } from '../reference/compare.ts';
import * as oracle from '../reference/conv2d.ts';
import { type Numbers, smallIntegers, values } from '../reference/values.ts';
import { combinations, conv2dProblem } from './conv2d-problem.ts';
import { epilogues, solveEpilogue } from './epilogue.ts';
import { type Answer, expectSameBits, solve, solveAll, withEngine } from './harness.ts';

const chosen = vi.hoisted(() => ({ algorithm: 'direct' as Conv2dAlgorithm }));
vi.mock('../../ts/ops/conv2d-algorithm.ts', () => {
  const choose = (geometry: Conv2dGeometry): Conv2dAlgorithm =>
    fits(chosen.algorithm, geometry) ? chosen.algorithm : 'direct';
  const weightGradAlgorithm = (geometry: Conv2dGeometry): Conv2dAlgorithm =>
    chosen.algorithm === `winograd${winogradWeightGradSide(geometry)}` ? chosen.algorithm : 'direct';
  return { forwardAlgorithm: choose, inputGradAlgorithm: choose, weightGradAlgorithm };
});

withEngine();

/** Whether an algorithm takes a geometry. */
function fits(algorithm: Conv2dAlgorithm, geometry: Parameters<typeof winogradSides>[0]): boolean {
  return winogradSides(geometry).some((side) => algorithm === `winograd${side}`);
}

const ALGORITHMS = ['winograd4', 'winograd2'] as const;

/** Largest difference over the largest expected number. */
function relativeError(actual: Numbers, expected: Numbers): number {
  expect(actual.length).toBe(expected.length);
  return worst(actual, expected).error / Math.max(magnitude(expected), Number.MIN_VALUE);
}

/** More than the list has, which end blocks, panels and tiles in every way. */
const ends: readonly Conv2dCase[] = [
  { name: '40 tiles, 3 channels, 140 outputs', x: [2, 3, 17, 13], weight: [140, 3, 3, 3], options: { padding: 1 } },
  { name: '1,030 outputs', x: [1, 3, 5, 3], weight: [1030, 3, 3, 3], options: { padding: 1 } },
  { name: 'one tile row over images', x: [7, 12, 4, 5], weight: [20, 12, 3, 3], options: { padding: 1 } },
  { name: 'deep', x: [1, 650, 5, 6], weight: [3, 650, 3, 3], options: { padding: 1 } },
  { name: 'many tiles', x: [1, 3, 41, 50], weight: [5, 3, 3, 3], options: { padding: [0, 2] } },
  { name: 'shares of the tiles', x: [3, 3, 45, 50], weight: [4, 3, 3, 3], options: { padding: 1 } },
  { name: '5 x 5, 140 outputs', x: [2, 3, 11, 14], weight: [140, 3, 5, 5], options: { padding: 2 } },
  { name: '5 x 5, shares of the tiles', x: [3, 3, 35, 32], weight: [4, 3, 5, 5], options: { padding: 2 } },
  { name: '5 x 5, deep, unpadded', x: [2, 330, 6, 7], weight: [11, 330, 5, 5], options: {} },
  {
    name: 'dilation 3, ragged remainders',
    x: [2, 5, 17, 14],
    weight: [11, 5, 3, 3],
    options: { dilation: 3, padding: [1, 4] },
  },
  {
    name: 'dilation 4, remainders as images',
    x: [1, 9, 13, 12],
    weight: [10, 9, 3, 3],
    options: { dilation: 4, padding: 4 },
  },
  {
    name: 'more dilation than outputs',
    x: [1, 4, 5, 16],
    weight: [9, 4, 3, 3],
    options: { dilation: 7, padding: [6, 3] },
  },
  {
    name: '5 x 5, dilation 2 and 3',
    x: [1, 6, 15, 18],
    weight: [7, 6, 5, 5],
    options: { dilation: [2, 3], padding: [5, 6] },
  },
  {
    name: '5 x 5, many tiles',
    x: [1, 9, 33, 22],
    weight: [13, 9, 5, 5],
    options: {
      padding: [
        [1, 4],
        [0, 3],
      ],
    },
  },
];

const empty: Conv2dCase = { name: 'no images', x: [0, 12, 6, 5], weight: [9, 12, 3, 3], options: { padding: 1 } };

/** Those of a list that an algorithm takes. */
function casesOf(algorithm: Conv2dAlgorithm, list: readonly Conv2dCase[]): Conv2dCase[] {
  return list.filter(({ x, weight, options }) => fits(algorithm, oracle.conv2dGeometry(x, weight, options)));
}

/** Whether nothing is rounded for small integers: F(2x2, 3x3) takes halves and quarters of them. */
function isExact(algorithm: Conv2dAlgorithm, { weight }: Conv2dCase): boolean {
  return algorithm === 'winograd2' && weight[2] === 3;
}

/** What F(4x4, 3x3), F(2x2, 5x5) and their gradients may lose here; measured: at most 3e-6. */
const LOSS = 1e-5;

describe.each(ALGORITHMS)('%s on integers, in every layout', (algorithm) => {
  test.each(casesOf(algorithm, [...conv2dCases, ...ends, empty]))('$name', (task) => {
    chosen.algorithm = algorithm;
    const inputs = conv2dInputs(task, smallIntegers);
    const { geometry, x, weight, bias, dy } = inputs;
    const expected = {
      y: oracle.conv2d(x, weight, bias, geometry),
      x: oracle.conv2dInputGrad(dy, weight, geometry),
      weight: oracle.conv2dWeightGrad(x, dy, geometry),
    };
    for (const layout of combinations) {
      const { y, gradients } = solve(conv2dProblem(task, inputs, layout));
      // The weight gradient of F(2x2, 3x3) is direct.
      if (isExact(algorithm, task)) {
        expectEqual(y, expected.y, 'y');
        expectEqual(gradients.x!, expected.x, 'dx');
        expectEqual(gradients.weight!, expected.weight, 'dw');
      } else {
        expect(relativeError(y, expected.y)).toBeLessThan(LOSS);
        expect(relativeError(gradients.x!, expected.x)).toBeLessThan(LOSS);
        expect(relativeError(gradients.weight!, expected.weight)).toBeLessThan(LOSS);
      }
    }
  });
});

describe.each(ALGORITHMS)('%s: adjoint identity', (algorithm) => {
  test.each(casesOf(algorithm, [...conv2dCases, ...ends]))('$name', (task) => {
    chosen.algorithm = algorithm;
    const inputs = { ...conv2dInputs(task), bias: null };
    const { y, gradients } = solve(conv2dProblem(task, inputs));
    const product = dot(y, inputs.dy);
    const size = Math.sqrt(dot(y, y) * dot(inputs.dy, inputs.dy));
    expect(Math.abs(dot(inputs.x, gradients.x!) - product) / size).toBeLessThan(LOSS);
    expect(Math.abs(dot(inputs.weight, gradients.weight!) - product) / size).toBeLessThan(LOSS);
  });
});

describe.each(ALGORITHMS)('%s: PyTorch', (algorithm) => {
  test.each(casesOf(algorithm, conv2dCases))('$name', (task) => {
    chosen.algorithm = algorithm;
    const expected = golden('conv2d', task.name);
    const { y, gradients } = solve(
      conv2dProblem(task, conv2dInputs(task), { x: 'channelsLast', weight: 'channelsLast' }),
    );
    expect(relativeError(y, expected.y.data)).toBeLessThan(LOSS);
    expect(relativeError(gradients.x!, expected.dx!.data)).toBeLessThan(LOSS);
    expect(relativeError(gradients.weight!, expected.dw!.data)).toBeLessThan(LOSS);
  });
});

describe.each(epilogues)('%s and bounds, on integers', (epilogue) => {
  test.each(casesOf('winograd2', [...conv2dCases, ...ends]))('$name', (task) => {
    chosen.algorithm = 'winograd2';
    const { y, expected, sums } = solveEpilogue(task, epilogue);
    if (isExact('winograd2', task)) expectEqual(y, expected, 'y');
    else expect(worst(y, expected).error / magnitude(sums)).toBeLessThan(LOSS);
  });
});

/** Numbers as a trained layer has them: inputs after a ReLU, weights of mean square 2 / (r^2 channels). */
function typical(task: Conv2dCase): Conv2dInputs {
  const [, channels, kernel] = task.weight;
  const scale = Math.sqrt((2 * 3) / (kernel ** 2 * channels));
  const inputs = conv2dInputs(task, values);
  return {
    ...inputs,
    x: inputs.x.map((value) => Math.max(value, 0)),
    weight: inputs.weight.map((value) => value * scale),
  };
}

const threaded: readonly (readonly [Conv2dAlgorithm, number])[] = [
  ['winograd4', 3],
  ['winograd2', 3],
  ['winograd2', 5],
];
test.each(threaded)('%s, side %i: one to three threads, the same bits', async (algorithm, kernel) => {
  chosen.algorithm = algorithm;
  const options = { padding: (kernel - 1) / 2 };
  const task: Conv2dCase = { name: 'threads', x: [4, 72, 29, 31], weight: [150, 72, kernel, kernel], options };
  const inputs = conv2dInputs(task);
  const answers: Answer[] = [];
  for (const threads of [1, 2, 3]) {
    await shutdown();
    await init({ threads });
    answers.push(...solveAll(conv2dProblem(task, inputs), () => {}));
  }
  await shutdown();
  await init({ threads: 1, debug: true });
  for (const answer of answers) expectSameBits(answer, answers[0]!, algorithm);
});

describe('error per layer, over the largest output', () => {
  // Measured: at most 2.4e-6, 9e-7 (its weight gradient, which is direct) and 2.5e-6.
  const allowed = [
    ['winograd4', 3, 6e-6],
    ['winograd2', 3, 2e-6],
    ['winograd2', 5, 6e-6],
  ] as const;
  const sizes = [
    [1, 16, 16, 24],
    [2, 64, 16, 10],
    [1, 128, 12, 10],
    [1, 256, 8, 10],
    [2, 512, 5, 7],
  ] as const;
  test.each(sizes)('%i images, %i to %i channels, side %i', (images, channels, outputs, side) => {
    for (const kernel of [3, 5]) {
      const task: Conv2dCase = {
        name: 'error',
        x: [images, channels, side, side],
        weight: [outputs, channels, kernel, kernel],
        bias: false,
        options: { padding: (kernel - 1) / 2 },
      };
      const inputs = typical(task);
      const { geometry, x, weight, dy } = inputs;
      const y = oracle.conv2d(x, weight, null, geometry);
      const dx = oracle.conv2dInputGrad(dy, weight, geometry);
      const dw = oracle.conv2dWeightGrad(x, dy, geometry);
      for (const [algorithm, , most] of allowed.filter((each) => each[1] === kernel)) {
        chosen.algorithm = algorithm;
        const answer = solve(conv2dProblem(task, inputs));
        expect(relativeError(answer.y, y), algorithm).toBeLessThan(most);
        expect(relativeError(answer.gradients.x!, dx), algorithm).toBeLessThan(most);
        expect(relativeError(answer.gradients.weight!, dw), algorithm).toBeLessThan(most);
      }
    }
  });
});
