// The textbook's LeNet and its ReLU variant against PyTorch: logits, every gradient, ten training losses, trained weights.
// Eager and captured training, on one and on two threads, agree bit for bit.
import { afterEach, describe, expect, test } from 'vitest';
import { captureStep, crossEntropy, init, optim, shutdown, type Tensor, tensor } from '../ts/index.ts';
import { type LeNet, lenet } from '../ts/models/index.ts';
import {
  type LenetVariant,
  lenetBatch,
  lenetChecksum,
  lenetChecksumTolerance,
  lenetLossTolerance,
  lenetParameters,
  lenetShapes,
  lenetSteps,
  lenetTolerance,
  lenetVariants,
} from './cases/lenet.ts';
import { goldenList, goldenTensor } from './golden/load.ts';
import { expectClose, expectEqual } from './reference/compare.ts';

afterEach(shutdown);

/** The network with the golden parameters. */
function loaded({ name }: LenetVariant): LeNet {
  const net = lenet({ variant: name });
  const state = Object.entries(lenetParameters()).map(([key, { shape, data }]) => [key, tensor(data, { shape })]);
  net.loadStateDict(Object.fromEntries(state));
  return net;
}

function batch(): { x: Tensor; target: Tensor } {
  const { x, shape, target } = lenetBatch();
  return { x: tensor(x, { shape }), target: tensor(target) };
}

/** Losses of the ten steps, and the parameters after them. */
interface Trained {
  losses: number[];
  parameters: Record<string, Float32Array>;
}

type Road = (net: LeNet, optimizer: optim.SGD) => (x: Tensor, target: Tensor) => Tensor;

const roads: Record<'eager' | 'captured', Road> = {
  eager: (net, optimizer) => (x, target) => {
    const loss = crossEntropy(net.forward(x), target);
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    return loss;
  },
  captured: (net, optimizer) => captureStep((x, target) => crossEntropy(net.forward(x), target), { optimizer }),
};

function train(variant: LenetVariant, road: keyof typeof roads): Trained {
  const net = loaded(variant);
  const { x, target } = batch();
  const step = roads[road](net, new optim.SGD(net.parameters(), variant.optimizer));
  const losses = Array.from({ length: lenetSteps }, () => step(x, target).item());
  const entries = Object.entries(net.stateDict()).map(([key, value]) => [key, value.data() as Float32Array]);
  return { losses, parameters: Object.fromEntries(entries) };
}

test('has 61,706 parameters under their PyTorch names', async () => {
  await init({ threads: 1, debug: true });
  const net = lenet();
  expect(net.parameters().reduce((count, { size }) => count + size, 0)).toBe(61_706);
  const shapes = Object.entries(net.stateDict()).map(([key, { shape }]) => [key, shape]);
  expect(Object.fromEntries(shapes)).toEqual(lenetShapes);
  expect(shapes.map(([key]) => key)).toEqual(Object.keys(lenetShapes));
});

describe.each(lenetVariants)('LeNet, $name', (variant) => {
  const { name } = variant;

  test('logits and every gradient', async () => {
    await init({ threads: 1, debug: true });
    const net = loaded(variant);
    const { x, target } = batch();
    const logits = net.forward(x);
    const expected = goldenTensor(`lenet/${name}/logits`).data;
    expectClose(logits.data(), expected, { tolerance: lenetTolerance.logits, label: 'logits' });
    const loss = crossEntropy(logits, target);
    expect(Math.abs(loss.item() - goldenList(`lenet/${name}/losses`)[0]!)).toBeLessThan(lenetLossTolerance);
    loss.backward();
    const reached = [...net.namedParameters()].map(([key, parameter]) => {
      const gradient = goldenTensor(`lenet/${name}/grad/${key}`);
      expect(parameter.grad!.shape).toEqual(gradient.shape);
      expectClose(parameter.grad!.data(), gradient.data, { tolerance: lenetTolerance.gradient, label: key });
      return key;
    });
    expect(reached).toEqual(Object.keys(lenetShapes));
  });

  test.each(['eager', 'captured'] as const)('ten training losses and the trained weights, %s', async (road) => {
    await init({ threads: 1, debug: true });
    const { losses, parameters } = train(variant, road);
    const expected = goldenList(`lenet/${name}/losses`);
    losses.forEach((loss, step) => {
      expect(Math.abs(loss - expected[step]!), `loss ${step}`).toBeLessThan(lenetLossTolerance);
    });
    for (const [key, data] of Object.entries(parameters)) {
      const sums = goldenList(`lenet/${name}/trained/${key}`);
      lenetChecksum(key, data).forEach((sum, i) => {
        expect(Math.abs(sum - sums[i]!), `checksum ${i} of ${key}`).toBeLessThan(lenetChecksumTolerance);
      });
    }
  });

  test('eager and captured, one thread and two: the same bits', async () => {
    const results: [label: string, Trained][] = [];
    for (const threads of [1, 2])
      for (const road of ['eager', 'captured'] as const) {
        await init({ threads });
        results.push([`${road}, ${threads} threads`, train(variant, road)]);
        await shutdown();
      }
    const [, first] = results[0]!;
    for (const [label, { losses, parameters }] of results) {
      expect(losses, label).toEqual(first.losses);
      for (const [key, data] of Object.entries(parameters))
        expectEqual(data, first.parameters[key]!, `${label}: ${key}`);
    }
  });
});
