// Captured training steps: what their commands are, and that no pass over them changes a bit.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import * as F from '../ts/functional.ts';
import { channelsLast } from '../ts/ops/copy.ts';
import { fit } from '../ts/train/index.ts';
import {
  type CapturedStep,
  captureStep,
  init,
  keep,
  MemoryLimitError,
  manualSeed,
  memoryStatistics,
  nn,
  noGrad,
  ones,
  optim,
  rand,
  randn,
  shutdown,
  type Tensor,
  tensor,
  zeros,
} from './feathermap.ts';

beforeEach(() => init({ threads: 1, debug: true }));
afterEach(shutdown);

/** Convolutions, a dense layer whose weight is used twice, biases, dropout. */
class Sample extends nn.Module {
  readonly trunk: nn.Sequential;
  readonly twice = new nn.Linear(32, 32);
  readonly head = new nn.Linear(32, 5);

  constructor(noise = 0.3) {
    super();
    this.trunk = new nn.Sequential(
      new nn.Conv2d(3, 8, 3, { padding: 1 }),
      new nn.ReLU(),
      new nn.MaxPool2d(2),
      new nn.Conv2d(8, 8, 3, { padding: 1, groups: 2 }),
      new nn.ReLU(),
      new nn.Dropout(noise),
      new nn.Flatten(),
    );
  }

  forward(x: Tensor): Tensor {
    const y = this.twice.forward(this.trunk.forward(x)).relu();
    return this.head.forward(this.twice.forward(y));
  }
}

const batch = (): [Tensor, Tensor] => [keep(randn([4, 3, 4, 4])), keep(tensor([0, 3, 1, 4], { dtype: 'i32' }))];

const values = (tensors: readonly (Tensor | null)[]): number[][] => tensors.map((t) => [...(t?.data() ?? [])]);

const opsOf = (step: CapturedStep<Tensor>): string[] => step.plan!.commands.map(({ op }) => op);

