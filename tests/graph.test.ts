// Captured steps and compiled models: that they compute what eager code computes, when they capture anew, what they refuse,
// and where their buffers lie.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import * as F from '../ts/functional.ts';
import { type Lifetime, place } from '../ts/graph/planner.ts';
import { SLACK } from '../ts/runtime/heap.ts';
import { Storage } from '../ts/runtime/storage.ts';
import { EveryLayer } from './every-layer.ts';
import {
  arange,
  CaptureError,
  captureStep,
  compile,
  init,
  keep,
  manualSeed,
  memoryStatistics,
  nn,
  ones,
  optim,
  rand,
  randn,
  shutdown,
  type Tensor,
  tensor,
} from './feathermap.ts';

afterEach(shutdown);

const labels = (values: number[]): Tensor => tensor(values, { dtype: 'i32' });

function batches(count: number, size = 6): [Tensor, Tensor][] {
  return Array.from({ length: count }, (_, k) => [
    keep(rand([size, 1, 8, 8])),
    keep(labels(Array.from({ length: size }, (_, i) => (i + k) % 3))),
  ]);
}

const weightsOf = (net: nn.Module): Float32Array[] =>
  net.parameters().map((parameter) => parameter.data() as Float32Array);

/** Losses and weights of some steps of everything, on a road of one's choice. */
function train(
  road: 'eager' | 'captured',
  steps: number,
): { losses: number[]; weights: Float32Array[]; after: number } {
  manualSeed(5);
  const data = batches(3);
  const net = new EveryLayer();
  const optimizer = new optim.Adam(net.parameters(), { lr: 0.01 });
  const loss = (x: Tensor, y: Tensor): Tensor => F.crossEntropy(net.forward(x), y);
  const eager = (x: Tensor, y: Tensor): Tensor => {
    optimizer.zeroGrad();
    const value = loss(x, y);
    value.backward();
    optimizer.step();
    return value;
  };
  const step = road === 'eager' ? eager : captureStep(loss, { optimizer });
  const losses = Array.from({ length: steps }, (_, i) => step(...data[i % 3]!).item());
  return { losses, weights: weightsOf(net), after: rand([1]).item() };
}

describe('a captured step computes what the eager one does, bit for bit', () => {
  it('with every kind of layer, dropout and noise, on 1 and on 3 threads', async () => {
    await init({ threads: 1 });
    const eager = train('eager', 7);
    expect(new Set(eager.losses).size).toBe(7);
    expect(train('captured', 7)).toEqual(eager);
    await shutdown();
    await init({ threads: 3 });
    expect(train('captured', 7)).toEqual(eager);
    expect(train('eager', 7)).toEqual(eager);
  });

  it('draws the masks that manualSeed says, replay after replay', async () => {
    await init({ threads: 1 });
    const x = ones([1000]);
    const w = ones([1], { requiresGrad: true });
    const step = captureStep(() => {
      const y = F.dropout(x.mul(w), { p: 0.4 });
      return [y.sum(), y, randn([3])];
    });
    const draw = (): number[][] => step().map((t) => [...t.data()]);
    manualSeed(9);
    const [first, second] = [draw(), draw()];
    expect(first).not.toEqual(second);
    manualSeed(9);
    expect([draw(), draw()]).toEqual([first, second]);
    manualSeed(9);
    expect([...F.dropout(x.mul(w), { p: 0.4 }).data()]).toEqual(first[1]);
    expect([...randn([3]).data()]).toEqual(first[2]);
  });
});

