// Whole networks against torchvision: names, shapes and counts, logits, one training step, and ResNet-18 learning real digits.
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type ImageDataset, mnist } from '../ts/data/index.ts';
import {
  captureStep,
  compile,
  crossEntropy,
  init,
  memoryStatistics,
  nn,
  noGrad,
  optim,
  pad,
  scope,
  shutdown,
  type Tensor,
  tensor,
} from '../ts/index.ts';
import * as models from '../ts/models/index.ts';
import {
  type ModelCase,
  mnistCase,
  mnistLosses,
  modelAnswers,
  modelCases,
  modelChecksums,
  modelImages,
  modelNumbers,
  modelTarget,
  structureHash,
  unpacked,
} from './cases/models.ts';
import { worst } from './reference/compare.ts';

/** Of the largest logit: what the project promises of every network. */
const LOGITS = 1e-4;
/**
 * Of the norm: gradients and running statistics of a step from four images of 64 x 64. PyTorch's own float32 is off by 5e-6
 * (ResNet-18, VGG-11) and 7e-5 (MobileNetV2), this engine by 1e-5 and 8e-5, statistics by 2e-6, and by up to 7e-4 where rounding
 * moves an activation over a bound of its ReLU. One of the 16 that a late channel of MobileNetV2 has would change all gradients
 * before it by 1e-2, which is why the images of these steps are chosen.
 */
const GRADIENTS = 1e-3;
const RUNNING = 5e-5;

type Factory = (options?: object) => nn.Module & { forward(x: Tensor): Tensor };

function build(task: ModelCase, more: object = {}): ReturnType<Factory> {
  const factory = (models as unknown as Record<string, Factory>)[task.function ?? task.name]!;
  return factory({ ...task.options, ...more });
}

/** Numbers of a network that are made at a time: the largest, VGG, is not held twice. */
const PART = 2 ** 24;

/** Loads the formula's numbers under the keys that start with `prefix`. */
function load(net: nn.Module, prefix = ''): void {
  const keys = Object.entries(net.stateDict()).filter(([key]) => key.startsWith(prefix));
  while (keys.length)
    scope(() => {
      const part: Record<string, Tensor> = {};
      for (let size = 0; keys.length && size < PART; ) {
        const [key, { shape }] = keys.shift()!;
        part[key] = tensor(modelNumbers(key, shape), { shape });
        size += part[key].size;
      }
      net.loadStateDict(part, { strict: false });
    });
}

function images(name: string, batch: number, size: number): Tensor {
  const { data, shape } = modelImages(name, batch, size);
  return tensor(data, { shape });
}

/** Greatest difference, as a share of the largest expected number. */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < expected.length; i++) largest = Math.max(largest, Math.abs(expected[i]!));
  return worst(actual, expected).error / largest;
}

describe('the names of torchvision', () => {
  afterEach(shutdown);
  test.each(modelCases)('$name', async (task) => {
    await init({ threads: 1 });
    const net = build(task);
    const state = Object.entries(net.stateDict());
    const answer = modelAnswers[task.name]!;
    expect(net.parameters().reduce((sum, { size }) => sum + size, 0)).toBe(answer.parameters);
    expect(state.length).toBe(answer.keys);
    expect(structureHash(state)).toBe(answer.sha256);
    // Counting drew no random numbers and took no memory for weights.
    expect(memoryStatistics().allocatedBytes).toBeLessThan(2 ** 20);
  });
});

describe('logits', () => {
  beforeAll(() => init({ threads: 1 }));
  afterAll(shutdown);
  /** The VGG models end in the same 124 million numbers, which are made once. */
  let dense: nn.Module | null = null;

  function loaded(task: ModelCase): ReturnType<Factory> {
    const net = build(task).eval();
    const vgg = task.name.startsWith('vgg');
    if (vgg && dense) Object.assign(net, { classifier: dense });
    load(net, vgg && dense ? 'features' : '');
    if (net instanceof models.VGG) dense = net.classifier;
    return net;
  }

  test.each(modelCases.filter(({ sizes }) => sizes))('$name', (task) => {
    const net = loaded(task);
    for (const size of task.sizes!) {
      const x = images(task.name, task.batch ?? 1, size);
      const expected = unpacked(modelAnswers[task.name]!.logits![size]!, Float32Array);
      const eager = noGrad(() => net.forward(x));
      expect(relativeError(eager.data(), expected), `${size} x ${size}, eager`).toBeLessThan(LOGITS);
      if (task.compiled === false) continue;
      const run = compile(net, { input: x.shape });
      expect(relativeError(run(x).data(), expected), `${size} x ${size}, compiled`).toBeLessThan(LOGITS);
      run.dispose();
    }
  });
});