describe('gradients in a captured step', () => {
  it('are written where the optimiser reads them, in one program with the update, with the bits of eager training', () => {
    const train = (captured: boolean): number[][] => {
      manualSeed(3);
      const net = new Sample();
      const optimizer = new optim.SGD(net.parameters(), { lr: 0.1, momentum: 0.9 });
      const [x, y] = batch();
      const loss = (a: Tensor, b: Tensor): Tensor => F.crossEntropy(net.forward(a), b);
      const step = captureStep(loss, { optimizer });
      const losses: number[] = [];
      for (let i = 0; i < 3; i++) {
        if (captured) losses.push(step(x, y).item());
        else {
          optimizer.zeroGrad();
          const result = loss(x, y);
          result.backward();
          optimizer.step();
          losses.push(result.item());
        }
      }
      const gradients = net.parameters().map(({ grad }) => grad);
      if (captured) {
        // Weight and bias of the layer that is used twice take a second gradient each.
        expect(opsOf(step).filter((op) => op === 'accumulateGrad')).toHaveLength(4);
        // Flattening channels-last images to rows in PyTorch's order, and back.
        expect(opsOf(step).filter((op) => op === 'relayout')).toHaveLength(2);
        expect(opsOf(step).filter((op) => op === 'SGD')).toHaveLength(2);
      }
      return [losses, ...values(gradients), ...values(net.parameters())];
    };
    expect(train(true)).toEqual(train(false));
  });

  it('of a leaf that is used in many ways are right', () => {
    const forms: Record<string, (w: Tensor, v: Tensor, x: Tensor) => Tensor> = {
      once: (w, _v, x) => w.mul(x),
      'twice in one call': (w) => w.add(w),
      'the same gradient for two leaves': (w, v) => w.add(v),
      'one gradient passed on': (w, v, x) => w.add(v.mul(x)),
      'used again after a copy': (w, v, x) => w.add(v).mul(w.mul(x)),
      'through a view': (w, v, x) => w.transpose(0, 1).matmul(v).add(x),
      'the loss itself': (w) => w.sum(),
      'a part': (w, v) =>
        w
          .narrow(0, 0, 1)
          .mul(v.narrow(0, 1, 1))
          .add(v.narrow(0, 0, 1)),
      repeated: (w, _v, x) => w.narrow(0, 0, 1).add(x),
    };
    for (const [name, form] of Object.entries(forms)) {
      const x = keep(rand([3, 3]));
      const leaves = [1, 2].map(() => rand([3, 3]));
      const make = (): [Tensor, Tensor] =>
        leaves.map((leaf) => tensor(leaf.data(), { shape: leaf.shape, requiresGrad: true })) as [Tensor, Tensor];
      const eager = make();
      const captured = make();
      const step = captureStep((a: Tensor) => form(...captured, a).sum());
      for (const zeroed of [true, false, true]) {
        if (zeroed) for (const leaf of [...eager, ...captured]) leaf.grad = null;
        form(...eager, x)
          .sum()
          .backward();
        step(x);
        const grads = (list: readonly Tensor[]): number[][] => values(list.map(({ grad }) => grad));
        expect(grads(captured), `${name}, ${zeroed ? 'zeroed' : 'added'}`).toEqual(grads(eager));
      }
    }
  });

  it('of parameters that the optimiser does not have add up, and unreached parameters stay', () => {
    const make = () => [1, 2, 3].map((value) => tensor([value, value], { requiresGrad: true }));
    const run = (captured: boolean): number[][] => {
      const [trained, other, unreached] = make() as [Tensor, Tensor, Tensor];
      const optimizer = new optim.Adam([trained, unreached], { lr: 0.1 });
      unreached.mul(2).sum().backward();
      const loss = (): Tensor => trained.mul(other).sum();
      const step = captureStep(loss, { optimizer });
      for (let i = 0; i < 3; i++) {
        if (captured) step();
        else {
          optimizer.zeroGrad();
          loss().backward();
          optimizer.step();
        }
      }
      return values([trained, other, unreached, trained.grad, other.grad, unreached.grad]);
    };
    expect(run(true)).toEqual(run(false));
  });

  it('are absent after a step that failed, and nothing was updated', () => {
    const net = new nn.Linear(2, 2);
    const optimizer = new optim.SGD(net.parameters(), { lr: 1 });
    const step = captureStep((x: Tensor, y: Tensor) => F.crossEntropy(net.forward(x), y), { optimizer });
    const x = ones([1, 2]);
    step(x, tensor([1], { dtype: 'i32' }));
    const before = values(net.parameters());
    expect(() => step(x, tensor([2], { dtype: 'i32' }))).toThrow('index or label 2 is out of range');
    expect(values(net.parameters())).toEqual(before);
    expect(net.parameters().map(({ grad }) => grad)).toEqual([null, null]);
  });

  it('that a hook wants to see are refused', () => {
    const w = tensor([1], { requiresGrad: true });
    w.registerHook(() => undefined);
    expect(() => captureStep(() => w.mul(2).sum(), { optimizer: new optim.SGD([w], { lr: 1 }) })()).toThrow(
      'a gradient hook',
    );
  });
});

/** Every way in which an activation may follow a normalisation; additions of branches. */
class Normed extends nn.Module {
  readonly stem = new nn.Sequential(new nn.Conv2d(3, 8, 3, { padding: 1 }), new nn.BatchNorm2d(8), new nn.ReLU());
  readonly conv1 = new nn.Conv2d(8, 8, 3, { padding: 1, bias: false });
  readonly norm1 = new nn.BatchNorm2d(8);
  readonly conv2 = new nn.Conv2d(8, 8, 3, { padding: 1, bias: false });
  readonly norm2 = new nn.BatchNorm2d(8);
  readonly down = new nn.Sequential(new nn.Conv2d(8, 8, 1), new nn.BatchNorm2d(8));
  readonly head = new nn.Sequential(new nn.Flatten(), new nn.Linear(8 * 16, 4));

  forward(x: Tensor): Tensor {
    const a = this.stem.forward(x);
    const b = this.norm2
      .forward(this.conv2.forward(F.relu6(this.norm1.forward(this.conv1.forward(a)))))
      .add(a)
      .relu();
    // The branch comes first, and is normalised too; a clamp whose gradient passes at its bounds; a normalisation read twice.
    const c = this.down
      .forward(b)
      .add(this.norm1.forward(this.conv1.forward(b)))
      .relu();
    const d = this.norm2.forward(this.conv2.forward(c)).clamp({ min: -1, max: 1 });
    const e = this.norm1.forward(d);
    return this.head.forward(e.relu().add(e).add(this.norm2.forward(e)));
  }
}

