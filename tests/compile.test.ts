// Compiled models: that they compute what forward does in evaluation mode, which calls the passes fold and fuse, how packed weights
// are shared and refreshed, what memory they take, and what their plans say.
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { loadSafetensors, saveSafetensors } from '../ts/exchange/safetensors.ts';
import * as F from '../ts/functional.ts';
import { lenet } from '../ts/models/lenet.ts';
import { resnet18 } from '../ts/models/resnet.ts';
import { engine } from '../ts/runtime/engine.ts';
import { EveryLayer } from './every-layer.ts';
import {
  type Algorithms,
  arange,
  type CompiledModel,
  captureStep,
  channelsLast,
  compile,
  contiguous,
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
  type Trace,
  tensor,
  zeros,
} from './feathermap.ts';

afterEach(shutdown);

const labels = (values: number[]): Tensor => tensor(values, { dtype: 'i32' });

/** Both results, the largest difference in units of the largest element. Passes change the order of sums, no more. */
function expectClose(actual: Tensor, expected: Tensor, tolerance = 2e-6): void {
  const [a, b] = [actual.data(), expected.data()];
  expect(actual.shape).toEqual(expected.shape);
  let [difference, largest] = [0, 0];
  b.forEach((value, i) => {
    difference = Math.max(difference, Math.abs(a[i]! - value));
    largest = Math.max(largest, Math.abs(value));
  });
  expect(difference / largest).toBeLessThan(tolerance);
}

/** The op calls that a program makes, with their modules. */
function opsOf(run: CompiledModel): string[] {
  return [...new Set(run.plan.commands.map(({ op, module }) => (module ? `${op} ${module}` : op)))];
}

/** A module from a function, with layers by name. */
class Net extends nn.Module {
  [name: string]: unknown;
  readonly #compute: (x: Tensor, layers: never) => Tensor;

  constructor(layers: Readonly<Record<string, nn.Module>>, compute: (x: Tensor, layers: never) => Tensor) {
    super();
    this.#compute = compute;
    Object.assign(this, layers);
  }

  forward(x: Tensor): Tensor {
    return this.#compute(x, this as never);
  }
}

type Layers<Name extends string> = Record<Name, nn.Sequential>;