/** Checks checksums of a list of tensors against packed golden ones; errors are shares of the norm. */
function expectChecksums(
  tensors: readonly (readonly [string, Tensor])[],
  packed: string,
  tolerance: number,
  label: string,
): void {
  const expected = unpacked(packed, Float64Array);
  expect(expected.length).toBe(6 * tensors.length);
  const norms = tensors.map((_, i) => Math.sqrt(expected[6 * i + 2]!));
  // A bias in front of batch normalisation has no gradient but rounding errors: a share of the largest norm is allowed.
  const floor = 1e-3 * Math.max(...norms);
  tensors.forEach(([key, values], i) => {
    const sums = modelChecksums(key, values.data());
    const scale = Math.max(norms[i]!, floor);
    sums.forEach((sum, k) => {
      const limit = k === 2 ? 2 * tolerance * scale * scale : tolerance * scale;
      const error = Math.abs(sum - expected[6 * i + k]!);
      if (!(error <= limit))
        throw new Error(`${label} of ${key}, number ${k}: ${sum}, expected ${expected[6 * i + k]}, allowed ${limit}`);
    });
  });
}

/** The running statistics of a model; the counts of batches stand apart. */
function statistics(net: nn.Module): [string, Tensor][] {
  return [...net.namedBuffers()].filter(([, { shape }]) => shape.length > 0);
}

describe('one training step', () => {
  afterEach(shutdown);
  test.each(modelCases.filter(({ train }) => train))('$name', async (task) => {
    await init({ threads: 1 });
    const { batch, size, head, images: source = task.name } = task.train!;
    const net = build(task, task.dropout ? { dropout: 0 } : {});
    if (head) Object.assign(net, { classifier: new nn.Sequential(new nn.Linear(head[0]!, head[1]!)) });
    load(net);
    const { loss: expectedLoss, gradients, running } = modelAnswers[task.name]!.train!;
    const loss = crossEntropy(
      net.forward(images(source, batch, size)),
      tensor(modelTarget(task.name, batch, head?.[1])),
    );
    expect(Math.abs(loss.item() - expectedLoss) / expectedLoss).toBeLessThan(LOGITS);
    loss.backward();
    const found = [...net.namedParameters()].map(([key, parameter]) => [key, parameter.grad!] as const);
    expectChecksums(found, gradients, GRADIENTS, 'gradient');
    expectChecksums(statistics(net), running, RUNNING, 'running statistics');
    for (const [key, count] of net.namedBuffers())
      if (key.endsWith('num_batches_tracked')) expect(count.item()).toBe(1);
  });
});

describe('first values', () => {
  beforeAll(() => init({ threads: 1 }));
  afterAll(shutdown);
  const deviation = (x: Tensor): number => Math.sqrt(x.square().mean().item());
  const extremes = (x: Tensor): [number, number] => [x.min().item(), x.max().item()];

  test('of ResNet: Kaiming by fan out, dense layers as they are', () => {
    const net = models.resnet18({ zeroInitResidual: true });
    const state = net.stateDict();
    expect(deviation(state['layer1.0.conv1.weight']!)).toBeCloseTo(Math.sqrt(2 / (64 * 9)), 3);
    expect(deviation(state['conv1.weight']!)).toBeCloseTo(Math.sqrt(2 / (64 * 49)), 3);
    expect(extremes(state['bn1.weight']!)).toEqual([1, 1]);
    expect(extremes(state['layer2.1.bn2.weight']!)).toEqual([0, 0]);
    expect(extremes(state['layer2.1.bn1.weight']!)).toEqual([1, 1]);
    expect(state['fc.weight']!.max().item()).toBeCloseTo(1 / Math.sqrt(512), 4);
  });

  test('of VGG and MobileNetV2: dense layers normal, biases 0', () => {
    const vgg = models.vgg11({ numClasses: 10 }).stateDict();
    expect(deviation(vgg['features.3.weight']!)).toBeCloseTo(Math.sqrt(2 / (128 * 9)), 3);
    expect(extremes(vgg['features.3.bias']!)).toEqual([0, 0]);
    expect(deviation(vgg['classifier.6.weight']!)).toBeCloseTo(0.01, 3);
    expect(extremes(vgg['classifier.0.bias']!)).toEqual([0, 0]);
    const mobile = models.mobilenetV2({ numClasses: 10 }).stateDict();
    // Depthwise: the fan out counts all output channels, as torch.nn.init does.
    expect(deviation(mobile['features.1.conv.0.0.weight']!)).toBeCloseTo(Math.sqrt(2 / (32 * 9)), 1);
    expect(deviation(mobile['classifier.1.weight']!)).toBeCloseTo(0.01, 3);
  });
});

