// One thread and several: every family, on sizes that are cut into many tiles, gives the same bits.
import { beforeAll, describe, expect, test } from 'vitest';
import { relu6, sigmoid } from '../../ts/ops/activation.ts';
import { adaptiveAvgPool2d } from '../../ts/ops/adaptive-pool.ts';
import { batchNorm } from '../../ts/ops/batch-norm.ts';
import { cat } from '../../ts/ops/cat.ts';
import { gt, where } from '../../ts/ops/compare.ts';
import { conv2d } from '../../ts/ops/conv2d.ts';
import { channelsLast, clone, contiguous } from '../../ts/ops/copy.ts';
import { add, div, mul } from '../../ts/ops/elementwise.ts';
import { crossEntropy, mseLoss } from '../../ts/ops/loss.ts';
import { linear, matmul } from '../../ts/ops/matmul.ts';
import { pad } from '../../ts/ops/narrow.ts';
import { avgPool2d, maxPool2d } from '../../ts/ops/pool.ts';
import { dropout, manualSeed, randn } from '../../ts/ops/random.ts';
import { max, mean, variance } from '../../ts/ops/reduce.ts';
import { permute, transpose } from '../../ts/ops/shape.ts';
import { logSoftmax, softmax } from '../../ts/ops/softmax.ts';
import { sum } from '../../ts/ops/sum.ts';
import { engine, init, shutdown } from '../../ts/runtime/engine.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import { integers, type Shape, values } from '../reference/values.ts';
import { awaitWorkers, workerShares } from '../workers.ts';
import { type Answer, expectSameBits, type Problem, solveAll } from './harness.ts';

interface Task {
  name: string;
  shapes: Record<string, Shape>;
  y: Shape;
  run: (x: Record<string, Tensor>) => Tensor;
  target?: Int32Array;
}

/** Typical numbers in every input. */
function problem({ name, shapes, y, run, target }: Task): Problem {
  const inputs = Object.entries(shapes).map(([key, shape]) => [key, { data: values(`${name}/${key}`, shape), shape }]);
  if (target) inputs.push(['target', { data: target, shape: [target.length] } as never]);
  return { inputs: Object.fromEntries(inputs), run, dy: { data: values(`${name}/dy`, y), shape: y } };
}

const image: Shape = [3, 24, 41, 37];

