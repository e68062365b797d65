// Modules: names, counts, first values, state, modes, and what errors say about where they happened.
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import * as F from '../ts/functional.ts';
import { lenet } from '../ts/models/lenet.ts';
import {
  init,
  keep,
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

const count = (module: nn.Module): number => module.parameters().reduce((sum, { size }) => sum + size, 0);
const values = (tensor: Tensor): number[] => [...tensor.data()];
const snapshot = (module: nn.Module): Record<string, number[]> =>
  Object.fromEntries(Object.entries(module.stateDict()).map(([name, t]) => [name, values(t)]));

describe('parameters', () => {
  it('of LeNet have the names, order and shapes that PyTorch gives them', () => {
    const named = [...lenet().namedParameters()].map(([name, { shape }]) => [name, [...shape]]);
    expect(named).toEqual([
      ['features.0.weight', [6, 1, 5, 5]],
      ['features.0.bias', [6]],
      ['features.3.weight', [16, 6, 5, 5]],
      ['features.3.bias', [16]],
      ['classifier.0.weight', [120, 400]],
      ['classifier.0.bias', [120]],
      ['classifier.2.weight', [84, 120]],
      ['classifier.2.bias', [84]],
      ['classifier.4.weight', [10, 84]],
      ['classifier.4.bias', [10]],
    ]);
    expect(Object.keys(lenet().stateDict())).toEqual(named.map(([name]) => name));
  });

  it.each<[string, () => nn.Module, number]>([
    ['LeNet', () => lenet(), 61_706],
    ['10 filters 3x3 over 3 channels', () => new nn.Conv2d(3, 10, 3), 280],
    ['10 filters 5x5 over 3 channels', () => new nn.Conv2d(3, 10, 5), 760],
    [
      'a dense layer from 32x32x3 to 28x28x10 less its bias',
      () => new nn.Linear(32 * 32 * 3, 28 * 28 * 10, { bias: false }),
      24_084_480,
    ],
    ['a dense layer from 32x32x3 to 32x32x10', () => new nn.Linear(32 * 32 * 3, 32 * 32 * 10), 31_467_520],
    ['a dense layer from 256x256x3 to 1000', () => new nn.Linear(256 * 256 * 3, 1000), 196_609_000],
    ['groups', () => new nn.Conv2d(4, 8, 3, { groups: 4, bias: false }), 72],
  ])('of %s can be counted without memory', (_, make, expected) => {
    const before = memoryStatistics();
    expect(count(make())).toBe(expected);
    expect(memoryStatistics()).toEqual(before);
  });

  it('that are shared count once, and have all their names in the state', () => {
    class Tied extends nn.Module {
      readonly first = new nn.Linear(2, 2);
      readonly second: nn.Linear = this.first;
      readonly weight = this.first.weight;
      forward(x: Tensor): Tensor {
        return this.second.forward(this.first.forward(x));
      }
    }
    const net = new Tied();
    expect(count(net)).toBe(6);
    expect([...net.namedParameters()].map(([name]) => name)).toEqual(['weight', 'first.bias']);
    expect(Object.keys(net.stateDict())).toEqual([
      'weight',
      'first.weight',
      'first.bias',
      'second.weight',
      'second.bias',
    ]);
    expect([...net.namedModules()].map(([name]) => name)).toEqual(['', 'first']);
    new optim.SGD(net.parameters(), { lr: 1 });
    net.loadStateDict(net.stateDict());
  });

  it('freeze and thaw', () => {
    const net = lenet().requiresGrad_(false);
    expect(net.forward(zeros([1, 1, 28, 28])).requiresGrad).toBe(false);
    net.classifier.requiresGrad_();
    expect(net.parameters().filter(({ requiresGrad }) => requiresGrad).length).toBe(6);
  });

  it('forget their gradients', () => {
    const net = new nn.Linear(2, 1);
    net
      .forward(ones([1, 2]))
      .sum()
      .backward();
    expect(net.weight.grad).not.toBe(null);
    net.zeroGrad();
    expect([net.weight.grad, net.bias!.grad]).toEqual([null, null]);
  });

  it('are made from tensors, whose memory they share', () => {
    const start = ones([2]);
    const parameter = new nn.Parameter(start);
    expect([parameter.requiresGrad, parameter.isLeaf, start.requiresGrad]).toEqual([true, true, false]);
    expect(new nn.Parameter(parameter.mul(2)).isLeaf).toBe(true);
    const optimizer = new optim.SGD([parameter], { lr: 0.5 });
    parameter
      .mul(tensor([1, 2]))
      .sum()
      .backward();
    optimizer.step();
    expect(values(start)).toEqual([0.5, 0]);
    expect(() => new nn.Parameter([2] as never)).toThrow('Parameter: expected a Tensor, got an array');
    expect(() => new nn.Parameter(tensor([1], { dtype: 'i32' }))).toThrow(TypeError);
  });
});

describe('first values', () => {
  /** Mean, variance, least and largest. */
  function moments(x: Tensor): { mean: number; variance: number; lo: number; hi: number } {
    const list = values(x);
    const mean = list.reduce((a, b) => a + b, 0) / list.length;
    const variance = list.reduce((a, b) => a + (b - mean) ** 2, 0) / list.length;
    return { mean, variance, lo: Math.min(...list), hi: Math.max(...list) };
  }

  /** Within five standard errors of a uniform distribution on +-bound, and nearly filling it. */
  function expectUniform(x: Tensor, bound: number): void {
    const { mean, variance, lo, hi } = moments(x);
    const variance0 = bound ** 2 / 3;
    expect(Math.abs(mean)).toBeLessThan(5 * Math.sqrt(variance0 / x.size));
    // The fourth moment of a uniform variable is 9/5 of its squared variance.
    expect(Math.abs(variance / variance0 - 1)).toBeLessThan(5 * Math.sqrt(0.8 / x.size));
    expect(lo).toBeGreaterThanOrEqual(-Math.fround(bound));
    expect(hi).toBeLessThanOrEqual(Math.fround(bound));
    expect(hi - lo).toBeGreaterThan(2 * bound * (1 - 20 / x.size));
  }

  it('are uniform in +-1/sqrt(fan in), as in PyTorch', () => {
    manualSeed(3);
    const linear = new nn.Linear(100, 400);
    expectUniform(linear.weight, 0.1);
    expectUniform(linear.bias!, 0.1);
    const conv = new nn.Conv2d(8, 256, [3, 5], { groups: 2 });
    expectUniform(conv.weight, 1 / Math.sqrt(4 * 15));
    expectUniform(conv.bias!, 1 / Math.sqrt(4 * 15));
  });

  it('follow from the seed alone, whatever is used first', () => {
    const build = (use: (net: nn.Sequential) => void): Record<string, number[]> => {
      manualSeed(11);
      const net = new nn.Sequential(new nn.Conv2d(1, 2, 3), new nn.Flatten(), new nn.Linear(8, 2));
      use(net);
      return snapshot(net);
    };
    const plain = build(() => {});
    expect(build((net) => void (net[2] as nn.Linear).bias!.data())).toEqual(plain);
    expect(build(() => void randn([1000]))).toEqual(plain);
    expect(build((net) => void net.forward(zeros([1, 1, 4, 4])))).toEqual(plain);
    manualSeed(12);
    expect(snapshot(new nn.Sequential(new nn.Conv2d(1, 2, 3)))['0.bias']).not.toEqual(plain['0.bias']);
    const twins = [new nn.Linear(4, 4), new nn.Linear(4, 4)];
    expect(values(twins[0]!.weight)).not.toEqual(values(twins[1]!.weight));
  });

  it('come from the initialisers as they say', () => {
    const w = (): Tensor => zeros([50, 40, 3, 3]);
    const fanIn = 40 * 9;
    const fanOut = 50 * 9;
    expectUniform(nn.init.uniform_(w(), -2, 2), 2);
    expectUniform(nn.init.xavierUniform_(w(), 2), 2 * Math.sqrt(6 / (fanIn + fanOut)));
    expectUniform(nn.init.kaimingUniform_(w()), Math.sqrt(2) * Math.sqrt(3 / fanIn));
    expectUniform(
      nn.init.kaimingUniform_(w(), { mode: 'fanOut', nonlinearity: 'tanh' }),
      (5 / 3) * Math.sqrt(3 / fanOut),
    );
    const normal = (x: Tensor, mean: number, std: number): void => {
      const found = moments(x);
      expect(Math.abs(found.mean - mean)).toBeLessThan((5 * std) / Math.sqrt(x.size));
      expect(Math.abs(found.variance / std ** 2 - 1)).toBeLessThan(5 * Math.sqrt(2 / x.size));
    };
    normal(nn.init.normal_(w(), 1, 3), 1, 3);
    normal(nn.init.xavierNormal_(w()), 0, Math.sqrt(2 / (fanIn + fanOut)));
    normal(nn.init.kaimingNormal_(w(), { nonlinearity: 'relu' }), 0, Math.sqrt(2 / fanIn));
    expect(values(nn.init.constant_(zeros([3]), 0.5))).toEqual([0.5, 0.5, 0.5]);
    expect([values(nn.init.zeros_(ones([2]))), values(nn.init.ones_(zeros([2])))]).toEqual([
      [0, 0],
      [1, 1],
    ]);
    expect(
      ['linear', 'sigmoid', 'tanh', 'relu', 'leakyRelu'].map((name) => nn.init.calculateGain(name as 'relu')),
    ).toEqual([1, 1, 5 / 3, Math.sqrt(2), Math.sqrt(2 / 1.0001)]);
  });

  it('can be replaced before and after first use, also in part', () => {
    const layer = new nn.Linear(4, 3);
    nn.init.constant_(layer.weight, 2);
    expect(new Set(values(layer.weight))).toEqual(new Set([2]));
    manualSeed(1);
    const whole = new nn.Linear(4, 3);
    const expected = values(whole.weight);
    manualSeed(1);
    const part = new nn.Linear(4, 3);
    nn.init.zeros_(part.weight.detach().narrow(0, 0, 1));
    expect(values(part.weight)).toEqual([0, 0, 0, 0, ...expected.slice(4)]);
  });

  it('initialisers say what is wrong', () => {
    expect(() => nn.init.xavierUniform_(zeros([3]))).toThrow(
      'xavierUniform_: fan in and fan out need at least 2 dimensions, got shape [3]',
    );
    expect(() => nn.init.kaimingNormal_(zeros([3, 3]), { fan: 1 } as never)).toThrow(
      "kaimingNormal_: unknown option 'fan'",
    );
    expect(() => nn.init.calculateGain('gelu' as never)).toThrow("calculateGain: unknown nonlinearity 'gelu'");
    const { weight } = new nn.Linear(2, 2);
    expect(() => nn.init.uniform_(weight, Number.NaN)).toThrow('uniform_: lo must be a finite number, got NaN');
    expect(values(weight).every(Number.isFinite)).toBe(true);
  });
});

describe('state', () => {
  it('shares memory with the model, and is copied in place on loading', () => {
    const net = new nn.Linear(2, 2);
    const state = net.stateDict();
    expect(state['weight']!.requiresGrad).toBe(false);
    state['weight']!.fill_(3);
    expect(values(net.weight)).toEqual([3, 3, 3, 3]);
    const { storage } = net.weight;
    expect(net.loadStateDict({ weight: ones([2, 2]), bias: tensor([5, 6]) })).toEqual({
      missingKeys: [],
      unexpectedKeys: [],
    });
    expect(net.weight.storage).toBe(storage);
    expect([...values(net.weight), ...values(net.bias!)]).toEqual([1, 1, 1, 1, 5, 6]);
  });

  it('loads into a model that has never run without drawing its random numbers, and from itself', () => {
    const net = lenet();
    const other = lenet();
    net.loadStateDict(other.stateDict());
    expect(snapshot(net)).toEqual(snapshot(other));
    manualSeed(2);
    const expected = snapshot(new nn.Linear(3, 3));
    manualSeed(2);
    const fresh = new nn.Linear(3, 3);
    fresh.loadStateDict(fresh.stateDict());
    expect(snapshot(fresh)).toEqual(expected);
  });

  it('keeps logical order, whatever the layout in memory', () => {
    const conv = new nn.Conv2d(2, 3, [2, 2]);
    const numbers = Array.from({ length: 24 }, (_, i) => i);
    conv.loadStateDict({ weight: tensor(numbers, { shape: [3, 2, 2, 2] }), bias: zeros([3]) });
    expect(values(conv.weight)).toEqual(numbers);
    expect(values(conv.stateDict()['weight']!)).toEqual(numbers);
  });

  it.each<[string, () => Record<string, Tensor>, string]>([
    ['missing keys', () => ({ weight: ones([2, 2]) }), "loadStateDict: missing keys 'bias'"],
    [
      'unexpected keys',
      () => ({ weight: ones([2, 2]), bias: ones([2]), extra: ones([1]) }),
      "loadStateDict: unexpected keys 'extra'",
    ],
    ['both', () => ({ bias: ones([2]), extra: ones([1]) }), "missing keys 'weight'; unexpected keys 'extra'"],
    [
      'shapes',
      () => ({ weight: ones([2, 2]), bias: ones([3]) }),
      "loadStateDict: 'bias' has shape [3], the model expects [2]",
    ],
    ['nothing', () => null as never, 'loadStateDict: expected an object of tensors by name, got null'],
    ['other kinds', () => ({ weight: ones([2, 2]), bias: [1, 2] as never }), "loadStateDict: 'bias' is not a Tensor"],
    [
      'tensors that are gone',
      () => {
        const bias = ones([2]);
        bias.dispose();
        return { weight: ones([2, 2]), bias };
      },
      'loadStateDict: this Tensor([2], f32) was disposed',
    ],
  ])('refuses %s and stays as it was', (_, state, message) => {
    const net = new nn.Linear(2, 2);
    const before = snapshot(net);
    expect(() => net.loadStateDict(state())).toThrow(message);
    expect(snapshot(net)).toEqual(before);
  });

  it('lists at most eight keys', () => {
    expect(() => lenet().loadStateDict({})).toThrow("'classifier.2.weight', 'classifier.2.bias' and 2 more");
  });

  it('loads what fits when it is not strict', () => {
    const net = new nn.Linear(2, 2);
    const before = values(net.weight);
    const result = net.loadStateDict({ bias: tensor([8, 9]), extra: ones([1]) }, { strict: false });
    expect(result).toEqual({ missingKeys: ['weight'], unexpectedKeys: ['extra'] });
    expect([values(net.weight), values(net.bias!)]).toEqual([before, [8, 9]]);
    expect(() => net.loadStateDict({ bias: ones([1]) }, { strict: false })).toThrow("'bias' has shape [1]");
    expect(() => net.loadStateDict({}, { stricct: false } as never)).toThrow("loadStateDict: unknown option 'stricct'");
  });

  it('holds buffers beside parameters', () => {
    class Counter extends nn.Module {
      readonly inner = new nn.Linear(1, 1, { bias: false });
      readonly seen = this.registerBuffer('seen', zeros([1]));
      readonly scale = nn.Parameter.lazy([1], (parameter) => void nn.init.ones_(parameter));
      forward(x: Tensor): Tensor {
        noGrad(() => this.seen.copy_(this.seen.add(x.shape[0]!)));
        return this.inner.forward(x).mul(this.scale);
      }
    }
    const net = new Counter();
    expect(Object.keys(net.stateDict())).toEqual(['scale', 'seen', 'inner.weight']);
    expect([...net.namedBuffers()].map(([name]) => name)).toEqual(['seen']);
    expect([...net.namedParameters()].map(([name]) => name)).toEqual(['scale', 'inner.weight']);
    net.forward(ones([3, 1]));
    noGrad(() => net.forward(ones([4, 1])));
    expect(net.stateDict()['seen']!.item()).toBe(7);
    const other = new Counter();
    other.loadStateDict(net.stateDict());
    expect(other.seen.item()).toBe(7);
  });

  it('has buffers as properties, in camelCase', () => {
    class Running extends nn.Module {
      declare runningMean: Tensor;
      constructor() {
        super();
        this.registerBuffer('running_mean', zeros([2]));
        this.registerBuffer('m', ones([1]));
      }
      forward(x: Tensor): Tensor {
        return x.sub(this.runningMean);
      }
    }
    const net = new Running();
    expect(Object.keys(net.stateDict())).toEqual(['running_mean', 'm']);
    expect((net as unknown as { m: Tensor }).m.item()).toBe(1);
    net.loadStateDict({ running_mean: tensor([1, 2]), m: ones([1]) });
    expect(values(net.forward(ones([2])))).toEqual([0, -1]);
    net.runningMean = tensor([3, 4]);
    expect(values(net.stateDict()['running_mean']!)).toEqual([3, 4]);
    expect(() => {
      net.runningMean = 3 as never;
    }).toThrow('registerBuffer: expected a Tensor, got a number');
    expect(() => net.registerBuffer('a.b', ones([1]))).toThrow(
      'registerBuffer: expected a name without dots, got "a.b"',
    );
    expect(() => net.registerBuffer('training', ones([1]))).toThrow(
      "registerBuffer: 'training' would hide the property training",
    );
  });

  it('ends where a module is inside itself', () => {
    class Child extends nn.Module {
      parent: nn.Module | null = null;
      readonly inner = new nn.Linear(1, 1);
      forward(x: Tensor): Tensor {
        return this.inner.forward(x);
      }
    }
    class Parent extends nn.Module {
      readonly child = new Child();
      readonly scale = new nn.Parameter(ones([1]));
      constructor() {
        super();
        this.child.parent = this;
      }
      forward(x: Tensor): Tensor {
        return this.child.forward(x).mul(this.scale);
      }
    }
    const net = new Parent();
    expect([...net.namedParameters()].map(([name]) => name)).toEqual([
      'scale',
      'child.inner.weight',
      'child.inner.bias',
    ]);
    expect(Object.keys(net.stateDict())).toHaveLength(3);
    expect(net.eval().child.training).toBe(false);
    expect(net.forward(ones([1, 1])).shape).toEqual([1, 1]);
    expect(String(net)).toContain('(parent): Parent(...)');
    expect(net.loadStateDict(new Parent().stateDict()).missingKeys).toEqual([]);
  });
});

describe('modes', () => {
  it('reach every module below', () => {
    const net = new nn.Sequential(new nn.Sequential(new nn.Dropout(0.5)), new nn.Dropout(0.5));
    expect(net.eval()).toBe(net);
    expect([...net.namedModules()].map(([, { training }]) => training)).toEqual([false, false, false, false]);
    const x = ones([100]);
    expect(values(net.forward(x))).toEqual(values(x));
    net.train();
    expect(values(net.forward(x))).toContain(0);
    (net[0] as nn.Sequential).eval();
    expect([...net.namedModules()].map(([name, { training }]) => [name, training])).toEqual([
      ['', true],
      ['0', false],
      ['0.0', false],
      ['1', true],
    ]);
    const restore = net.rememberModes();
    net.eval();
    restore();
    expect([...net.namedModules()].map(([, { training }]) => training)).toEqual([true, false, false, true]);
  });
});

describe('Sequential', () => {
  it('is indexed, counted, iterated and changed', () => {
    const net = new nn.Sequential(new nn.Linear(2, 3), new nn.ReLU());
    expect(net.length).toBe(2);
    expect(net[0]).toBeInstanceOf(nn.Linear);
    expect(net[2]).toBe(undefined);
    expect([...net].map((layer) => layer.constructor.name)).toEqual(['Linear', 'ReLU']);
    net[1] = new nn.Linear(3, 7);
    expect(net.forward(ones([1, 2])).shape).toEqual([1, 7]);
    expect(Object.keys(net.stateDict())).toEqual(['0.weight', '0.bias', '1.weight', '1.bias']);
    const empty = new nn.Sequential();
    expect(values(empty.forward(ones([2])))).toEqual([1, 1]);
  });

  it('takes modules alone', () => {
    expect(() => new nn.Sequential(new nn.ReLU(), F.relu as never)).toThrow(
      'Sequential: argument 1 is not a Module, got function',
    );
    expect(() => new nn.Sequential([new nn.ReLU()] as never)).toThrow(
      'Sequential: argument 0 is not a Module, got object',
    );
  });
});

describe('errors', () => {
  it('name the layer by its path', () => {
    const net = lenet();
    expect(() => net.forward(zeros([1, 1, 8, 8]))).toThrow(RangeError);
    expect(() => net.forward(zeros([1, 1, 8, 8]))).toThrow(/\(in features\.3\)$/);
    expect(() => net.forward(zeros([1, 3, 28, 28]))).toThrow(/^conv2d: .*\(in features\.0\)$/);
    expect(() => noGrad(() => net.forward(zeros([1, 1, 36, 36])))).toThrow(/^linear: .*\(in classifier\.0\)$/);
    expect(() => new nn.Linear(2, 2).forward(zeros([1, 3]))).toThrow(/\(in Linear\)$/);
    class Outer extends nn.Module {
      readonly net = net;
      forward(x: Tensor): Tensor {
        return this.net.forward(x);
      }
    }
    const outer = new Outer();
    let message = '';
    try {
      outer.forward(zeros([1, 3, 28, 28]));
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message.match(/\(in /g)?.length).toBe(1);
    expect(message).toMatch(/\(in net\.features\.0\)$/);
    expect(net.forward(zeros([1, 1, 28, 28])).shape).toEqual([1, 10]);
  });

  it.each<[() => unknown, ErrorConstructor, string]>([
    [() => new nn.Linear(0, 1), RangeError, 'Linear: inFeatures must be a whole number >= 1, got 0'],
    [() => new nn.Linear(1, 1.5), RangeError, 'Linear: outFeatures must be a whole number >= 1, got 1.5'],
    [() => new nn.Linear(1, 1, { bais: false } as never), TypeError, "Linear: unknown option 'bais', known are bias"],
    [() => new nn.Conv2d(1, 1, 0), RangeError, 'Conv2d: '],
    [
      () => new nn.Conv2d(3, 4, 3, { groups: 2 }),
      RangeError,
      'Conv2d: inChannels 3 and outChannels 4 must be multiples of groups 2',
    ],
    [() => new nn.Conv2d(1, 1, 3, { strides: 2 } as never), TypeError, "Conv2d: unknown option 'strides'"],
    [() => new nn.Dropout(1.5), RangeError, 'Dropout: p must be a probability from 0 to 1, got 1.5'],
    [() => new nn.Dropout(Number.NaN), RangeError, 'got NaN'],
    [
      () => new nn.MaxPool2d(2, { countIncludePad: true } as never),
      TypeError,
      "MaxPool2d: unknown option 'countIncludePad'",
    ],
    [() => new nn.AvgPool2d(2, { dilation: 2 } as never), TypeError, "AvgPool2d: unknown option 'dilation'"],
    [() => lenet({ variant: 'tanh' as never }), RangeError, "lenet: variant is 'sigmoid' or 'relu', got 'tanh'"],
    [() => lenet({ classes: 3 } as never), TypeError, "lenet: unknown option 'classes'"],
  ])('refuse bad sizes and options: %s', (make, kind, message) => {
    expect(make).toThrow(kind);
    expect(make).toThrow(message);
  });
});

describe('a module of one’s own', () => {
  class Residual extends nn.Module {
    readonly body: nn.Sequential;
    readonly alpha = nn.Parameter.lazy([1], (parameter) => void nn.init.constant_(parameter, 0.5));

    constructor(channels: number) {
      super();
      this.body = new nn.Sequential(new nn.Conv2d(channels, channels, 3, { padding: 1 }), new nn.ReLU());
    }

    forward(x: Tensor): Tensor {
      return x.add(this.body.forward(x).mul(this.alpha));
    }
  }

  it('computes, trains, nests and inherits', () => {
    class Deeper extends Residual {
      override forward(x: Tensor): Tensor {
        return super.forward(super.forward(x));
      }
    }
    const net = new Deeper(2);
    const x = rand([1, 2, 4, 4]);
    const once = new Residual(2);
    once.loadStateDict(net.stateDict());
    expect(values(net.forward(x))).toEqual(values(once.forward(once.forward(x))));
    net.forward(x).sum().backward();
    expect(net.parameters().every(({ grad }) => grad !== null)).toBe(true);
    expect([...net.namedParameters()].map(([name]) => name)).toEqual(['alpha', 'body.0.weight', 'body.0.bias']);
  });

  it('keeps only its result when gradients are off', () => {
    const net = new Residual(2);
    const x = keep(rand([1, 2, 4, 4]));
    noGrad(() => net.forward(x));
    const before = memoryStatistics().blocks;
    const y = noGrad(() => net.forward(x));
    expect(memoryStatistics().blocks).toBe(before + 1);
    expect(y.requiresGrad).toBe(false);
    let inner: Tensor | undefined;
    class Leaky extends nn.Module {
      forward(value: Tensor): Tensor {
        inner = value.mul(2);
        return inner.add(1);
      }
    }
    noGrad(() => new Leaky().forward(x));
    expect(() => inner!.data()).toThrow('released at the end of the scope (or noGrad forward) that made it');
  });
});

test('toString shows the tree', () => {
  expect(String(lenet({ variant: 'relu' }))).toBe(`LeNet(
  (features): Sequential(
    (0): Conv2d(1, 6, kernelSize=[5,5], padding=2)
    (1): ReLU()
    (2): MaxPool2d(kernelSize=2)
    (3): Conv2d(6, 16, kernelSize=[5,5])
    (4): ReLU()
    (5): MaxPool2d(kernelSize=2)
  )
  (classifier): Sequential(
    (0): Linear(inFeatures=400, outFeatures=120, bias=true)
    (1): ReLU()
    (2): Linear(inFeatures=120, outFeatures=84, bias=true)
    (3): ReLU()
    (4): Linear(inFeatures=84, outFeatures=10, bias=true)
  )
)`);
  expect(String(new nn.Conv2d(4, 8, 1, { groups: 2, bias: false }))).toBe(
    'Conv2d(4, 8, kernelSize=[1,1], groups=2, bias=false)',
  );
  expect(String(new nn.Dropout(0.25))).toBe('Dropout(p=0.25)');
  expect(String(new nn.MaxPool2d(3, { stride: 2, padding: 1 }))).toBe('MaxPool2d(kernelSize=3, stride=2, padding=1)');
});

test('losses as modules', () => {
  const [logits, target] = [tensor([[1, 2, 3]]), tensor([0], { dtype: 'i32' })];
  expect(new nn.CrossEntropyLoss({ labelSmoothing: 0.1 }).forward(logits, target).item()).toBe(
    F.crossEntropy(logits, target, { labelSmoothing: 0.1 }).item(),
  );
  expect(new nn.MSELoss({ reduction: 'sum' }).forward(tensor([1, 2]), tensor([3, 5])).item()).toBe(13);
  expect(() => new nn.MSELoss({ reduce: 'sum' } as never)).toThrow("MSELoss: unknown option 'reduce'");
  expect(() => new nn.CrossEntropyLoss({ smoothing: 1 } as never)).toThrow(
    "CrossEntropyLoss: unknown option 'smoothing'",
  );
});

describe('containers', () => {
  it('arrays of modules are children, named as in a ModuleList', () => {
    class Stack extends nn.Module {
      layers = [new nn.Linear(2, 2), new nn.Linear(2, 1)];
      forward(x: Tensor): Tensor {
        return this.layers.reduce((value, layer) => layer.forward(value), x);
      }
    }
    expect(Object.keys(new Stack().stateDict())).toEqual([
      'layers.0.weight',
      'layers.0.bias',
      'layers.1.weight',
      'layers.1.bias',
    ]);
  });

  it('Sequential can be appended to, and names a gap or what is no module', () => {
    const net = new nn.Sequential(new nn.Linear(2, 2));
    net[1] = new nn.Linear(2, 1);
    expect([net.length, ...net.forward(ones([3, 2])).shape]).toEqual([2, 3, 1]);
    net[5] = new nn.ReLU();
    expect(() => net.forward(ones([3, 2]))).toThrow('Sequential: there is a module at 5, but none at 2');
    const other = new nn.Sequential(new nn.ReLU());
    other[0] = ((x: Tensor) => x) as never;
    expect(() => other.forward(ones([1]))).toThrow('Sequential: what stands at 0 is not a Module');
  });
});

describe('code that comes from PyTorch', () => {
  it('may say inplace; inputs stay', () => {
    const x = tensor([-1, 2, 7]);
    const net = new nn.Sequential(
      new nn.Identity(54, { unused: true }),
      new nn.Dropout(0, { inplace: true }),
      new nn.Hardtanh({ minVal: -2, maxVal: 6.5, inplace: true }),
      new nn.ReLU6({ inplace: true }),
      new nn.ReLU({ inplace: true }),
    );
    expect(values(net.forward(x))).toEqual([0, 2, 6]);
    expect(values(x)).toEqual([-1, 2, 7]);
  });

  it.each<[string, () => unknown]>([
    ['MaxPool2d: options must be an object, got number; write { stride: ... }', () => new nn.MaxPool2d(2, 2 as never)],
    ['ReLU: options must be an object, got boolean; write { inplace: ... }', () => new nn.ReLU(true as never)],
    ['BatchNorm2d: options must be an object, got number; write { eps: ... }', () => new nn.BatchNorm2d(8, 1 as never)],
    [
      'Dropout: options must be an object, got boolean; write { inplace: ... }',
      () => new nn.Dropout(0.5, true as never),
    ],
  ])('is told how to write positional options: %s', (message, make) => {
    expect(make).toThrow(message);
  });
});

describe('initialiseBy', () => {
  it('changes first values before they are used, not after', () => {
    const parameter = nn.Parameter.lazy([3], (each) => nn.init.ones_(each));
    parameter.initialiseBy((each) => nn.init.constant_(each, 5));
    expect(values(parameter)).toEqual([5, 5, 5]);
    expect(() => parameter.initialiseBy((each) => nn.init.zeros_(each))).toThrow('has its values already');
  });
});