test('unknown options are refused by the name of the family', () => {
  expect(() => models.resnet18({ classes: 3 } as never)).toThrow("resnet: unknown option 'classes'");
  expect(() => models.vgg16(10 as never)).toThrow(
    'vgg: options must be an object, got number; write { numClasses: ... }',
  );
  expect(() => models.resnet18({ groups: 2 })).toThrow('BasicBlock: groups must be 1');
});

/** Three steps of a small MobileNetV2: losses, all parameters, all buffers. */
function trained(road: 'eager' | 'captured'): number[][] {
  const task = modelCases.find(({ name }) => name === 'mobilenetV2')!;
  const net = build(task, { widthMult: 0.25, numClasses: 10, dropout: 0 });
  load(net);
  const optimizer = new optim.SGD(net.parameters(), { lr: 0.01, momentum: 0.9 });
  const lossOf = (x: Tensor, y: Tensor): Tensor => crossEntropy(net.forward(x), y);
  const eager = (x: Tensor, y: Tensor): Tensor => {
    optimizer.zeroGrad();
    const loss = lossOf(x, y);
    loss.backward();
    optimizer.step();
    return loss;
  };
  const step = road === 'eager' ? eager : captureStep(lossOf, { optimizer });
  const [x, y] = [images(task.name, 4, 32), tensor(modelTarget('small', 4, 10))];
  const losses = [1, 2, 3].map(() => step(x, y).item());
  return [losses, ...Object.values(net.stateDict()).map((value) => [...value.data()])];
}

test('three steps of MobileNetV2 captured give the same bits for 1, 2 and 3 threads', async () => {
  const results: number[][][] = [];
  for (const threads of [1, 2, 3]) {
    await init({ threads });
    results.push(trained('captured'));
    await shutdown();
  }
  expect(results[1]).toEqual(results[0]);
  expect(results[2]).toEqual(results[0]);
  expect(results[0]!.flat().every(Number.isFinite)).toBe(true);
});

afterAll(shutdown);

test('captured steps train MobileNetV2 as eager ones do', async () => {
  await init({ threads: 1 });
  const [eager, captured] = [trained('eager'), trained('captured')];
  eager.forEach((values, i) => {
    const scale = Math.max(1e-3, ...values.map(Math.abs));
    expect(worst(captured[i]!, values).error / scale, `tensor ${i}`).toBeLessThan(1e-3);
  });
});

/** Digits padded to 32 x 32 in [0, 1], three times the same channel. */
function digits({ images: pixels }: ImageDataset, first: number, batch: number): Tensor {
  const one = tensor(Float32Array.from(pixels.subarray(784 * first, 784 * (first + batch)), (byte) => byte / 255));
  return pad(one.reshape([batch, 1, 28, 28]), [2, 2, 2, 2])
    .expand([batch, 3, 32, 32])
    .contiguous();
}

test('ResNet-18 learns digits as it does in PyTorch', async () => {
  await shutdown();
  await init({ threads: 1 });
  const { batch, steps, lr, momentum } = mnistCase;
  const data = await mnist();
  const net = models.resnet18({ numClasses: 10 });
  load(net);
  const optimizer = new optim.SGD(net.parameters(), { lr, momentum });
  const step = captureStep((x: Tensor, y: Tensor) => crossEntropy(net.forward(x), y), { optimizer });
  const trainOn = (i: number): number =>
    scope(() => {
      const labels = tensor(Int32Array.from(data.labels.subarray(batch * i, batch * (i + 1))));
      return step(digits(data, batch * i, batch), labels).item();
    });
  const losses = Array.from({ length: steps }, (_, i) => trainOn(i));
  // A step this small multiplies a rounding error by three at most: PyTorch's own float32 leaves the float64 curve by 5e-3 within
  // twelve of them, this engine by 2e-3 at most.
  losses.forEach((loss, i) => {
    expect(Math.abs(loss - mnistLosses[i]!), `loss ${i}: ${loss}, PyTorch ${mnistLosses[i]}`).toBeLessThan(0.006);
  });
  const mean = (part: readonly number[]): number => part.reduce((sum, loss) => sum + loss, 0) / part.length;
  expect(mean(losses.slice(-4))).toBeLessThan(0.9 * mean(losses.slice(0, 4)));
  // Larger steps, whose rounding errors grow, are not compared: they have to learn.
  optimizer.lr = 30 * lr;
  const learnt = Array.from({ length: 2 * steps }, (_, i) => trainOn(i % steps));
  expect(mean(learnt.slice(-4))).toBeLessThan(0.25 * mean(losses.slice(0, 4)));
});

test('the golden answers stay small', () => {
  expect(readFileSync(new URL('./golden/models.json', import.meta.url)).length).toBeLessThan(400_000);
});