describe('normalisations in a captured step', () => {
  it('take in additions and clamps, forward and backward, with the bits of eager training', () => {
    const train = (captured: boolean): number[][] => {
      manualSeed(4);
      const net = new Normed();
      const optimizer = new optim.SGD(net.parameters(), { lr: 0.01, momentum: 0.9 });
      const x = keep(randn([4, 3, 4, 4]));
      const y = keep(tensor([0, 3, 1, 2], { dtype: 'i32' }));
      const loss = (a: Tensor, b: Tensor): Tensor => F.crossEntropy(net.forward(a), b);
      const step = captureStep(loss, { optimizer });
      const losses: number[] = [];
      for (let i = 0; i < 3; i++) {
        if (captured) losses.push(step(x, y).item());
        else {
          optimizer.zeroGrad();
          const result = loss(x, y);
          result.backward();
          optimizer.step();
          losses.push(result.item());
        }
      }
      if (captured) {
        const count = (name: string): number => opsOf(step).filter((op) => op === name).length;
        expect([count('relu'), count('hardtanh'), count('clamp'), count('add')]).toEqual([1, 0, 1, 5]);
        expect([count('reluBackward'), count('hardtanhBackward')]).toEqual([3, 0]);
      }
      return [losses, ...values(net.parameters()), ...values(Object.values(net.stateDict()))];
    };
    expect(train(true)).toEqual(train(false));
  });
});

/** A chain of layers with noise, in which activations take most of the memory. */
function deep(): nn.Module {
  const layers: nn.Module[] = [new nn.Conv2d(3, 8, 3, { padding: 1 }), new nn.ReLU()];
  for (let i = 0; i < 8; i++)
    layers.push(new nn.Conv2d(8, 8, 3, { padding: 1 }), new nn.ReLU(), new nn.Dropout(0.1), new nn.Tanh());
  return new nn.Sequential(...layers, new nn.AvgPool2d(8), new nn.Flatten(), new nn.Linear(32, 4));
}