describe('residual branches', () => {
  beforeEach(() => init({ threads: 1, debug: true }));

  const conv = (inputs: number, outputs: number, options: nn.Conv2dLayerOptions = { padding: 1 }, size = 3) =>
    new nn.Sequential(new nn.Conv2d(inputs, outputs, size, options));
  const shape = [2, 4, 9, 7] as const;

  /** Compiles a function of an image [2,4,9,7], compares it with the eager result, returns the ops of the program. */
  function check<Name extends string>(
    layers: Layers<Name>,
    compute: (x: Tensor, layers: Layers<Name>) => Tensor,
  ): string[] {
    const net = new Net(layers, (x, own) => compute(channelsLast(x), own)).eval();
    const run = compile(net, { input: shape });
    const x = randn(shape);
    expectClose(
      run(x),
      noGrad(() => net.forward(x)),
    );
    expectClose(
      run(x),
      noGrad(() => net.forward(x)),
    );
    return opsOf(run).map((op) => op.replace(' Net', ''));
  }

  it('start the sums of the convolution that ends them, activation included', () => {
    const block = { one: conv(4, 4), two: conv(4, 4) };
    expect(
      check(block, (x, { one, two }) =>
        x
          .relu()
          .add(two.forward(one.forward(x).relu()))
          .relu(),
      ),
    ).toEqual(['relayout', 'relu', 'conv2d one.0', 'conv2d two.0']);
  });

  it('with a convolution on both sides, whichever comes last', () => {
    const block = { one: conv(4, 6, { stride: 2, padding: 1 }), two: conv(6, 6), down: conv(4, 6, { stride: 2 }, 1) };
    const last = check(block, (x, { one, two, down }) => {
      const y = two.forward(one.forward(x).relu());
      return y.add(down.forward(x)).relu();
    });
    expect(last).toEqual(['relayout', 'conv2d one.0', 'conv2d two.0', 'conv2d down.0']);
    const first = check(block, (x, { one, two, down }) => {
      const shortcut = down.forward(x);
      return two.forward(one.forward(x).relu()).add(shortcut).relu();
    });
    expect(first).toEqual(['relayout', 'conv2d down.0', 'conv2d one.0', 'conv2d two.0']);
  });

  it('that are computed after the convolution are waited for', () => {
    const block = { one: conv(4, 4), two: conv(4, 4) };
    const ops = check(block, (x, { one, two }) => {
      const y = two.forward(x);
      return y.add(one.forward(x).sigmoid());
    });
    expect(ops).toEqual(['relayout', 'conv2d one.0', 'sigmoid', 'conv2d two.0']);
  });

  it('stay additions where the convolution is read twice, clamped before, broadcast or returned', () => {
    const block = { one: conv(4, 4), two: conv(4, 4) };
    const added = (compute: (x: Tensor, layers: typeof block) => Tensor): void =>
      expect(check(block, compute)).toContain('add');
    added((x, { one }) => {
      const y = one.forward(x);
      return y.add(x.sigmoid().add(y.mul(2)));
    });
    added((x, { one, two }) => one.forward(x).relu().add(two.forward(x).relu()));
    added((x, { one }) => {
      const y = one.forward(x);
      return y.add(y);
    });
    added((x, { one }) => one.forward(x).add(tensor([[[1]], [[2]], [[3]], [[4]]])));
    added((x, { one }) => one.forward(x).add(contiguous(x)));
  });

  it('take one residual each, through views, chains and shared layers', () => {
    const block = { one: conv(4, 4), two: conv(4, 4) };
    expect(
      check(block, (x, { one, two }) => {
        const a = one.forward(x.relu());
        const b = two.forward(a).add(a).relu();
        return one.forward(b).add(b).add(two.forward(b)).relu();
      }).filter((op) => op.startsWith('add')),
    ).toEqual([]);
    const ops = check(block, (x, { one }) => {
      const y = one.forward(x).unsqueeze(0).relu();
      return y.squeeze(0).add(one.forward(x.sigmoid()));
    });
    expect(ops).toEqual(['relayout', 'conv2d one.0', 'sigmoid']);
  });
});