describe('a captured step', () => {
  beforeEach(() => init({ threads: 1 }));

  /** A captured step over a small model, and how often its function ran. */
  function counted(net: nn.Module, optimizer?: optim.SGD) {
    const count = { captures: 0 };
    const step = captureStep(
      (x, y) => {
        count.captures++;
        return F.crossEntropy(net.forward(x), y);
      },
      { optimizer },
    );
    return { step, count };
  }
  const small = () =>
    new nn.Sequential(new nn.Flatten(), new nn.Linear(64, 8), new nn.Dropout(0.5), new nn.Linear(8, 3));

  it('captures anew for another batch size, mode or set of trainable parameters, and finds the old programs again', () => {
    const net = small();
    const { step, count } = counted(net, new optim.SGD(net.parameters(), { lr: 0.1 }));
    const [[x, y]] = batches(1) as [[Tensor, Tensor]];
    const [[x2, y2]] = batches(1, 2) as [[Tensor, Tensor]];
    const captures = (action: () => unknown): number => {
      const before = count.captures;
      action();
      return count.captures - before;
    };
    expect(captures(() => step(x, y))).toBe(1);
    expect(captures(() => step(x, y))).toBe(0);
    expect(captures(() => step(x2, y2))).toBe(1);
    net.eval();
    expect(captures(() => step(x, y))).toBe(1);
    net.train();
    const frozen = net[1] as nn.Linear;
    frozen.requiresGrad_(false);
    const before = [...frozen.weight.data()];
    expect(captures(() => step(x, y))).toBe(1);
    expect([...frozen.weight.data()]).toEqual(before);
    frozen.requiresGrad_();
    expect(captures(() => [step(x, y), step(x2, y2), net.eval(), step(x, y)])).toBe(0);
    expect([...frozen.weight.data()]).not.toEqual(before);
  });

  it('gives a frozen layer no gradient and no update', () => {
    const net = small().eval();
    (net[1] as nn.Linear).requiresGrad_(false);
    const { step } = counted(net, new optim.SGD(net.parameters(), { lr: 0.1, weightDecay: 0.5 }));
    const before = weightsOf(net);
    step(...batches(1)[0]!);
    expect(net.parameters().map(({ grad }) => grad !== null)).toEqual([false, false, true, true]);
    expect(weightsOf(net).map((w, i) => w.join() === before[i]!.join())).toEqual([true, true, false, false]);
  });

  it('follows learning rate, schedule and momentum without a new capture', () => {
    const run = (captured: boolean): number[] => {
      const w = tensor([1, -2], { requiresGrad: true });
      const optimizer = new optim.SGD([w], { lr: 0.1, momentum: 0.9 });
      const schedule = new optim.CosineAnnealingLR(optimizer, 4);
      let captures = 0;
      const loss = (): Tensor => {
        captures++;
        return w.mul(w).sum();
      };
      const step = captured
        ? captureStep(loss, { optimizer })
        : () => {
            optimizer.zeroGrad();
            loss().backward();
            optimizer.step();
          };
      for (let i = 0; i < 4; i++) {
        step();
        schedule.step();
      }
      optimizer.paramGroups[0]!.momentum = 0.5;
      optimizer.lr = 0.3;
      step();
      if (captured) expect(captures).toBe(1);
      return [...w.data()];
    };
    expect(run(true)).toEqual(run(false));
  });

  it('sees weights loaded, changed in place and reinitialised between replays', () => {
    const net = small().eval();
    const { step, count } = counted(net);
    const [x, y] = batches(1)[0]!;
    const first = step(x, y).item();
    const saved = Object.fromEntries(Object.entries(net.stateDict()).map(([name, t]) => [name, t.clone()]));
    for (const parameter of net.parameters()) nn.init.zeros_(parameter);
    expect(step(x, y).item()).toBeCloseTo(Math.log(3), 6);
    net.loadStateDict(saved);
    expect(step(x, y).item()).toBe(first);
    expect(count.captures).toBe(1);
  });

  it('without an optimiser adds gradients up until they are zeroed', () => {
    const w = tensor([1, 2], { requiresGrad: true });
    const step = captureStep((x: Tensor) => w.mul(x).sum());
    const x = tensor([3, 5]);
    for (const k of [1, 2, 3]) {
      step(x);
      expect([...w.grad!.data()]).toEqual([3 * k, 5 * k]);
    }
    w.grad = null;
    step(x);
    expect([...w.grad!.data()]).toEqual([3, 5]);
    w.mul(2).sum().backward();
    expect([...w.grad!.data()]).toEqual([5, 7]);
  });

  it('returns what the function returns: several tensors, views, parameters and inputs', () => {
    const w = tensor([1, 2, 3, 4], { requiresGrad: true });
    const step = captureStep((x: Tensor) => {
      const y = w.mul(x);
      return [y.sum(), y.reshape([2, 2]).transpose(0, 1), x.reshape([2, 2]), w] as const;
    });
    const whole = arange(8);
    const results = step(whole.slice([[4, 8]]));
    expect(results.map((t) => [...t.data()])).toEqual([[60], [4, 18, 10, 28], [4, 5, 6, 7], [1, 2, 3, 4]]);
    expect(results[1].shape).toEqual([2, 2]);
    step(whole.slice([[0, 4]]));
    expect([...whole.data()]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect([...w.data()]).toEqual([1, 2, 3, 4]);
  });

  it('leaves tensors from outside that it returns alone', () => {
    const w = tensor([2], { requiresGrad: true });
    const outside = tensor([1, 2, 3, 4]);
    const step = captureStep((x: Tensor) => [w.mul(x).sum(), outside, outside.reshape([2, 2])] as const);
    const x = tensor([4]);
    for (let i = 0; i < 3; i++) step(x);
    step.profile([x]);
    expect([...outside.data()]).toEqual([1, 2, 3, 4]);
  });

  it('keeps results readable until the next call ends', () => {
    const w = tensor([2], { requiresGrad: true });
    const step = captureStep((x: Tensor) => w.mul(x).sum());
    const [a, b] = [step(tensor([1])), keep(step(tensor([2])))];
    const c = step(tensor([3]));
    expect([b.item(), c.item()]).toEqual([4, 6]);
    expect(() => a.item()).toThrow(
      'item: this Tensor([], f32) was released when the next call of the captured step that returned it ended; keep(tensor) makes it stay, item() or data() takes its value out',
    );
    const x = tensor([4]);
    const before = memoryStatistics().blocks;
    for (let i = 0; i < 100; i++) step(x);
    expect(memoryStatistics().blocks - before).toBeLessThan(3);
  });

  it('refuses an input that needs a gradient', () => {
    const w = tensor([2], { requiresGrad: true });
    const step = captureStep((x: Tensor) => w.mul(x).sum());
    expect(() => step(w.mul(2))).toThrow(
      'captureStep: input 0, Tensor([1], f32, requiresGrad), needs a gradient, which a captured step does not give to its inputs; detach() it, or let the function read it from outside',
    );
  });

  it('is captured anew when a layer is replaced or a parameter that is read through a view is frozen', () => {
    const net = new nn.Sequential(new nn.Linear(2, 2), new nn.ReLU());
    const step = captureStep((x: Tensor) => net.forward(x).sum());
    const x = ones([1, 2]);
    step(x);
    const fresh = new nn.Linear(2, 2);
    net[0] = fresh;
    step(x);
    expect(fresh.weight.grad).not.toBeNull();
    expect(step.plan!.layers.filter(({ op }) => op === 'linear')).toHaveLength(1);
    const w = tensor([[1, 2]], { requiresGrad: true });
    const product = captureStep((a: Tensor) => a.matmul(w.transpose(0, 1)).sum().add(net.forward(a).sum()));
    product(x);
    expect([...w.grad!.data()]).toEqual([1, 1]);
    w.requiresGrad = false;
    w.grad = null;
    product(x);
    expect(w.grad).toBeNull();
  });

  it('and stand-ins of its inputs cannot be used outside, nor programs inside', () => {
    let inside = ones([2]);
    const w = tensor([1, 2], { requiresGrad: true });
    const step = captureStep((x: Tensor) => {
      inside = x;
      return w.mul(x).sum();
    });
    step(ones([2]));
    expect(() => inside.fill_(7)).toThrow('stands for a value inside a captured step and has none outside of it');
    expect(() => inside.add(1)).toThrow(CaptureError);
    const run = compile(new nn.ReLU(), { input: [2] });
    expect(() => captureStep((x: Tensor) => run(x).mul(w).sum())(ones([2]))).toThrow(
      'run: a compiled model or captured step cannot run inside a step that is being captured',
    );
    expect(run(tensor([-1, 3])).data()[1]).toBe(3);
  });

  it('takes inputs in any layout', () => {
    const w = randn([3, 4]);
    w.requiresGrad = true;
    const step = captureStep((x: Tensor) => [x.mul(w).sum(), x.mul(w)]);
    const base = arange(48);
    const inputs = [
      base.slice([[0, 12]]).reshape([3, 4]),
      base.slice([[5, 17]]).reshape([3, 4]),
      base
        .slice([[0, 12]])
        .reshape([4, 3])
        .transpose(0, 1),
      base.reshape([4, 12]).slice([
        [0, 3],
        [2, 6],
      ]),
      tensor([1, 2, 3, 4]).expand([3, 4]),
    ];
    for (const x of inputs) expect([...step(x)[1]!.data()]).toEqual([...x.mul(w).data()]);
  });

  it('refuses item() and data() inside, and names the layer', () => {
    class Peeking extends nn.Module {
      forward(x: Tensor): Tensor {
        return x.mul(x.sum().item());
      }
    }
    const net = new nn.Sequential(new nn.Linear(2, 2), new Peeking());
    const step = captureStep((x: Tensor) => net.forward(x).sum());
    expect(() => step(ones([1, 2]))).toThrow(CaptureError);
    expect(() => step(ones([1, 2]))).toThrow(
      'item: Tensor([], f32, requiresGrad) has no value while a step is being captured (in 1); return it from the step and read it there',
    );
    expect(() => captureStep((x: Tensor) => tensor([...x.data()]))(ones([2]))).toThrow(
      'data: Tensor([2], f32) has no value',
    );
    expect(net.forward(ones([1, 2])).shape).toEqual([1, 2]);
    const inner = captureStep(() => ones([1]));
    expect(() => captureStep(() => inner())()).toThrow('capture: a step is already being captured');
  });

  it('refuses hooks, also those that come after the capture', () => {
    const w = tensor([1], { requiresGrad: true });
    const step = captureStep(() => w.mul(2).sum());
    step();
    const remove = w.registerHook(() => undefined);
    expect(() => step()).toThrow(CaptureError);
    expect(() => step()).toThrow('a gradient hook cannot run inside a captured step');
    remove();
    expect(step().item()).toBe(2);
    const hooked = captureStep(() => {
      const y = w.mul(2);
      y.registerHook(() => undefined);
      return y.sum();
    });
    expect(() => hooked()).toThrow('a gradient hook cannot run inside a captured step');
  });

  it('refuses zeroGrad inside', () => {
    const w = tensor([1], { requiresGrad: true });
    const optimizer = new optim.SGD([w], { lr: 1 });
    const step = captureStep(() => {
      optimizer.zeroGrad();
      return w.sum();
    });
    expect(() => step()).toThrow('zeroGrad: a captured step starts without gradients by itself');
  });

  it('refuses what is not a tensor, and one that is gone', () => {
    const w = tensor([1], { requiresGrad: true });
    const step = captureStep((x: Tensor) => w.mul(x).sum());
    const x = ones([1]);
    step(x);
    x.dispose();
    expect(() => step(x)).toThrow('captureStep: this Tensor([1], f32) was disposed');
    expect(() => step([1] as never)).toThrow('captureStep: expected a Tensor, got an array (use tensor(...))');
    expect(() => captureStep(() => w, { optimiser: null } as never)).toThrow("captureStep: unknown option 'optimiser'");
    expect(() => captureStep(() => w, { optimizer: {} } as never)).toThrow(
      'captureStep: optimizer must be an optimiser',
    );
  });

  it('refuses a function that does not return a loss', () => {
    const message = 'the loss function must return a Tensor, or the loss first in an array of them, got ';
    expect(() => captureStep(() => 3 as never)()).toThrow(`${message}3`);
    expect(() => captureStep(() => [] as never)()).toThrow(message);
    expect(() => captureStep(() => ones([1]))()).toThrow('does not require gradients');
    expect(() => captureStep(() => ones([2], { requiresGrad: true }))()).toThrow('backward: [2] has 2 elements');
    const model = { forward: () => [ones([1])] as never, eval() {}, rememberModes: () => () => {} };
    expect(() => compile(model, { input: [1] })).toThrow('compile: expected a Tensor, got an array');
  });

  it('holds a second derivative: a penalty on the gradient', () => {
    const w = tensor([3], { requiresGrad: true });
    const step = captureStep((x: Tensor) => {
      w.mul(w).mul(x).sum().backward({ createGraph: true });
      const gradient = w.grad!;
      w.grad = null;
      return gradient.square().sum();
    });
    for (const x of [1, 2]) {
      w.grad = null;
      // The penalty (2 w x)^2 and its derivative 8 w x^2.
      expect(step(tensor([x])).item()).toBe((6 * x) ** 2);
      expect([...w.grad!.data()]).toEqual([24 * x * x]);
    }
  });

  it('reports a label out of range late, and leaves parameters and optimiser as they were', () => {
    const net = small();
    const optimizer = new optim.SGD(net.parameters(), { lr: 0.1, momentum: 0.9 });
    const { step } = counted(net, optimizer);
    const [x, y] = batches(1)[0]!;
    step(x, y);
    const before = weightsOf(net);
    for (const bad of [3, -1]) {
      const wrong = labels([0, 1, bad, 0, 1, 2]);
      let error: unknown;
      try {
        step(x, wrong);
      } catch (caught) {
        error = caught;
      }
      expect(error).toBeInstanceOf(RangeError);
      expect((error as Error).message).toBe(`crossEntropy: index or label ${bad} is out of range, expected 0 to 2`);
    }
    expect(weightsOf(net)).toEqual(before);
    expect(step(x, y).item()).toBeGreaterThan(0);
    expect(weightsOf(net)).not.toEqual(before);
    expect(
      weightsOf(net)
        .flatMap((w) => [...w])
        .every(Number.isFinite),
    ).toBe(true);
  });

  it('pins what it names until it is disposed, and then gives all of its memory back', () => {
    const net = small();
    const [x, y] = batches(1)[0]!;
    net.forward(x);
    const optimizer = new optim.SGD(net.parameters(), { lr: 0.1 });
    optimizer.zeroGrad();
    const warm = counted(net, optimizer);
    warm.step(x, y).dispose();
    warm.step.dispose();
    const before = memoryStatistics();
    const { step } = counted(net, optimizer);
    step(x, y).dispose();
    const { blocks } = memoryStatistics();
    expect(blocks).toBeGreaterThan(before.blocks);
    expect(() => net.parameters()[0]!.dispose()).toThrow('is used by 1 captured program; dispose those first');
    step.dispose();
    step.dispose();
    expect(memoryStatistics().blocks).toBe(before.blocks);
    expect(memoryStatistics().allocatedBytes).toBe(before.allocatedBytes);
    expect(step.plan).toBe(null);
    expect(step(x, y).item()).toBeGreaterThan(0);
    step.dispose();
    for (const parameter of net.parameters()) parameter.dispose();
  });

  it('that changes an input in place raises its version', () => {
    const w = tensor([1], { requiresGrad: true });
    const step = captureStep((x: Tensor) => {
      x.fill_(5);
      return w.mul(x).sum();
    });
    const x = ones([1]);
    step(x);
    const y = w.mul(x);
    expect(step(x).item()).toBe(5);
    expect(() => y.backward()).toThrow('saved by mul, was changed in place since');
  });

  it('made before shutdown says so, and can be disposed', async () => {
    const make = () => {
      const w = tensor([1], { requiresGrad: true });
      const step = captureStep((x: Tensor) => w.mul(x).sum());
      step(ones([1]));
      return step;
    };
    const [one, two] = [make(), make()];
    const run = compile(new nn.Linear(1, 1), { input: [1, 1] });
    run(ones([1, 1]));
    await shutdown();
    one.dispose();
    run.dispose();
    await init({ threads: 1 });
    const { blocks } = memoryStatistics();
    expect(() => two(ones([1]))).toThrow('was made before shutdown()');
    two.dispose();
    expect(() => run(ones([1, 1]))).toThrow('run: this program was disposed, or made before shutdown()');
    expect(memoryStatistics().blocks).toBe(blocks + 2);
  });
});

describe('the planner', () => {
  /** Numbers from 0 up to `below`, the same in every run. */
  function random(seed: number): (below: number) => number {
    let state = seed;
    return (below) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
  }

  function lifetimes(seed: number): Lifetime[] {
    const next = random(seed);
    return Array.from({ length: 1 + next(40) }, () => {
      const first = next(30);
      return { storage: new Storage(next(4) ? 1 + next(5000) : 4 * next(3)), first, last: first + next(10) };
    });
  }

  const meet = (a: Lifetime, b: Lifetime): boolean => a.first <= b.last && b.first <= a.last;

  it.each([false, true])('never puts two buffers that live at once over each other (separate: %s)', (separate) => {
    for (let seed = 1; seed <= 200; seed++) {
      const list = lifetimes(seed);
      const { offsets, bytes } = place(list, separate);
      const spans = list.map(({ storage }) => ({
        start: offsets.get(storage)!,
        end: offsets.get(storage)! + storage.bytes + SLACK,
      }));
      for (let i = 0; i < list.length; i++) {
        expect(spans[i]!.start % 64).toBe(0);
        expect(spans[i]!.end).toBeLessThanOrEqual(bytes);
        for (let j = 0; j < i; j++) {
          const apart = spans[i]!.end <= spans[j]!.start || spans[j]!.end <= spans[i]!.start;
          if (separate || meet(list[i]!, list[j]!)) expect(apart).toBe(true);
        }
      }
    }
  });

  it('comes near the least that is possible: what lives at one moment', () => {
    let [used, least] = [0, 0];
    for (let seed = 1; seed <= 200; seed++) {
      const list = lifetimes(seed);
      const size = ({ storage }: Lifetime): number => Math.ceil((storage.bytes + SLACK) / 64) * 64;
      const at = (moment: number): number =>
        list.filter(({ first, last }) => first <= moment && moment <= last).reduce((sum, each) => sum + size(each), 0);
      const bound = Math.max(...Array.from({ length: 40 }, (_, moment) => at(moment)));
      const { bytes } = place(list);
      expect(bytes).toBeGreaterThanOrEqual(bound);
      used += bytes;
      least += bound;
    }
    expect(used / least).toBeLessThan(1.1);
  });
});