const tasks: Task[] = [
  {
    name: 'conv2d 3x3',
    shapes: { x: [6, 20, 33, 31], w: [37, 20, 3, 3], b: [37] },
    y: [6, 37, 33, 31],
    run: ({ x, w, b }) => conv2d(x!, w!, b, { padding: 1 }),
  },
  {
    name: 'conv2d 5x5 of one channel',
    shapes: { x: [16, 1, 28, 28], w: [6, 1, 5, 5], b: [6] },
    y: [16, 6, 28, 28],
    run: ({ x, w, b }) => conv2d(x!, w!, b, { padding: 2 }),
  },
  {
    name: 'conv2d stride 2, groups 2',
    shapes: { x: [8, 24, 41, 37], w: [40, 12, 3, 3], b: [40] },
    y: [8, 40, 21, 19],
    run: ({ x, w, b }) => conv2d(x!, w!, b, { padding: 1, stride: 2, groups: 2 }),
  },
  {
    name: 'conv2d groups 6 of 4 channels',
    shapes: { x: [8, 24, 41, 37], w: [30, 4, 3, 3], b: [30] },
    y: [8, 30, 41, 37],
    run: ({ x, w, b }) => conv2d(x!, w!, b, { padding: 1, groups: 6 }),
  },
  {
    name: 'batch normalisation, channels innermost',
    shapes: { x: image, weight: [24], bias: [24] },
    y: image,
    run: ({ x, weight, bias }) =>
      relu6(batchNorm(channelsLast(x!), null, null, { weight: weight!, bias: bias!, training: true })),
  },
  {
    name: 'batch normalisation, planes',
    shapes: { x: [2, 9, 83, 101], weight: [9], bias: [9] },
    y: [2, 9, 83, 101],
    run: ({ x, weight, bias }) => batchNorm(x!, null, null, { weight: weight!, bias: bias!, training: true }),
  },
  {
    name: 'adaptive average',
    shapes: { x: image },
    y: [3, 24, 7, 7],
    run: ({ x }) => adaptiveAvgPool2d(x!, 7),
  },
  {
    name: 'depthwise',
    shapes: { x: image, w: [24, 1, 3, 3] },
    y: image,
    run: ({ x, w }) => conv2d(x!, w!, null, { padding: 1, groups: 24 }),
  },
  {
    name: 'matmul',
    shapes: { a: [259, 301], b: [301, 263] },
    y: [259, 263],
    run: ({ a, b }) => matmul(a!, b!),
  },
  {
    name: 'batched matmul',
    shapes: { a: [7, 65, 129], b: [129, 67] },
    y: [7, 65, 67],
    run: ({ a, b }) => matmul(a!, b!),
  },
  {
    name: 'linear',
    shapes: { x: [517, 400], w: [120, 400], b: [120] },
    y: [517, 120],
    run: ({ x, w, b }) => linear(x!, w!, b),
  },
  { name: 'maxPool2d', shapes: { x: image }, y: [3, 24, 20, 18], run: ({ x }) => maxPool2d(x!, 3, { stride: 2 }) },
  { name: 'avgPool2d', shapes: { x: image }, y: [3, 24, 20, 18], run: ({ x }) => avgPool2d(x!, 2) },
  { name: 'sigmoid', shapes: { x: [100_003] }, y: [100_003], run: ({ x }) => sigmoid(x!) },
  {
    name: 'broadcasting arithmetic',
    shapes: { a: [301, 1, 257], b: [3, 1] },
    y: [301, 3, 257],
    run: ({ a, b }) => div(add(mul(a!, b!), a!), add(mul(b!, b!), 1)),
  },
  { name: 'where', shapes: { a: [301, 257], b: [257] }, y: [301, 257], run: ({ a, b }) => where(gt(a!, b!), a!, b!) },
  { name: 'sum of all', shapes: { x: [300_007] }, y: [], run: ({ x }) => sum(x!) },
  { name: 'sum over rows', shapes: { x: [5003, 61] }, y: [61], run: ({ x }) => sum(x!, { dim: 0 }) },
  { name: 'mean over pixels', shapes: { x: image }, y: [24], run: ({ x }) => mean(x!, { dim: [0, 2, 3] }) },
  { name: 'variance', shapes: { x: image }, y: [24], run: ({ x }) => variance(x!, { dim: [0, 2, 3] }) },
  { name: 'max', shapes: { x: [503, 617] }, y: [503], run: ({ x }) => max(x!, { dim: 1 }) },
  { name: 'softmax', shapes: { x: [4099, 10] }, y: [4099, 10], run: ({ x }) => softmax(x!, 1) },
  { name: 'logSoftmax', shapes: { x: [3, 1000, 33] }, y: [3, 1000, 33], run: ({ x }) => logSoftmax(x!, 1) },
  {
    name: 'crossEntropy',
    shapes: { x: [4099, 10] },
    target: Int32Array.from(integers('threads/target', 4099, 0, 9)),
    y: [],
    run: ({ x, target }) => crossEntropy(x!, target!),
  },
  {
    name: 'mseLoss',
    shapes: { x: [100_003], y: [100_003] },
    y: [],
    run: ({ x, y }) => mseLoss(x!, y!),
  },
  {
    name: 'layouts',
    shapes: { x: image },
    y: [37, 41, 24, 3],
    run: ({ x }) => contiguous(permute(clone(channelsLast(x!)), [3, 2, 1, 0])),
  },
  {
    name: 'pad and cat',
    shapes: { a: [301, 257], b: [301, 64] },
    y: [301, 325],
    run: ({ a, b }) => cat([pad(a!, [1, 3]), transpose(transpose(b!, 0, 1), 0, 1)], 1),
  },
  {
    name: 'randn and dropout',
    shapes: { x: [333, 301] },
    y: [333, 301],
    run: ({ x }) => add(dropout(x!, { p: 0.3 }), randn([333, 301])),
  },
];

const problems = tasks.map((task): [name: string, Problem] => [task.name, problem(task)]);

/** The answers of every road, by task. */
async function answersOn(threads: number): Promise<Map<string, Answer[]>> {
  await init({ threads, debug: true });
  await awaitWorkers();
  const before = workerShares();
  const found = problems.map(([name, each]): [string, Answer[]] => [name, solveAll(each, () => manualSeed(3))]);
  expect(engine().threads).toBe(threads);
  expect(workerShares() > before).toBe(threads > 1);
  await shutdown();
  return new Map(found);
}

const answers = new Map<number, Map<string, Answer[]>>();

beforeAll(async () => {
  for (const threads of [1, 3]) answers.set(threads, await answersOn(threads));
});

describe.each([1, 3])('%i threads give the bits of one, eagerly, captured and replayed', (threads) => {
  test.each(tasks)('$name', ({ name }) => {
    const [expected] = answers.get(1)!.get(name)!;
    answers
      .get(threads)!
      .get(name)!
      .forEach((answer, i) => {
        expectSameBits(answer, expected!, `answer ${i}`);
      });
  });
});
