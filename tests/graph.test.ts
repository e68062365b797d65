// Captured steps and compiled models: that they compute what eager code computes, when they capture anew, what they refuse,
// and where their buffers lie.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import * as F from '../ts/functional.ts';
import { type Lifetime, place } from '../ts/graph/planner.ts';
import { lenet } from '../ts/models/lenet.ts';
import { SLACK } from '../ts/runtime/heap.ts';
import { Storage } from '../ts/runtime/storage.ts';
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
  noGrad,
  OutOfMemoryError,
  ones,
  optim,
  rand,
  randn,
  shutdown,
  type Tensor,
  tensor,
  zeros,
} from './feathermap.ts';

afterEach(shutdown);

/** One layer of every kind, and noise. */
class EveryLayer extends nn.Module {
  readonly trunk = new nn.Sequential(
    new nn.Conv2d(1, 4, 3, { padding: 1 }),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Conv2d(4, 6, 3, { padding: 1, groups: 2 }),
    new nn.Sigmoid(),
    new nn.AvgPool2d(2),
    new nn.Dropout(0.3),
  );
  readonly head = new nn.Sequential(
    new nn.Flatten(),
    new nn.Linear(24, 8),
    new nn.Tanh(),
    new nn.Dropout(0.5),
    new nn.Linear(8, 3),
  );

  forward(x: Tensor): Tensor {
    return this.head.forward(this.trunk.forward(this.training ? x.add(randn(x.shape).mul(0.1)) : x));
  }
}

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