describe('batch normalisation', () => {
  beforeEach(() => init({ threads: 1, debug: true }));

  /** Statistics, weights and biases that differ from channel to channel. */
  function stir(net: nn.Module): nn.Module {
    for (const [name, tensor] of Object.entries(net.stateDict())) {
      if (tensor.dtype !== 'f32' || tensor.ndim !== 1) continue;
      noGrad(() => tensor.copy_(rand(tensor.shape).add(name.endsWith('var') ? 0.2 : -0.3)));
    }
    return net.eval();
  }

  function check(net: nn.Module, shape: readonly number[]): string[] {
    stir(net);
    const run = compile(net as Net, { input: shape });
    const x = randn(shape);
    expectClose(
      run(x),
      noGrad(() => (net as Net).forward(x)),
    );
    return opsOf(run);
  }

  it.each([true, false])('behind a convolution becomes its scale and bias (bias: %s)', (bias) => {
    for (const affine of [true, false])
      expect(
        check(
          new nn.Sequential(new nn.Conv2d(3, 5, 3, { bias }), new nn.BatchNorm2d(5, { affine }), new nn.ReLU6()),
          [2, 3, 6, 5],
        ),
      ).toEqual(['conv2d 0']);
  });

  it('is folded for grouped, depthwise and shared layers', () => {
    expect(
      check(
        new nn.Sequential(
          new nn.Conv2d(4, 8, 3, { groups: 2, bias: false }),
          new nn.BatchNorm2d(8),
          new nn.ReLU(),
          new nn.Conv2d(8, 8, 3, { groups: 8, bias: false }),
          new nn.BatchNorm2d(8),
        ),
        [1, 4, 9, 9],
      ),
    ).toEqual(['conv2d 0', 'conv2d 3']);
    const shared = new Net(
      { conv: new nn.Conv2d(4, 4, 3, { padding: 1 }), one: new nn.BatchNorm2d(4), two: new nn.BatchNorm2d(4) },
      (x, { conv, one, two }: Record<'conv' | 'one' | 'two', nn.Conv2d>) =>
        two.forward(conv.forward(one.forward(conv.forward(x)).relu())),
    );
    expect(check(shared, [2, 4, 6, 6])).toEqual(['conv2d conv']);
  });

  it('stays where nothing comes before it, or somebody else reads the convolution', () => {
    expect(check(new nn.Sequential(new nn.BatchNorm2d(3), new nn.ReLU()), [2, 3, 4, 5])).toEqual(['batchNormEval 0']);
    const read = new Net(
      { conv: new nn.Conv2d(4, 4, 1), norm: new nn.BatchNorm2d(4) },
      (x, { conv, norm }: Record<'conv' | 'norm', nn.Conv2d>) => {
        const y = conv.forward(x);
        return norm.forward(y).sigmoid().mul(y);
      },
    );
    expect(check(read, [2, 4, 6, 6])).toContain('batchNormEval norm');
    const twice = new nn.Sequential(new nn.Conv2d(2, 3, 1), new nn.BatchNorm2d(3), new nn.BatchNorm2d(3));
    expect(check(twice, [2, 2, 4, 4])).toEqual(['conv2d 0', 'batchNormEval 2']);
  });

  it('folded or not, follows statistics that move', () => {
    const net = stir(new nn.Sequential(new nn.Conv2d(3, 5, 3), new nn.BatchNorm2d(5))) as nn.Sequential;
    const run = compile(net, { input: [2, 3, 6, 6] });
    const x = randn([2, 3, 6, 6]);
    const before = run(x).data();
    net.train();
    noGrad(() => net.forward(x));
    net.eval();
    expect(run(x).data()).not.toEqual(before);
    expectClose(
      run(x),
      noGrad(() => net.forward(x)),
    );
  });

  it('in a residual network is gone, with the additions and activations', () => {
    const net = stir(resnet18({ numClasses: 10 })) as ReturnType<typeof resnet18>;
    const run = compile(net, { input: [1, 3, 64, 64] });
    expect(new Set(run.plan.layers.map(({ op }) => op))).toEqual(
      new Set(['conv2d', 'maxPool2d', 'avgPool2d', 'linear']),
    );
    expect(run.plan.layers.filter(({ fused }) => fused.includes('residual')).length).toBe(8);
    const x = randn([1, 3, 64, 64]);
    expectClose(
      run(x),
      noGrad(() => net.forward(x)),
      5e-5,
    );
  });
});