describe('memoryLimit', () => {
  beforeEach(async () => {
    await shutdown();
    await init({ threads: 1 });
  });

  const setUp = () => {
    manualSeed(5);
    const net = deep();
    const optimizer = new optim.SGD(net.parameters(), { lr: 0.1, momentum: 0.9 });
    const x = keep(randn([32, 3, 16, 16]));
    const y = keep(
      tensor(
        [...Array(32).keys()].map((i) => i % 4),
        { dtype: 'i32' },
      ),
    );
    const loss = (a: Tensor, b: Tensor): Tensor => F.crossEntropy(net.forward(a), b);
    return { net, optimizer, x, y, loss };
  };

  it('is met by computing activations twice, without changing a bit, masks of dropout included', () => {
    const run = (share: number) => {
      const { net, optimizer, x, y, loss } = setUp();
      const whole = captureStep(loss, { optimizer }).prepare(x, y);
      const memoryLimit = Math.round(share * whole.peakBytes);
      const step = captureStep(loss, { optimizer, memoryLimit });
      const plan = step.prepare(x, y);
      expect(plan.peakBytes).toBeLessThanOrEqual(memoryLimit);
      const losses = [1, 2, 3].map(() => step(x, y).item());
      expect(step.plan).toEqual(plan);
      return {
        plan,
        values: [losses, ...values(net.parameters()), ...values(net.parameters().map(({ grad }) => grad))],
      };
    };
    const whole = run(1);
    const shares = [0.8, 0.65, 0.5].map(run);
    for (const { plan, values: found } of shares) {
      expect(found).toEqual(whole.values);
      expect(plan.commands.length).toBeGreaterThan(whole.plan.commands.length);
    }
    expect(shares[0]!.plan.macs).toBeLessThan(1.1 * whole.plan.macs);
    expect(shares.at(-1)!.plan.macs).toBeLessThan(1.4 * whole.plan.macs);
  });

  it('holds for the programs of a whole and of a last short batch together', () => {
    const { optimizer, x, y, loss } = setUp();
    const whole = captureStep(loss, { optimizer }).prepare(x, y);
    const memoryLimit = Math.round(0.8 * whole.peakBytes);
    const step = captureStep(loss, { optimizer, memoryLimit });
    const first = step.prepare(x, y).peakBytes;
    const short = x.shape[0]! - 1;
    const both = step.prepare(x.narrow(0, 0, short), y.narrow(0, 0, short)).peakBytes;
    expect(both).toBeGreaterThan(first);
    expect(both).toBeLessThanOrEqual(memoryLimit);
  });

  it('lets the other programs go where all together cannot meet it, for the same bits', () => {
    const run = (limited: boolean) => {
      const { net, optimizer, x, y, loss } = setUp();
      const { peakBytes } = captureStep(loss, { optimizer }).prepare(x, y);
      const step = captureStep(loss, limited ? { optimizer, memoryLimit: peakBytes } : { optimizer });
      const short = keep(x.narrow(0, 0, 31).contiguous());
      const labels = keep(y.narrow(0, 0, 31).clone());
      const losses = [0, 1, 2, 3, 4].map((i) => (i % 2 ? step(short, labels) : step(x, y)).item());
      if (limited) expect(step.plan!.peakBytes).toBeLessThanOrEqual(peakBytes);
      return [losses, ...values(net.parameters())];
    };
    expect(run(true)).toEqual(run(false));
  });

  it('that cannot be met says what the least is, and that can be met', () => {
    const { optimizer, x, y, loss } = setUp();
    const limited = (memoryLimit: number) => captureStep(loss, { optimizer, memoryLimit });
    const least = /^memoryLimit of 100000 bytes cannot be met: this step takes at least (\d+) bytes/;
    let message = '';
    try {
      limited(100_000)(x, y);
    } catch (error) {
      expect(error).toBeInstanceOf(RangeError);
      expect(error).toBeInstanceOf(MemoryLimitError);
      ({ message } = error as Error);
    }
    expect(message).toMatch(least);
    const bytes = Number(least.exec(message)![1]);
    expect(limited(bytes).prepare(x, y).peakBytes).toBe(bytes);
    for (const bad of [0, -1, Number.NaN, '1'])
      expect(() => limited(bad as number)).toThrow('captureStep: memoryLimit is a number of bytes');
  });

  it('never repeats what changes something', () => {
    const { net, x, y, loss } = setUp();
    const runs = keep(zeros([]));
    const counted = (a: Tensor): Tensor => {
      noGrad(() => runs.copy_(runs.add(1)));
      return loss(a.mul(runs), y);
    };
    const whole = captureStep(counted).prepare(x).peakBytes;
    const step = captureStep(counted, { memoryLimit: Math.round(whole / 2) });
    for (let i = 1; i <= 3; i++) {
      step(x);
      expect(runs.item()).toBe(i);
    }
    expect(net.parameters()[0]!.grad).not.toBe(null);
  });
});

describe('threads', () => {
  it('do not change a bit of a step with normalisations, clipping and a memory limit', async () => {
    const train = async (threads: number): Promise<number[][]> => {
      await shutdown();
      await init({ threads });
      manualSeed(8);
      const net = new nn.Sequential(deep(), new nn.Linear(4, 4));
      const head = new Normed();
      const parameters = [...net.parameters(), ...head.parameters()];
      const optimizer = new optim.Adam(parameters, { lr: 0.01 });
      const x = keep(randn([32, 3, 16, 16]));
      const small = keep(randn([32, 3, 4, 4]));
      const y = keep(
        tensor(
          Array.from({ length: 32 }, (_, i) => i % 4),
          { dtype: 'i32' },
        ),
      );
      const loss = (a: Tensor, b: Tensor, c: Tensor): Tensor =>
        F.crossEntropy(net.forward(a), c).add(F.crossEntropy(head.forward(b), c));
      const beforeUpdate = () => nn.utils.clipGradNorm_(parameters, 0.5);
      const { arenaBytes, peakBytes } = captureStep(loss, { optimizer }).prepare(x, small, y);
      const memoryLimit = peakBytes - Math.round(0.3 * arenaBytes);
      const step = captureStep(loss, { optimizer, beforeUpdate, memoryLimit });
      const losses = [1, 2, 3].map(() => step(x, small, y).item());
      return [losses, ...values(parameters)];
    };
    const one = await train(1);
    for (const threads of [2, 3]) expect(await train(threads)).toEqual(one);
  });
});