describe('compile', () => {
  beforeEach(() => init({ threads: 1 }));

  it('computes what forward does in evaluation mode, bit for bit', () => {
    const net = new EveryLayer();
    const x = rand([4, 1, 8, 8]);
    const run = compile(net, { input: [4, 1, 8, 8] });
    net.eval();
    const expected = net.forward(x);
    expect(run(x).data()).toEqual(expected.data());
    expect(run(x.mul(1)).data()).toEqual(expected.data());
  });

  it.each(['sigmoid', 'relu'] as const)('computes LeNet with %s, on 1 and 3 threads', async (variant) => {
    const results: unknown[] = [];
    for (const threads of [1, 3]) {
      await shutdown();
      await init({ threads });
      manualSeed(1);
      const net = lenet({ variant });
      const x = rand([3, 1, 28, 28]);
      results.push(compile(net, { input: [3, 1, 28, 28] })(x).data(), noGrad(() => net.eval().forward(x)).data());
    }
    for (const result of results) expect(result).toEqual(results[0]);
  });

  it('moves clamps into convolutions and dense layers and drops dropout', () => {
    const net = new nn.Sequential(
      new nn.Conv2d(1, 4, 3),
      new nn.ReLU(),
      new nn.Dropout(),
      new nn.Flatten(),
      new nn.Linear(16, 4),
      new nn.ReLU(),
    );
    const run = compile(net, { input: [1, 1, 4, 4] });
    // Flattening a channels-last tensor moves it once.
    expect(run.plan.commands.map(({ op, module }) => `${op} ${module}`)).toEqual(
      expect.arrayContaining(['conv2d 0', 'relayout 3', 'linear 4']),
    );
    for (const { op } of run.plan.commands) expect(['relu', 'dropout']).not.toContain(op);
    net.eval();
    const x = randn([1, 1, 4, 4]);
    expect(run(x).data()).toEqual(net.forward(x).data());
  });

  it('does not move a clamp whose input is read elsewhere', () => {
    class Residual extends nn.Module {
      readonly conv = new nn.Conv2d(1, 1, 3, { padding: 1 });
      forward(x: Tensor): Tensor {
        const y = this.conv.forward(x);
        return y
          .relu()
          .add(y.reshape([...y.shape]))
          .add(y);
      }
    }
    const net = new Residual();
    const x = randn([1, 1, 6, 6]);
    const run = compile(net, { input: [1, 1, 6, 6] });
    expect(run(x).data()).toEqual(net.forward(x).data());
    expect(run.plan.commands.map(({ op }) => op)).toContain('relu');
  });

  it('packs weights again after they change, in every way they can', () => {
    const net = lenet().eval();
    const x = rand([1, 1, 28, 28]);
    const run = compile(net, { input: [1, 1, 28, 28] });
    const same = (): void => expect(run(x).data()).toEqual(noGrad(() => net.forward(x)).data());
    same();
    nn.init.normal_(net.parameters()[0]!, 0, 0.3);
    same();
    net.loadStateDict(lenet().stateDict());
    same();
    const optimizer = new optim.SGD(net.parameters(), { lr: 1 });
    F.crossEntropy(net.forward(x), labels([3])).backward();
    optimizer.step();
    same();
    const step = captureStep((a, b) => F.crossEntropy(net.forward(a), b), { optimizer });
    for (let i = 0; i < 2; i++) {
      step(x, labels([3]));
      same();
    }
  });

  it('refuses other shapes, dtypes and options', () => {
    const run = compile(new nn.Flatten(), { input: [2, 3, 1] });
    expect(() => run(zeros([1, 3, 1]))).toThrow(RangeError);
    expect(() => run(zeros([1, 3, 1]))).toThrow('compile: this program is for f32 [2,3,1], got f32 [1,3,1]');
    expect(() => run(zeros([2, 3, 1], { dtype: 'u8' }))).toThrow('got u8 [2,3,1]');
    expect(() => run(3 as never)).toThrow('compile: expected a Tensor, got a number');
    expect(() => compile(new nn.Flatten(), { input: [-1] })).toThrow(/^compile: .*-1/);
    expect(() => compile(new nn.Flatten(), { shape: [1] } as never)).toThrow("compile: unknown option 'shape'");
    expect(() => compile(new nn.Linear(3, 2), { input: [2, 4] })).toThrow(/linear: .*\(in Linear\)/);
  });

  it('copies where the model only looks at its input another way', () => {
    const run = compile(new nn.Flatten(), { input: [2, 2] });
    const x = arange(8)
      .slice([[4, 8]])
      .reshape([2, 2]);
    expect([...run(x).data()]).toEqual([4, 5, 6, 7]);
  });

  it('leaves every module in the mode it was in', () => {
    const net = new EveryLayer();
    net.head.eval();
    compile(net, { input: [1, 1, 8, 8] }).dispose();
    expect([net.training, net.trunk.training, net.head.training]).toEqual([true, true, false]);
    expect(() => compile(net, { input: [1, 2, 8, 8] })).toThrow(RangeError);
    expect([net.training, net.trunk.training, net.head.training]).toEqual([true, true, false]);
  });

  it('counts the multiply-adds of LeNet', () => {
    const run = compile(lenet(), { input: [1, 1, 28, 28] });
    const byHand = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10;
    expect(byHand).toBe(416_520);
    expect(run.plan.macs).toBe(byHand);
    expect(compile(lenet(), { input: [8, 1, 28, 28] }).plan.macs).toBe(8 * byHand);
  });

  it('names its commands', () => {
    const { commands } = compile(lenet(), { input: [1, 1, 28, 28] }).plan;
    expect([...new Set(commands.map(({ module, op }) => `${module} ${op}`))]).toEqual([
      'features.0 conv2d',
      'features.1 sigmoid',
      'features.2 avgPool2d',
      'features.3 conv2d',
      'features.4 sigmoid',
      'features.5 avgPool2d',
      'LeNet relayout',
      'classifier.0 linear',
      'classifier.1 sigmoid',
      'classifier.2 linear',
      'classifier.3 sigmoid',
      'classifier.4 linear',
    ]);
    for (const { kernel, tiles } of commands) expect([typeof kernel, tiles >= 1]).toEqual(['string', true]);
  });

  it('gives all memory back, and programs share one arena', () => {
    const net = lenet();
    const x = rand([1, 1, 28, 28]);
    const big = rand([16, 1, 28, 28]);
    noGrad(() => net.forward(big)).dispose();
    const before = memoryStatistics();
    const one = compile(net, { input: [1, 1, 28, 28] });
    const afterOne = memoryStatistics();
    const two = compile(net, { input: [1, 1, 28, 28] });
    const afterTwo = memoryStatistics();
    expect(afterOne.blocks - before.blocks).toBe(afterTwo.blocks - afterOne.blocks + 1);
    const expected = one(x).data();
    const three = compile(net, { input: [16, 1, 28, 28] });
    expect(three.plan.arenaBytes).toBeGreaterThan(one.plan.arenaBytes);
    three(big).dispose();
    expect(one(x).data()).toEqual(expected);
    three.dispose();
    expect(two(x).data()).toEqual(expected);
    expect(memoryStatistics().allocatedBytes - afterTwo.allocatedBytes).toBeLessThan(1024);
    one.dispose();
    two.dispose();
    two.dispose();
    expect(() => one(x)).toThrow('run: this program was disposed');
    expect(noGrad(() => net.eval().forward(x)).data()).toEqual(expected);
  });
});

it('compile gives back what it took when memory runs out', async () => {
  await init({ threads: 1, maxMemory: 8 << 20 });
  const net = new nn.Sequential(new nn.Linear(300, 300), new nn.Linear(300, 1000), new nn.Linear(1000, 1000));
  net.parameters().forEach((parameter) => void parameter.data());
  const { blocks } = memoryStatistics();
  expect(() => compile(net, { input: [4, 300] })).toThrow(OutOfMemoryError);
  expect(memoryStatistics().blocks).toBe(blocks);
  const x = ones([1, 300]);
  expect(net[0]!.forward(x).shape).toEqual([1, 300]);
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