describe('algorithms', () => {
  const net = () => new nn.Sequential(new nn.Conv2d(32, 32, 3, { padding: 1 }), new nn.Conv2d(32, 16, 1));
  const input = [2, 32, 28, 28] as const;

  it('are measured, saved and given back: then the bits are the same on any number of threads', async () => {
    let algorithms: Algorithms | undefined;
    const results: unknown[] = [];
    for (const threads of [1, 2, 3]) {
      await init({ threads });
      manualSeed(3);
      const model = net();
      const x = randn(input);
      const run = compile(model, { input, algorithms });
      algorithms ??= JSON.parse(JSON.stringify(run.plan.algorithms));
      expect(run.plan.algorithms).toEqual(algorithms);
      results.push(run(x).data());
      await shutdown();
    }
    for (const result of results) expect(result).toEqual(results[0]);
  });

  it.each(['direct', 'winograd2', 'winograd4'] as const)('can be asked for: %s', async (algorithm) => {
    await init({ threads: 1 });
    const model = net();
    const run = compile(model, { input, algorithms: { '0': algorithm } });
    expect(run.plan.layers.map((layer) => layer.algorithm)).toEqual([algorithm, 'direct']);
    const x = randn(input);
    expectClose(
      run(x),
      noGrad(() => model.forward(x)),
      5e-5,
    );
  });

  it("of 5 x 5 kernels: Winograd's F(2x2, 5x5), checked on the layer's weights", async () => {
    await init({ threads: 1 });
    const model = new nn.Sequential(new nn.Conv2d(32, 48, 5, { padding: 2 }), new nn.ReLU());
    const run = compile(model, { input });
    expect(run.plan.layers.map(({ algorithm, note }) => [algorithm, note])).toEqual([['winograd2', '']]);
    expect(() => compile(model, { input, algorithms: { 0: 'winograd4' } })).toThrow(
      'compile: algorithm "winograd4" does not apply to 0',
    );
    const x = randn(input);
    expectClose(
      run(x),
      noGrad(() => model.forward(x)),
      5e-5,
    );
  });

  it.each(['winograd2', 'winograd4'] as const)('%s: nothing is left over from an earlier run', async (algorithm) => {
    for (const threads of [1, 2, 3]) {
      await init({ threads });
      const model = new nn.Sequential(new nn.Conv2d(96, 160, 3, { padding: 1 }));
      const shape = [1, 96, 14, 14] as const;
      const run = compile(model, { input: shape, algorithms: { 0: algorithm } });
      for (let repeat = 0; repeat < 5; repeat++) {
        const x = randn(shape);
        expectClose(
          run(x),
          noGrad(() => model.forward(x)),
          5e-5,
        );
      }
      await shutdown();
    }
  });

  it('that do not apply or name no layer are refused', async () => {
    await init({ threads: 1 });
    const compiled = (algorithms: unknown) => () => compile(net(), { input, algorithms: algorithms as Algorithms });
    expect(compiled({ 1: 'winograd4' })).toThrow('compile: algorithm "winograd4" does not apply to 1');
    expect(compiled({ 0: 'fft' })).toThrow('compile: algorithm "fft" does not apply to 0');
    expect(compiled({ 7: 'direct' })).toThrow(
      "compile: algorithms names '7', which is no convolution of this model; there are 0, 1",
    );
    expect(compiled(3)).toThrow('compile: algorithms is an object by layer, got 3');
  });

  it('without Winograd are direct', async () => {
    await init({ threads: 1 });
    const run = compile(net(), { input, winograd: false });
    expect(run.plan.algorithms).toEqual({ 0: 'direct', 1: 'direct' });
  });

  it('are not measured when results must not depend on time', async () => {
    await init({ threads: 1, deterministic: true });
    const now = vi.spyOn(performance, 'now');
    const run = compile(net(), { input });
    expect(now).not.toHaveBeenCalled();
    now.mockRestore();
    expect(compile(net(), { input }).plan.algorithms).toEqual(run.plan.algorithms);
  });

  it('that are too far off on the weights of a layer are not used, and the plan says so', async () => {
    await init({ threads: 1 });
    const model = new nn.Sequential(new nn.Conv2d(32, 32, 3, { padding: 1, bias: false }));
    // Weights that cancel: the outputs are small against the products they are sums of.
    const weight = new Float32Array(32 * 32 * 9).map((_, i) => (i % 9 === 4 ? 1e-3 : i % 2 ? 1000 : -1000));
    for (let i = 0; i < weight.length; i += 9) weight[i + 8] = -weight.slice(i, i + 8).reduce((a, b) => a + b);
    noGrad(() => model.parameters()[0]!.copy_(tensor(weight, { shape: [32, 32, 3, 3] })));
    const run = compile(model, { input, algorithms: { 0: 'winograd4' } });
    const [layer] = run.plan.layers;
    if (layer!.algorithm === 'winograd4') expect(layer!.note).toBe('');
    else expect(layer!.note).toMatch(/^winograd4 is off by .*e-\d of the largest output on these weights/);
    expect(String(run.plan)).toContain(layer!.note);
  });
});

