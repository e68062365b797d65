// fit, evaluate and confusionMatrix on small problems that are made up here.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import * as F from '../ts/functional.ts';
import { lenet } from '../ts/models/lenet.ts';
import { type Batches, confusionMatrix, evaluate, type FitOptions, fit } from '../ts/train/index.ts';
import {
  init,
  keep,
  manualSeed,
  memoryStatistics,
  nn,
  ones,
  optim,
  rand,
  shutdown,
  type Tensor,
  tensor,
  zeros,
} from './feathermap.ts';

afterEach(async () => {
  vi.restoreAllMocks();
  await shutdown();
});

type Batch = readonly [Tensor, Tensor];

/** Noisy 8x8 images with a bright stripe in one of four places; the label is the place. */
function stripes(sizes: readonly number[]): Batch[] {
  let next = 0;
  return sizes.map((size) => {
    const noise = rand([size, 1, 8, 8]).data();
    const labels = Array.from({ length: size }, () => next++ % 4);
    labels.forEach((label, i) => {
      for (let at = 0; at < 16; at++) noise[i * 64 + label * 16 + at]! += 1;
    });
    return [keep(tensor(noise, { shape: [size, 1, 8, 8] })), keep(tensor(labels, { dtype: 'i32' }))];
  });
}

const model = (): nn.Sequential =>
  new nn.Sequential(
    new nn.Conv2d(1, 4, 3, { padding: 1 }),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Flatten(),
    new nn.Linear(64, 4),
  );

const weightsOf = (net: nn.Module): Float32Array[] =>
  net.parameters().map((parameter) => parameter.data() as Float32Array);