describe('clipGradNorm_', () => {
  const gradients = (): Tensor[] => {
    const shapes = [[5], [40_000], [3, 7], [0]];
    return shapes.map((shape, k) => {
      const w = zeros(shape, { requiresGrad: true });
      if (w.size)
        w.mul(rand(shape).sub(0.3 * k))
          .sum()
          .backward();
      return w;
    });
  };

  it('scales all gradients to the norm that they have together, as PyTorch', () => {
    for (const normType of [2, Number.POSITIVE_INFINITY] as const)
      for (const maxNorm of [0, 0.5, 3, 1e6]) {
        const leaves = [...gradients(), zeros([3], { requiresGrad: true })];
        const before = values(leaves.map(({ grad }) => grad));
        const all = before.flat();
        const expected = normType === 2 ? Math.hypot(...all) : Math.max(...all.map(Math.abs));
        const norm = nn.utils.clipGradNorm_(leaves, maxNorm, { normType }).item();
        expect(Math.abs(norm - expected)).toBeLessThan(1e-5 * expected);
        const factor = Math.min(1, maxNorm / (norm + 1e-6));
        const after = values(leaves.map(({ grad }) => grad)).flat();
        const wrong = after.filter(
          (value, i) => !(Math.abs(value - all[i]! * factor) < 1e-6 * Math.abs(all[i]!) + 1e-9),
        );
        expect(wrong).toEqual([]);
      }
  });

  it('shows NaN, takes single tensors, and refuses what is no norm', () => {
    const w = tensor([1, 2], { requiresGrad: true });
    expect(nn.utils.clipGradNorm_(w, 1).item()).toBe(0);
    w.mul(tensor([Number.NaN, 1]))
      .sum()
      .backward();
    for (const normType of [2, Number.POSITIVE_INFINITY] as const)
      expect(nn.utils.clipGradNorm_(w, 1, { normType }).item()).toBe(Number.NaN);
    expect(() => nn.utils.clipGradNorm_([w], -1)).toThrow('clipGradNorm_: maxNorm must be a number >= 0, got -1');
    expect(() => nn.utils.clipGradNorm_([w], 1, { normType: 1 as 2 })).toThrow('normType is 2 or Infinity, got 1');
    expect(() => nn.utils.clipGradNorm_([1 as never], 1)).toThrow('clipGradNorm_: expected a Tensor, got a number');
  });

  it('goes into a captured step, and into fit', async () => {
    const batches = [1, 2, 3, 4].map(batch);
    const train = async (road: 'eager' | 'captured' | 'fit' | 'accumulated'): Promise<number[][]> => {
      manualSeed(3);
      const net = new Sample(0);
      const optimizer = new optim.SGD(net.parameters(), { lr: 0.5 });
      const clip = () => nn.utils.clipGradNorm_(net.parameters(), 0.1);
      const loss = (a: Tensor, b: Tensor): Tensor => F.crossEntropy(net.forward(a), b);
      const step = captureStep(loss, { optimizer, beforeUpdate: clip });
      if (road === 'fit' || road === 'accumulated') {
        const train = road === 'fit' ? batches : batches.flatMap((each) => [each, each]);
        const accumulate = road === 'fit' ? 1 : 2;
        await fit(net, { train, loss: F.crossEntropy, optimizer, accumulate, clipGradNorm: 0.1, memoryLimit: 1e9 });
      } else
        for (const [x, y] of batches) {
          if (road === 'captured') step(x, y);
          else {
            optimizer.zeroGrad();
            loss(x, y).backward();
            clip();
            optimizer.step();
          }
        }
      return values(net.parameters());
    };
    const eager = await train('eager');
    for (const road of ['captured', 'fit'] as const) expect(await train(road), road).toEqual(eager);
    // Every batch twice, in halves: the layer that is used twice adds its four gradients in another order.
    const accumulated = (await train('accumulated')).flat();
    const expected = eager.flat();
    expect(Math.max(...accumulated.map((value, i) => Math.abs(value - expected[i]!)))).toBeLessThan(1e-5);
  });

  it('without an optimizer is refused', () => {
    expect(() => captureStep(() => ones([]), { beforeUpdate: () => {} })).toThrow('beforeUpdate is a function');
  });
});