describe('packed weights', () => {
  beforeEach(() => init({ threads: 1, debug: true }));
  const model = () => new nn.Sequential(new nn.Conv2d(3, 16, 3), new nn.Flatten(), new nn.Linear(16 * 36, 50)).eval();
  const shape = (batch: number) => [batch, 3, 8, 8];

  it('are one copy for all programs over a model, and go with the last of them', () => {
    const net = model();
    const one = compile(net, { input: shape(1) });
    const withOne = memoryStatistics().blocks;
    const four = compile(net, { input: shape(4) });
    // A program of its own and nothing else; the arena was there.
    expect(memoryStatistics().blocks - withOne).toBe(1);
    const x = randn(shape(4));
    const check = (): void =>
      expectClose(
        four(x),
        noGrad(() => net.forward(x)),
      );
    check();
    one.dispose();
    check();
    nn.init.normal_(net.parameters()[0]!);
    check();
    const { blocks } = memoryStatistics();
    four.dispose();
    // Two packed weights, the program, the arena.
    expect(blocks - memoryStatistics().blocks).toBe(4);
  });

  it('are packed again for every program when weights change, once', () => {
    const net = model();
    const [one, four] = [compile(net, { input: shape(1) }), compile(net, { input: shape(4) })];
    const x = randn(shape(4));
    for (let i = 0; i < 3; i++) {
      nn.init.normal_(net.parameters()[i]!);
      expectClose(
        four(x),
        noGrad(() => net.forward(x)),
      );
      expectClose(
        one(x.slice([[0, 1]])),
        noGrad(() => net.forward(x.slice([[0, 1]]))),
      );
    }
  });

  it('replace the parameters with releaseWeights, and who reads those is told', () => {
    const net = model();
    const x = randn(shape(1));
    const expected = noGrad(() => net.forward(x));
    const before = memoryStatistics().allocatedBytes;
    const run = compile(net, { input: shape(1), releaseWeights: true });
    const weights = 4 * net.parameters().reduce((sum, { size }) => sum + size, 0);
    expect(memoryStatistics().allocatedBytes - before).toBeLessThan(0.5 * weights);
    expectClose(run(x), expected);
    expectClose(run(x), expected);
    const message = "was released once compile had packed it, as releaseWeights or memory 'small' ask for";
    expect(() => net.forward(x)).toThrow(message);
    expect(() => net.parameters()[0]!.data()).toThrow(message);
    expect(() => net.loadStateDict(model().stateDict())).toThrow(message);
    expect(() => compile(net, { input: shape(2) })).toThrow(message);
    expectClose(run(x), expected);
    run.dispose();
  });

  it('leave parameters alone that a program reads as they are, or another program needs', () => {
    const net = new Net({ conv: new nn.Conv2d(2, 2, 1) }, (x, { conv }: Record<'conv', nn.Conv2d>) =>
      conv.forward(x).add(conv.bias!.reshape([2, 1, 1])),
    ).eval();
    const x = randn([1, 2, 3, 3]);
    const expected = noGrad(() => net.forward(x));
    const kept = compile(net, { input: [1, 2, 3, 3] });
    const run = compile(net, { input: [1, 2, 3, 3], releaseWeights: true });
    expectClose(run(x), expected);
    expectClose(kept(x), expected);
    expectClose(
      noGrad(() => net.forward(x)),
      expected,
    );
    kept.dispose();
    const last = compile(net, { input: [1, 2, 3, 3], releaseWeights: true });
    expectClose(last(x), expected);
    expect((net.conv as nn.Conv2d).bias!.data().length).toBe(2);
    expect(() => (net.conv as nn.Conv2d).weight.data()).toThrow('was released once compile had packed it');
  });
});

describe('linear memory of ResNet-18, loading included', () => {
  const input = [1, 3, 224, 224];
  let bytes = new Uint8Array();
  beforeAll(async () => {
    await init({ threads: 1 });
    bytes = saveSafetensors(resnet18().stateDict());
    await shutdown();
  });

  it.each([
    ['small', (weights: number) => weights + 16 * 2 ** 20],
    ['fast', (weights: number) => 5 * weights],
  ] as const)('stays within bounds: %s', async (memory, bound) => {
    await init({ threads: 1 });
    const net = resnet18();
    net.loadStateDict(loadSafetensors(bytes));
    const x = rand(input);
    const run = compile(net, { input, memory });
    run(x);
    const weights = 4 * net.parameters().reduce((sum, { size }) => sum + size, 0);
    expect(weights).toBe(4 * 11_689_512);
    expect(engine().memory.memory.buffer.byteLength).toBeLessThanOrEqual(bound(weights));
    if (memory === 'small') expect(new Set(Object.values(run.plan.algorithms))).toEqual(new Set(['direct']));
  });
});