/** 32-bit FNV-1a over the bits of all weights. */
function hashOf(net: nn.Module): number {
  let hash = 0x811c9dc5;
  for (const { buffer } of weightsOf(net))
    for (const byte of new Uint8Array(buffer)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

/** Trains a fresh model on the same data; what is the same each time is left out of `options`. */
async function trained(
  options: Partial<FitOptions> & { lr?: number; sizes?: number[]; net?: nn.Module } = {},
): Promise<{ net: nn.Module; history: Awaited<ReturnType<typeof fit>>; optimizer: optim.SGD }> {
  const { lr = 0.1, sizes = [8, 8, 8, 8], net: given, ...rest } = options;
  manualSeed(4);
  const train = stripes(sizes);
  const net = given ?? model();
  const optimizer = new optim.SGD(net.parameters(), { lr, momentum: 0.9 });
  const history = await fit(net, { train, loss: F.crossEntropy, optimizer, ...rest });
  return { net, history, optimizer };
}

describe('fit', () => {
  beforeEach(() => init({ threads: 1 }));

  it('learns, and says how', async () => {
    const test = stripes([10, 5]);
    const { net, history } = await trained({ epochs: 6, test });
    expect(history.map(({ epoch }) => epoch)).toEqual([1, 2, 3, 4, 5, 6]);
    const [first, last] = [history[0]!, history.at(-1)!];
    expect(last.loss).toBeLessThan(first.loss / 2);
    expect([last.trainAccuracy, last.testAccuracy]).toEqual([1, 1]);
    expect({ loss: last.testLoss, accuracy: last.testAccuracy }).toEqual(evaluate(net, test, { loss: F.crossEntropy }));
    expect(last.seconds).toBeGreaterThan(0);
  });

  it('gives NaN for what it cannot know: test results without test, accuracy without labels', async () => {
    const net = new nn.Linear(3, 1);
    const optimizer = new optim.SGD(net.parameters(), { lr: 0.01 });
    const [result] = await fit(net, { train: [[ones([4, 3]), zeros([4, 1])]], loss: F.mseLoss, optimizer });
    expect(result).toMatchObject({
      trainAccuracy: Number.NaN,
      testLoss: Number.NaN,
      testAccuracy: Number.NaN,
    });
    expect(result!.loss).toBeGreaterThan(0);
  });

  it('computes what a loop by hand computes, bit for bit', async () => {
    const { net } = await trained({ epochs: 3 });
    manualSeed(4);
    const train = stripes([8, 8, 8, 8]);
    const own = model();
    const optimizer = new optim.SGD(own.parameters(), { lr: 0.1, momentum: 0.9 });
    for (let epoch = 0; epoch < 3; epoch++)
      for (const [x, y] of train) {
        optimizer.zeroGrad();
        F.crossEntropy(own.forward(x), y).backward();
        optimizer.step();
      }
    expect(weightsOf(net)).toEqual(weightsOf(own));
  });

  it('averages loss and accuracy over samples, the short last batch included', async () => {
    manualSeed(4);
    const train = stripes([8, 8, 3]);
    const net = model();
    const { loss, accuracy } = evaluate(net, train, { loss: F.crossEntropy });
    const optimizer = new optim.SGD(net.parameters(), { lr: 0 });
    const batches: unknown[] = [];
    const onBatch = (...args: unknown[]): void => void batches.push(args);
    const [result] = await fit(net, { train, loss: F.crossEntropy, optimizer, onBatch });
    expect(result!.loss).toBeCloseTo(loss, 6);
    expect(result!.trainAccuracy).toBe(accuracy);
    expect(batches.map((args) => (args as unknown[]).slice(0, 2))).toEqual([
      [0, 3],
      [1, 3],
      [2, 3],
    ]);
  });

  it('with accumulate makes one update of several batches, as of one large batch', async () => {
    const join = (batches: Batch[]): Batch => [
      keep(F.cat(batches.map(([x]) => x))),
      keep(F.cat(batches.map(([, y]) => y))),
    ];
    const small = await trained({ epochs: 3, accumulate: 2 });
    manualSeed(4);
    const parts = stripes([8, 8, 8, 8]);
    const large = await trained({ epochs: 3, train: [join(parts.slice(0, 2)), join(parts.slice(2))] });
    weightsOf(small.net).forEach((w, i) => {
      const worst = Math.max(...w.map((value, j) => Math.abs(value - weightsOf(large.net)[i]![j]!)));
      // Six updates, each rounded in another order: some units in the last place of weights below 1.
      expect(worst).toBeLessThan(2e-6);
    });
  });

  it('with accumulate updates also at the end of an epoch, with the mean of what is left', async () => {
    const whole = await trained({ epochs: 2, accumulate: 3, sizes: [8, 8, 8, 8] });
    manualSeed(4);
    const train = stripes([8, 8, 8, 8]);
    const own = model();
    const optimizer = new optim.SGD(own.parameters(), { lr: 0.1, momentum: 0.9 });
    for (let epoch = 0; epoch < 2; epoch++)
      for (const group of [train.slice(0, 3), train.slice(3)]) {
        optimizer.zeroGrad();
        for (const [x, y] of group) F.crossEntropy(own.forward(x), y).backward({ gradient: tensor(1 / group.length) });
        optimizer.step();
      }
    expect(weightsOf(whole.net)).toEqual(weightsOf(own));
  });

  it('steps the schedule after each epoch', async () => {
    manualSeed(4);
    const net = model();
    const optimizer = new optim.SGD(net.parameters(), { lr: 1 });
    const schedule = new optim.StepLR(optimizer, 2, { gamma: 0.1 });
    const rates: number[] = [];
    const onEpoch = (): void => void rates.push(optimizer.lr);
    await fit(net, { train: stripes([4]), loss: F.crossEntropy, optimizer, epochs: 4, schedule, onEpoch });
    expect(rates.map((rate) => rate.toFixed(3))).toEqual(['1.000', '0.100', '0.100', '0.010']);
  });

  it('ends when onEpoch returns or resolves to false', async () => {
    expect((await trained({ epochs: 9, onEpoch: ({ epoch }) => epoch < 2 })).history.length).toBe(2);
    expect((await trained({ epochs: 9, onEpoch: async ({ epoch }) => epoch < 3 })).history.length).toBe(3);
    expect((await trained({ epochs: 2, onEpoch: () => undefined })).history.length).toBe(2);
  });

  it('ends with the reason of an aborted signal, and leaves what was learned', async () => {
    const net = model().eval();
    const before = weightsOf(net);
    const controller = new AbortController();
    const reason = new Error('enough');
    let batches = 0;
    const onBatch = (): void => {
      if (++batches === 3) controller.abort(reason);
    };
    await expect(trained({ net, epochs: 9, onBatch, signal: controller.signal })).rejects.toBe(reason);
    expect(batches).toBe(3);
    expect(weightsOf(net)).not.toEqual(before);
    expect(net.training).toBe(false);
    await expect(trained({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    for (const parameter of net.parameters()) parameter.dispose();
  });

  it('gives timers a turn, so that a signal can come from outside', async () => {
    const signal = AbortSignal.timeout(50);
    await expect(trained({ epochs: 1e9, signal })).rejects.toMatchObject({ name: 'TimeoutError' });
  });

  it('puts every module back into its own mode', async () => {
    const net = new nn.Sequential(new nn.Flatten(), new nn.Dropout(0.5), new nn.Linear(64, 4));
    net[1]!.eval();
    const modes: boolean[] = [];
    await trained({ net, test: stripes([4]), onEpoch: () => void modes.push(net.training, net[1]!.training) });
    expect(modes).toEqual([true, true]);
    expect([net.training, net[1]!.training, net[2]!.training]).toEqual([true, false, true]);
    net.eval();
    await expect(
      trained({
        net,
        loss: () => {
          throw new Error('mine');
        },
      }),
    ).rejects.toThrow('mine');
    expect(net.training).toBe(false);
  });

  it('leaves no memory behind', async () => {
    const net = model();
    manualSeed(4);
    const options = { train: stripes([8, 8, 4]), test: stripes([4, 4, 2]), loss: F.crossEntropy, epochs: 2 };
    const optimizer = new optim.SGD(net.parameters(), { lr: 0.1, momentum: 0.9 });
    await fit(net, { ...options, optimizer });
    const { blocks, allocatedBytes } = memoryStatistics();
    await fit(net, { ...options, optimizer });
    expect(memoryStatistics()).toMatchObject({ blocks, allocatedBytes });
  });

  it('trains eagerly, with one warning, if the model reads values, and learns the same', async () => {
    class Peeking extends nn.Module {
      readonly inner = model();
      forward(x: Tensor): Tensor {
        const y = this.inner.forward(x);
        if (!Number.isFinite(y.sum().item())) throw new Error('diverged');
        return y;
      }
    }
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    const test = stripes([4]);
    const plain = await trained({ epochs: 2, accumulate: 3, test });
    expect(warn).not.toHaveBeenCalled();
    // Drawn after the data, as `trained` does it.
    manualSeed(4);
    stripes([8, 8, 8, 8]);
    const peeking = new Peeking();
    const eager = await trained({
      epochs: 2,
      accumulate: 3,
      test,
      net: peeking,
    });
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0]![0]).toMatch(
      /^fit: training eagerly, because the step cannot be captured: item: Tensor\(\[\], f32, requiresGrad\) has no value while a step is being captured \(in Peeking\)/,
    );
    expect(weightsOf(eager.net)).toEqual(weightsOf(plain.net));
    expect(eager.history.map(({ seconds, ...rest }) => rest)).toEqual(
      plain.history.map(({ seconds, ...rest }) => rest),
    );
  });

  it('trains eagerly if there are hooks, and calls them', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    const net = model();
    let calls = 0;
    net.parameters()[0]!.registerHook(() => {
      calls++;
      return undefined;
    });
    await trained({ net });
    expect([calls, warn.mock.calls.length]).toEqual([4, 1]);
  });

  it.each<[string, Partial<Record<keyof FitOptions, unknown>> & object, string]>([
    ['train', { train: undefined }, 'fit: train must be a DataLoader or an array of [x, y] batches'],
    ['a batch', { train: [[1, 2, 3]] }, 'fit: batch 0 of train is not a pair [x, y], got 1,2,3'],
    ['what loss returns', { loss: () => 3 }, 'the loss function must return a Tensor'],
    ['no batches', { train: [] }, 'fit: train has no batches'],
    ['loss', { loss: 'crossEntropy' }, 'fit: loss must be a function of output and target or a module, got string'],
    ['optimizer', { optimizer: {} }, 'fit: optimizer must be an optimiser such as optim.SGD'],
    ['epochs', { epochs: 0 }, 'fit: epochs must be a whole number >= 1, got 0'],
    ['accumulate', { accumulate: 1.5 }, 'fit: accumulate must be a whole number >= 1, got 1.5'],
    ['an unknown one', { optimiser: 1 } as object, "fit: unknown option 'optimiser', known are train, test, loss"],
  ])('refuses bad options: %s', async (_, options, message) => {
    await expect(trained(options as Partial<FitOptions>)).rejects.toThrow(message);
  });

  it('passes on a label out of range, and can be called again', async () => {
    const net = model();
    const before = weightsOf(net);
    const bad: Batches = [[rand([2, 1, 8, 8]), tensor([1, 4], { dtype: 'i32' })]];
    await expect(trained({ net, train: bad })).rejects.toThrow(
      'crossEntropy: index or label 4 is out of range, expected 0 to 3',
    );
    expect(weightsOf(net)).toEqual(before);
    expect((await trained({ net })).history.length).toBe(1);
  });
});

describe('the bits of fit', () => {
  const train = async (threads: number, deterministic: boolean): Promise<Float32Array[]> => {
    await init({ threads, deterministic });
    manualSeed(2);
    const net = lenet();
    const optimizer = new optim.Adam(net.parameters(), { lr: 0.003 });
    const batches = [1, 2, 3].map(
      (k): Batch => [
        keep(rand([32, 1, 28, 28])),
        keep(
          tensor(
            Array.from({ length: 32 }, (_, i) => (i * k) % 10),
            { dtype: 'i32' },
          ),
        ),
      ],
    );
    await fit(net, { train: batches, loss: F.crossEntropy, optimizer, epochs: 2 });
    const weights = weightsOf(net);
    await shutdown();
    return weights;
  };

  it('do not depend on the number of threads', async () => {
    const one = await train(1, false);
    expect(await train(2, false)).toEqual(one);
  });

  it('are the same on every engine and machine with deterministic', async () => {
    await init({ threads: 2, deterministic: true });
    const net = new nn.Sequential(
      new nn.Conv2d(1, 4, 3, { padding: 1 }),
      new nn.Sigmoid(),
      new nn.MaxPool2d(2),
      new nn.Conv2d(4, 6, 3),
      new nn.Tanh(),
      new nn.Dropout(0.2),
      new nn.Flatten(),
      new nn.Linear(24, 4),
    );
    manualSeed(4);
    for (const parameter of net.parameters()) nn.init.normal_(parameter, 0, 0.2);
    const optimizer = new optim.AdamW(net.parameters(), { lr: 0.01, weightDecay: 0.1 });
    const schedule = new optim.CosineAnnealingLR(optimizer, 5);
    await fit(net, { train: stripes([8, 8, 8, 5]), loss: F.crossEntropy, optimizer, schedule, epochs: 5 });
    // Twenty steps. Seen under Node 20 and Node 24, on one and several threads.
    expect(hashOf(net).toString(16)).toBe('ec1b3216');
  });
});

describe('evaluate and confusionMatrix', () => {
  beforeEach(() => init({ threads: 1 }));

  /** Says that the class is the place of the largest input. */
  class Echo extends nn.Module {
    forward(x: Tensor): Tensor {
      return x.mul(1);
    }
  }
  const scores = (classes: number[]): Tensor => tensor(classes.map((hit) => [0, 1, 2].map((i) => (i === hit ? 5 : 0))));
  const labels = (values: number[]): Tensor => tensor(values, { dtype: 'i32' });

  it('count', () => {
    const batches: Batch[] = [
      [scores([0, 1, 2, 2]), labels([0, 1, 2, 0])],
      [scores([1, 1]), labels([1, 2])],
    ];
    expect(evaluate(new Echo(), batches).accuracy).toBeCloseTo(4 / 6, 12);
    expect(evaluate(new Echo(), batches).loss).toBe(Number.NaN);
    expect(confusionMatrix(new Echo(), batches, 3)).toEqual([
      [1, 0, 1],
      [0, 2, 0],
      [0, 1, 1],
    ]);
    const { loss } = evaluate(new Echo(), batches, { loss: F.crossEntropy });
    const right = Math.log(1 + 2 * Math.exp(-5));
    expect(loss).toBeCloseTo((4 * right + 2 * (right + 5)) / 6, 5);
  });

  it('run in evaluation mode without gradients, and put the modes back', () => {
    const seen: unknown[] = [];
    class Watching extends nn.Module {
      readonly drop = new nn.Dropout(0.9);
      forward(x: Tensor): Tensor {
        const y = this.drop.forward(x);
        seen.push(this.training, this.drop.training, y.requiresGrad);
        return y;
      }
    }
    const net = new Watching();
    net.drop.eval();
    const x = scores([0, 1]);
    x.requiresGrad = true;
    expect(evaluate(net, [[x, labels([0, 1])]]).accuracy).toBe(1);
    expect(seen.slice(0, 2)).toEqual([false, false]);
    expect([net.training, net.drop.training]).toEqual([true, false]);
    expect([...x.data()].length).toBe(6);
  });

  it('run eagerly for models that read values', () => {
    class Peeking extends nn.Module {
      forward(x: Tensor): Tensor {
        return x.mul(x.sum().item());
      }
    }
    const before = memoryStatistics().blocks;
    const batch: Batch = [scores([0, 1]), labels([0, 2])];
    expect(evaluate(new Peeking(), [batch, batch], { loss: F.crossEntropy }).accuracy).toBe(0.5);
    expect(memoryStatistics().blocks).toBe(before + 2);
  });

  it('leave the batch alone when the model only reshapes it', () => {
    const x = scores([0, 1]);
    evaluate(new nn.Flatten(), [[x, labels([0, 1])]]);
    expect(x.sum().item()).toBe(10);
  });

  it('leave no memory behind', () => {
    const net = model();
    const batches = stripes([4, 4, 2]);
    evaluate(net, batches, { loss: F.crossEntropy });
    const { blocks } = memoryStatistics();
    evaluate(net, batches, { loss: F.crossEntropy });
    confusionMatrix(net, batches, 4);
    expect(memoryStatistics().blocks).toBe(blocks);
  });

  it('refuse what does not fit', () => {
    const x = scores([0]);
    expect(() => evaluate(new Echo(), [[x, labels([0])]], { los: 1 } as never)).toThrow(
      "evaluate: unknown option 'los'",
    );
    expect(() => evaluate(new Echo(), [[x, labels([7])]], { loss: F.crossEntropy })).toThrow(
      'crossEntropy: index or label 7 is out of range, expected 0 to 2',
    );
    for (const label of [3, -1])
      expect(() => confusionMatrix(new Echo(), [[x, labels([label])]], 3)).toThrow(
        `confusionMatrix: label ${label} is out of range, expected 0 to 2`,
      );
    expect(() => confusionMatrix(new Echo(), [[x, labels([0])]], 2)).toThrow(
      'confusionMatrix: output [1,3] has no row of 2 class scores',
    );
    expect(() => confusionMatrix(new Echo(), [], 0)).toThrow(
      'confusionMatrix: classes must be a whole number >= 1, got 0',
    );
  });
});