describe('prepare', () => {
  it('says to the byte what the step will take, before it runs, and trains nothing', async () => {
    await shutdown();
    await init({ threads: 1 });
    const net = new Sample();
    const optimizer = new optim.Adam(net.parameters());
    const step = captureStep((a: Tensor, b: Tensor) => F.crossEntropy(net.forward(a), b), { optimizer });
    const [x, y] = batch();
    const before = values(net.parameters());
    const plan = step.prepare(x, y);
    expect(values(net.parameters())).toEqual(before);
    expect(net.parameters().map(({ grad }) => grad)).toEqual(before.map(() => null));
    step(x, y).dispose();
    const loss = step(x, y);
    expect(memoryStatistics().allocatedBytes).toBe(plan.peakBytes);
    loss.dispose();
  });

  it('finds the largest batch that fits', async () => {
    await shutdown();
    await init({ threads: 1 });
    const net = deep();
    const optimizer = new optim.SGD(net.parameters(), { lr: 0.1 });
    const loss = (a: Tensor, b: Tensor): Tensor => F.crossEntropy(net.forward(a), b);
    const data = (n: number): [Tensor, Tensor] => [
      channelsLast(zeros([n, 3, 16, 16])),
      tensor(new Array(n).fill(1), { dtype: 'i32' }),
    ];
    const peak = (n: number, memoryLimit?: number) =>
      captureStep(loss, { optimizer, memoryLimit }).prepare(...data(n)).peakBytes;
    const step = captureStep(loss, { optimizer });
    const before = memoryStatistics().blocks;
    for (const bytes of [1_000_000, 3_000_000, peak(17), peak(17) - 1]) {
      const most = step.largestBatch(bytes, ...data(4));
      expect(peak(most)).toBeLessThanOrEqual(bytes);
      expect(peak(most + 1)).toBeGreaterThan(bytes);
    }
    expect(step.largestBatch(peak(17), ...data(4))).toBe(17);
    const saving = captureStep(loss, { optimizer, memoryLimit: 3_000_000 });
    const most = saving.largestBatch(3_000_000, ...data(2));
    expect(most).toBeGreaterThan(step.largestBatch(3_000_000, ...data(2)));
    expect(peak(most, 3_000_000)).toBeLessThanOrEqual(3_000_000);
    // An epoch of such batches may end with a shorter one, and another follows.
    for (const samples of [most, most - 1, most]) {
      expect(saving(...data(samples)).item()).toBeGreaterThan(0);
      expect(saving.plan!.peakBytes).toBeLessThanOrEqual(3_000_000);
    }
    expect(step.largestBatch(1000, ...data(4))).toBe(0);
    expect(step.plan).toBe(null);
    expect(before).toBeGreaterThan(0);
    expect(() => step.largestBatch(0, ...data(4))).toThrow('largestBatch: expected a number of bytes, got 0');
    expect(() => step.largestBatch(1e6, ones([]))).toThrow('largestBatch: the first input has no dimension of samples');
  });

  it('is not needed for a profile, which trains as the step does', () => {
    const train = (profiled: boolean): number[][] => {
      manualSeed(6);
      const net = new Sample(0);
      const optimizer = new optim.SGD(net.parameters(), { lr: 0.1 });
      const step = captureStep((a: Tensor, b: Tensor) => F.crossEntropy(net.forward(a), b), { optimizer });
      const [x, y] = batch();
      if (profiled) {
        const profile = step.profile([x, y], 3);
        expect(profile.layers.map(({ op }) => op)).toContain('conv2dWeightGrad');
        expect(profile.layers.every(({ milliseconds }) => milliseconds! >= 0)).toBe(true);
      } else for (let i = 0; i < 3; i++) step(x, y);
      return values(net.parameters());
    };
    expect(train(true)).toEqual(train(false));
  });

  it('before shutdown leaves a step that says so', async () => {
    const w = tensor([1], { requiresGrad: true });
    const step = captureStep((x: Tensor) => w.mul(x).sum());
    step.prepare(ones([1]));
    await shutdown();
    await init({ threads: 1 });
    expect(() => step(ones([1]))).toThrow('was made before shutdown()');
    step.dispose();
  });
});