describe('intermediates', () => {
  beforeEach(() => init({ threads: 1 }));

  it('of elementwise ops lie over the operand that nobody needs again', () => {
    class Chain extends nn.Module {
      forward(x: Tensor): Tensor {
        const a = x.sigmoid();
        const b = a.mul(2).add(1).neg().clamp({ min: -2.5 });
        return b.add(a).mul(b).sub(x).tanh();
      }
    }
    const net = new Chain();
    const run = compile(net, { input: [1000] });
    // Two values live at once, a and b, each 4000 bytes and slack; the result is not an intermediate.
    expect(run.plan.arenaBytes).toBe(2 * 4096);
    const x = randn([1000]);
    expect(run(x).data()).toEqual(net.forward(x).data());
    const squares = compile(new Net({}, (v) => v.sigmoid().mul(v.sigmoid()).exp()), { input: [3, 1] });
    const y = randn([3, 1]);
    expect(squares(y).data()).toEqual(y.sigmoid().mul(y.sigmoid()).exp().data());
    const outer = compile(
      new Net({}, (v) =>
        v
          .exp()
          .add(v.exp().reshape([1, 3]))
          .exp(),
      ),
      { input: [3, 1] },
    );
    expect(outer(y).data()).toEqual(
      y
        .exp()
        .add(y.exp().reshape([1, 3]))
        .exp()
        .data(),
    );
  });

  it('and everything else add up to the peak that the plan says', () => {
    const net = lenet();
    const x = keep(rand([8, 1, 28, 28]));
    const run = compile(net, { input: [8, 1, 28, 28] });
    run(x).dispose();
    const y = run(x);
    // The program does not draw random numbers: the generator's state is not its own.
    const generator = 128;
    expect(memoryStatistics().allocatedBytes).toBe(run.plan.peakBytes + generator);
    y.dispose();
  });
});

describe('plans and profiles', () => {
  beforeEach(() => init({ threads: 1 }));

  it('say what each layer is, takes and does', () => {
    const net = new nn.Sequential(
      new nn.Conv2d(3, 8, 3, { bias: false }),
      new nn.BatchNorm2d(8),
      new nn.ReLU(),
      new nn.AvgPool2d(2),
    );
    const run = compile(net, { input: [1, 3, 10, 10] });
    const [conv, pool] = run.plan.layers;
    expect(conv).toEqual({
      module: '0',
      op: 'conv2d',
      algorithm: 'direct',
      fused: ['scale', 'clamp'],
      note: '',
      input: [1, 3, 10, 10],
      output: [1, 8, 8, 8],
      bytes: expect.any(Number),
      macs: 64 * 8 * 27,
      milliseconds: null,
      shareOfPeak: null,
    });
    expect(pool!.macs).toBe(0);
    // The image, read as it is, panels of 8 x (27 + 1) floats, the result.
    expect(conv!.bytes).toBe(4 * (300 + 8 * 28 + 512));
    expect(String(run.plan).split('\n').slice(0, 4)).toEqual([
      'module  op                  algorithm  input      output     MB  MMACs',
      '0       conv2d+scale+clamp  direct     1x3x10x10  1x8x8x8  0.00    0.0',
      expect.stringMatching(/^3 {7}avgPool2d/),
      expect.stringMatching(/all/),
    ]);
  });

  it('are measured by profile, which leaves a trace', () => {
    const run = compile(lenet(), { input: [4, 1, 28, 28] });
    const x = rand([4, 1, 28, 28]);
    const blocks = memoryStatistics().blocks;
    const profile = run.profile(x, 3);
    expect(memoryStatistics().blocks).toBe(blocks);
    expect(profile.peakGflops).toBeGreaterThan(0);
    expect(profile.layers.length).toBe(run.plan.layers.length);
    for (const { milliseconds, macs, shareOfPeak } of run.plan.layers) {
      expect(milliseconds).toBeGreaterThanOrEqual(0);
      expect(shareOfPeak !== null).toBe(macs > 0);
    }
    expect(profile.milliseconds).toBeCloseTo(
      profile.layers.reduce((sum, { milliseconds }) => sum + milliseconds!, 0),
      9,
    );
    expect(String(profile)).toMatch(/ms {2,}peak\n/);
    const { traceEvents, displayTimeUnit } = JSON.parse(JSON.stringify(profile.trace())) as Trace;
    expect(displayTimeUnit).toBe('ms');
    const calls = traceEvents.filter(({ ph }) => ph === 'X');
    expect(calls.map(({ name }) => name)).toEqual(profile.layers.map(({ module }) => module));
    let end = 0;
    for (const { ts, dur, pid, tid } of calls) {
      expect([ts, pid, tid]).toEqual([end, 1, 1]);
      end = ts! + dur!;
    }
    expect(() => run.profile(x, 0)).toThrow('profile: runs must be a whole number >= 1, got 0');
  });

  it('of captured steps are tables too', () => {
    const w = tensor([[1, 2]], { requiresGrad: true });
    const step = captureStep((x: Tensor) => x.matmul(w.transpose(0, 1)).sum());
    step(ones([1, 2]));
    expect(String(step.plan)).toMatch(/matmul/);
    expect(step.plan!.macs).toBe(step.plan!.layers.reduce((sum, { macs }) => sum + macs, 0));
  });
});

describe('what changes nothing', () => {
  beforeEach(() => init({ threads: 1, debug: true }));

  it('is dropped, unless it makes a result', () => {
    const net = new nn.Sequential(
      new nn.Conv2d(2, 3, 3),
      new nn.AvgPool2d(1),
      new nn.ReLU(),
      new nn.MaxPool2d(1),
      new nn.ReLU(),
      new nn.Dropout(),
      new nn.Sigmoid(),
    ).eval();
    const run = compile(net, { input: [1, 2, 5, 5] });
    expect(opsOf(run)).toEqual(['conv2d 0', 'sigmoid 6']);
    const x = randn([1, 2, 5, 5]);
    expectClose(
      run(x),
      noGrad(() => net.forward(x)),
    );
    const last = compile(new nn.Sequential(new nn.Sigmoid(), new nn.MaxPool2d(1)), { input: [1, 2, 5, 5] });
    expectClose(last(x), x.sigmoid());
  });
});

describe('an image that is flattened for a dense layer', () => {
  beforeEach(() => init({ threads: 1, debug: true }));

  it('stays where it is, for all layers that read it', () => {
    const net = new Net(
      { conv: new nn.Conv2d(3, 5, 3), one: new nn.Linear(60, 7), two: new nn.Linear(60, 7, { bias: false }) },
      (x, { conv, one, two }: Record<'conv' | 'one' | 'two', nn.Linear>) => {
        const y = F.flatten(conv.forward(x), 1);
        return one.forward(y).relu().add(two.forward(y));
      },
    ).eval();
    const run = compile(net, { input: [4, 3, 5, 6] });
    expect(opsOf(run)).toEqual(['conv2d conv', 'linear one', 'linear two', 'add Net']);
    const x = randn([4, 3, 5, 6]);
    expectClose(
      run(x),
      noGrad(() => net.forward(x)),
    );
  });

  it('moves where somebody else wants it in row-major order', () => {
    const net = new Net(
      { conv: new nn.Conv2d(3, 5, 3), one: new nn.Linear(60, 60) },
      (x, { conv, one }: Record<'conv' | 'one', nn.Linear>) => {
        const y = F.flatten(conv.forward(x), 1);
        return one.forward(y).add(y);
      },
    ).eval();
    const run = compile(net, { input: [4, 3, 5, 6] });
    expect(opsOf(run)).toContain('relayout Net');
    const x = randn([4, 3, 5, 6]);
    expectClose(
      run(x),
      noGrad(() => net.forward(x)),
    );
  });
});

describe('compile', () => {
  beforeEach(() => init({ threads: 1 }));

  it('computes what forward does in evaluation mode', () => {
    const net = new EveryLayer();
    const x = rand([4, 1, 8, 8]);
    const run = compile(net, { input: [4, 1, 8, 8] });
    net.eval();
    const expected = net.forward(x);
    expectClose(run(x), expected);
    expectClose(run(x.mul(1)), expected);
  });

  it.each(['sigmoid', 'relu'] as const)(
    'computes LeNet with %s, with the same bits on 1, 2 and 3 threads',
    async (variant) => {
      const results: unknown[] = [];
      for (const threads of [1, 2, 3]) {
        await shutdown();
        await init({ threads });
        manualSeed(1);
        const net = lenet({ variant });
        const x = rand([3, 1, 28, 28]);
        const y = compile(net, { input: [3, 1, 28, 28] })(x);
        expectClose(
          y,
          noGrad(() => net.eval().forward(x)),
        );
        results.push(y.data());
      }
      for (const result of results) expect(result).toEqual(results[0]);
    },
  );

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
    expect(opsOf(run)).toEqual(['conv2d 0', 'linear 4']);
    net.eval();
    const x = randn([1, 1, 4, 4]);
    expectClose(run(x), net.forward(x));
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
    const same = (): void =>
      expectClose(
        run(x),
        noGrad(() => net.forward(x)),
      );
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

  it('notices layers that are replaced, added, removed or swapped, wherever a module holds them', () => {
    const plusOne = (): nn.Module => new Net({}, (x) => x.add(1));
    const double = new Net({}, (x) => x.mul(2));
    interface Holder {
      head: nn.Module;
      later: nn.Module | null;
      optional: nn.Module | false;
      list: nn.Module[];
      chain: nn.Sequential;
      extra?: nn.Module;
    }
    const chain = new nn.Sequential(plusOne());
    const forward = (x: Tensor, { head, later, optional, list, extra, chain }: Holder): Tensor =>
      [head, later, optional || null, ...list, extra, chain].reduce(
        (value, layer) => layer?.forward(value) ?? value,
        x,
      );
    const net = new Net({ head: plusOne(), chain }, forward as never) as unknown as nn.Module & Holder;
    net.later = null;
    net.optional = false;
    net.list = [plusOne()];
    const run = compile(net, { input: [1] });
    const answer = (): number => run(ones([1])).item();
    expect([answer(), answer()]).toEqual([4, 4]);
    const changes: [change: () => void, expected: number][] = [
      [() => (net.head = double), 4],
      [() => (net.later = plusOne()), 5],
      [() => net.list.push(double), 9],
      [() => net.list.reverse(), 8],
      [() => net.list.pop(), 7],
      [() => (net.extra = double), 13],
      [() => (net.extra = undefined as never), 7],
      [() => (chain[1] = double), 14],
      [() => (chain[0] = double), 24],
      [() => (net.optional = double), 48],
    ];
    for (const [change, expected] of changes) {
      change();
      expect([answer(), answer()]).toEqual([expected, expected]);
    }
  });

  it('refuses other shapes, dtypes and options', () => {
    const run = compile(new nn.Flatten(), { input: [2, 3, 1] });
    expect(() => run(zeros([1, 3, 1]))).toThrow(RangeError);
    expect(() => run(zeros([1, 3, 1]))).toThrow('compile: this program is for f32 [2,3,1], got f32 [1,3,1]');
    expect(() => run(zeros([2, 3, 1], { dtype: 'u8' }))).toThrow('got u8 [2,3,1]');
    expect(() => run(3 as never)).toThrow('compile: expected a Tensor, got a number');
    expect(() => (compile as (net: nn.Module) => unknown)(new nn.Flatten())).toThrow('compile: options are missing');
    expect(() => compile(new nn.Flatten(), { input: [-1] })).toThrow(/^compile: .*-1/);
    expect(() => compile(new nn.Flatten(), { input: [1], memory: 'tiny' } as never)).toThrow(
      "compile: memory is 'fast' or 'small'",
    );
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
    const run = compile(lenet(), { input: [1, 1, 28, 28] });
    const { commands } = run.plan;
    expect(opsOf(run)).toEqual([
      'conv2d features.0',
      'sigmoid features.1',
      'avgPool2d features.2',
      'conv2d features.3',
      'sigmoid features.4',
      'avgPool2d features.5',
      'linear classifier.0',
      'sigmoid classifier.1',
      'linear classifier.2',
      'sigmoid classifier.3',
      'linear classifier.4',
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
    expect([afterOne.blocks - before.blocks, afterTwo.blocks - afterOne.blocks]).toEqual([7, 1]);
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
