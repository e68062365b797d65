// Optimisers and schedules: trajectories from PyTorch, groups, state, long lists of parameters, errors.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { assignGradient, gradientOf } from '../../ts/autograd/gradient.ts';
import { noGrad } from '../../ts/autograd/mode.ts';
import { UpdateStep } from '../../ts/graph/gradient-step.ts';
import { copy_ } from '../../ts/ops/copy.ts';
import '../../ts/methods.ts';
import { detach, permute } from '../../ts/ops/shape.ts';
import { Adam, AdamW, SGD } from '../../ts/optim/index.ts';
import type { Optimizer } from '../../ts/optim/optimizer.ts';
import {
  CosineAnnealingLR,
  cosineOfPi,
  ExponentialLR,
  LambdaLR,
  type LRSchedule,
  MultiStepLR,
  StepLR,
} from '../../ts/optim/schedule.ts';
import { init, shutdown } from '../../ts/runtime/engine.ts';
import { full, tensor, zeros } from '../../ts/tensor/create.ts';
import type { TypedArray } from '../../ts/tensor/dtype.ts';
import { data } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import {
  baseLr,
  type OptimCase,
  optimCases,
  optimInputs,
  optimTolerance,
  type ScheduleCase,
  scheduleCases,
} from '../cases/optim.ts';
import { goldenList, goldenTensor } from '../golden/load.ts';
import { expectClose, expectEqual } from '../reference/compare.ts';
import { integers } from '../reference/values.ts';

beforeAll(async () => {
  await init({ threads: 1, debug: true });
});
afterAll(shutdown);

const leaf = (values: number[] | Float32Array): Tensor => tensor(values as number[], { requiresGrad: true });

function make({ optimizer, options }: OptimCase, params: Tensor[]): Optimizer {
  if (optimizer === 'SGD') return new SGD(params, { lr: Number.NaN, ...options });
  return optimizer === 'Adam' ? new Adam(params, options) : new AdamW(params, options);
}

describe('ten steps as PyTorch', () => {
  for (const task of optimCases)
    test(task.name, () => {
      const { w, gradients } = optimInputs(task);
      const expected = goldenTensor(`optim/${task.name}`);
      const parameter = leaf(w);
      const optimizer = make(task, [parameter]);
      gradients.forEach((gradient, step) => {
        assignGradient(parameter, tensor(gradient));
        optimizer.step();
        const after = expected.data.subarray(step * w.length, (step + 1) * w.length);
        expectClose(data(parameter), after, { tolerance: optimTolerance, label: `step ${step}` });
      });
    });
});

/** The same rule in f64, for one number. */
function sgdRule(w: number, gradients: readonly number[], lr: number, momentum: number): number {
  let average = 0;
  for (const gradient of gradients) {
    average = momentum * average + gradient;
    w -= lr * average;
  }
  return w;
}

test('many parameters of all sizes in one step, those without a gradient untouched', () => {
  const sizes = [1, 2, 3, 4, 5, 7, 8, 17, 8191, 8192, 8193, 20000];
  const start = sizes.map((size) => integers(`optim/many/${size}`, size, -8, 8));
  const params = start.map((values) => leaf(values));
  const idle = leaf([1, 2, 3]);
  const optimizer = new SGD([...params, idle], { lr: 0.5, momentum: 0.5 });
  for (let step = 0; step < 3; step++) {
    for (const [i, parameter] of params.entries()) assignGradient(parameter, tensor(start[i]!));
    optimizer.step();
  }
  params.forEach((parameter, i) => {
    const expected = start[i]!.map((value) => sgdRule(value, [value, value, value], 0.5, 0.5));
    expectEqual(data(parameter), expected, `size ${sizes[i]}`);
  });
  expectEqual(data(idle), [1, 2, 3], 'idle');
  optimizer.zeroGrad();
  expect(params.every((parameter) => gradientOf(parameter) === null)).toBe(true);
  optimizer.step();
  expectEqual(
    data(params[0]!),
    start[0]!.map((value) => sgdRule(value, [value, value, value], 0.5, 0.5)),
    'no gradients',
  );
});

test('parameters that lie in memory in another order', () => {
  const shape = [2, 3, 4];
  const values = integers('optim/layout', 24, -8, 8);
  const plain = tensor(values, { shape, requiresGrad: true });
  const turned = data(permute(detach(plain), [0, 2, 1]));
  const parameter = permute(tensor(turned, { shape: [2, 4, 3] }), [0, 2, 1]);
  parameter.requiresGrad = true;
  const optimizer = new Adam([plain, parameter], { lr: 0.1 });
  for (const each of [plain, parameter]) assignGradient(each, tensor(values, { shape }));
  optimizer.step();
  expectEqual(data(parameter), data(plain), 'layout');
});

describe('a captured update', () => {
  for (const [name, build] of [
    ['SGD', (p: Tensor) => new SGD([p], { lr: 0.1, momentum: 0.9, dampening: 0.5, nesterov: false })],
    ['AdamW', (p: Tensor) => new AdamW([p], { lr: 0.1 })],
  ] as const)
    test(`${name} equals the eager one, with another rate on the way`, () => {
      const values = integers('optim/captured', 9000, -8, 8);
      const [eager, captured] = [leaf(values), leaf(values)];
      const optimizers = [build(eager), build(captured)] as const;
      const update = new UpdateStep(optimizers[1]);
      for (let step = 0; step < 4; step++) {
        for (const each of [eager, captured]) assignGradient(each, tensor(values.map((v) => v + step)));
        if (step === 2) for (const optimizer of optimizers) optimizer.lr = 0.025;
        optimizers[0].step();
        update.run();
      }
      expectEqual(data(captured), data(eager), name);
      update.dispose();
    });
});

describe('each parameter counts its own steps', () => {
  const OPTIMIZERS: [string, (params: Tensor[]) => Optimizer][] = [
    ['Adam', (params) => new Adam(params, { lr: 0.1 })],
    ['AdamW', (params) => new AdamW(params, { lr: 0.1 })],
    ['SGD', (params) => new SGD(params, { lr: 0.1, momentum: 0.9, dampening: 0.5 })],
  ];
  const gradients = Array.from({ length: 14 }, (_, step) => [1 + (step % 3), -0.5 * step]);
  for (const [name, build] of OPTIMIZERS)
    for (const captured of [false, true])
      test(`${name}, ${captured ? 'captured' : 'eager'}: one that joins late starts anew`, () => {
        const [early, late, alone] = [leaf([1, 2]), leaf([1, 2]), leaf([1, 2])];
        const optimizer = build([early, late]);
        const update = new UpdateStep(optimizer);
        const lone = build([alone]);
        gradients.forEach((gradient, step) => {
          assignGradient(early, tensor(gradient));
          if (step >= 10) {
            assignGradient(late, tensor(gradient));
            assignGradient(alone, tensor(gradient));
            lone.step();
          }
          if (captured) update.run();
          else optimizer.step();
        });
        expectEqual(data(late), data(alone), name);
        const { state } = optimizer.stateDict();
        expect([state[0]!['step'], state[1]!['step']]).toEqual([14, 4]);
        update.dispose();
      });

  test('the first step of Adam has the length of its rate, whenever it comes', () => {
    const [a, b] = [leaf([1]), leaf([1])];
    const optimizer = new Adam([a, b], { lr: 0.1 });
    for (let step = 0; step < 11; step++) {
      assignGradient(a, tensor([1]));
      if (step === 10) assignGradient(b, tensor([1]));
      optimizer.step();
    }
    expect(data(b)[0]).toBeCloseTo(0.9, 6);
  });

  test('other betas count from the steps made, as PyTorch raises them to the power of the step', () => {
    const run = (change: boolean): TypedArray => {
      const parameter = leaf([1]);
      const optimizer = new Adam([parameter], { lr: 0.1, betas: change ? [0.5, 0.9] : [0.9, 0.999] });
      const twice = { step: 2, expAvg: tensor([0.25]), expAvgSq: tensor([0.5]) };
      optimizer.loadStateDict({ state: { 0: twice }, paramGroups: [{ params: [0] }] });
      optimizer.paramGroups[0]!.betas = [0.9, 0.999];
      assignGradient(parameter, tensor([1]));
      optimizer.step();
      return data(parameter);
    };
    expectEqual(run(true), run(false), 'betas');
  });
});

test('empty parameters are passed over', () => {
  for (const build of [(p: Tensor[]) => new SGD(p, { lr: 0.5 }), (p: Tensor[]) => new Adam(p, { lr: 0.5 })]) {
    const params = [
      leaf([1, 2]),
      zeros([0], { requiresGrad: true }),
      leaf([1, 2]),
      zeros([0, 3], { requiresGrad: true }),
    ];
    const optimizer = build(params);
    for (const parameter of params) assignGradient(parameter, full(parameter.shape, 1));
    optimizer.step();
    for (const i of [0, 2]) expect([...data(params[i]!)]).toEqual([0.5, 1.5]);
  }
});

test('groups have hyper-parameters of their own, which can be set', () => {
  const [a, b] = [leaf([1]), leaf([1])];
  const optimizer = new SGD([{ params: [a], lr: 1 }, { params: [b] }], { lr: 0.5 });
  expect(optimizer.paramGroups.map(({ lr }) => lr)).toEqual([1, 0.5]);
  const step = (): void => {
    for (const parameter of [a, b]) assignGradient(parameter, tensor([0.25]));
    optimizer.step();
  };
  step();
  expect([...data(a), ...data(b)]).toEqual([0.75, 0.875]);
  optimizer.paramGroups[1]!.lr = 0.25;
  step();
  expect([...data(a), ...data(b)]).toEqual([0.5, 0.8125]);
  optimizer.lr = 2;
  step();
  expect([...data(a), ...data(b)]).toEqual([0, 0.3125]);
  expect(optimizer.lr).toBe(2);
});

describe('state dictionaries', () => {
  const gradients = [
    [1, -2],
    [0.5, 0.25],
    [3, 1],
    [-1, 2],
  ];
  for (const [name, build] of [
    ['SGD', (p: Tensor) => new SGD([p], { lr: 0.1, momentum: 0.9, dampening: 0.5 })],
    ['Adam', (p: Tensor) => new Adam([p], { lr: 0.1 })],
  ] as const)
    test(`${name} goes on where it was`, () => {
      const run = (parameter: Tensor, optimizer: Optimizer, from: number, to: number): void => {
        for (const gradient of gradients.slice(from, to)) {
          assignGradient(parameter, tensor(gradient));
          optimizer.step();
        }
      };
      const whole = leaf([1, 2]);
      run(whole, build(whole), 0, 4);
      const first = leaf([1, 2]);
      const before = build(first);
      run(first, before, 0, 2);
      const second = leaf([...data(first)]);
      const after = build(second);
      after.lr = 7;
      after.loadStateDict(before.stateDict());
      expect(after.lr).toBe(0.1);
      run(second, after, 2, 4);
      expectEqual(data(second), data(whole), name);
    });

  test('that do not fit are refused', () => {
    const optimizer = new Adam([leaf([1])]);
    const other = new Adam([leaf([1]), leaf([2])]);
    expect(() => optimizer.loadStateDict(other.stateDict())).toThrow(
      /Adam: state for groups of \[2\] parameters, this optimiser has groups of \[1\]/,
    );
    const wrong = {
      state: { 0: { step: 1, expAvg: zeros([2]), expAvgSq: zeros([1]) } },
      paramGroups: [{ params: [0] }],
    };
    expect(() => optimizer.loadStateDict(wrong)).toThrow(
      /Adam: 'expAvg' of parameter 0 is \[2\], the parameter is \[1\]/,
    );
    const missing = { state: { 0: { step: 1 } }, paramGroups: [{ params: [0] }] };
    expect(() => optimizer.loadStateDict(missing)).toThrow(/Adam: state of parameter 0 has no tensor 'expAvg'/);
  });

  test('parameters go on from different numbers of steps', () => {
    const make = (): [Tensor[], Adam] => {
      const params = [leaf([1, 2]), leaf([3, 4])];
      return [params, new Adam(params, { lr: 0.1 })];
    };
    const [params, optimizer] = make();
    const step = (list: Tensor[], each: Optimizer, i: number): void => {
      for (const parameter of i < 2 ? list.slice(0, 1) : list) assignGradient(parameter, tensor(gradients[i]!));
      each.step();
    };
    for (let i = 0; i < 3; i++) step(params, optimizer, i);
    const [others, other] = make();
    params.forEach((parameter, i) => void noGrad(() => copy_(others[i]!, parameter)));
    other.loadStateDict(optimizer.stateDict());
    step(params, optimizer, 3);
    step(others, other, 3);
    for (const i of [0, 1]) expectEqual(data(others[i]!), data(params[i]!), `parameter ${i}`);
  });

  test('parameters without an entry start anew', () => {
    const [used, fresh] = [leaf([1, 2]), leaf([1, 2])];
    const build = (p: Tensor): SGD => new SGD([p], { lr: 0.1, momentum: 0.9, dampening: 0.5 });
    const [optimizer, other] = [build(used), build(fresh)];
    assignGradient(used, tensor([3, 4]));
    optimizer.step();
    optimizer.loadStateDict({ state: {}, paramGroups: [{ params: [0] }] });
    expect(optimizer.stateDict().state).toEqual({});
    noGrad(() => void copy_(used, tensor([1, 2])));
    for (const [parameter, each] of [
      [used, optimizer],
      [fresh, other],
    ] as const) {
      assignGradient(parameter, tensor([0.5, 1]));
      each.step();
    }
    expectEqual(data(used), data(fresh), 'anew');
  });

  test('that do not fit change nothing', () => {
    const [a, b] = [leaf([1]), leaf([2])];
    const optimizer = new Adam([{ params: [a] }, { params: [b] }], { lr: 0.1 });
    for (const each of [a, b]) assignGradient(each, tensor([1]));
    optimizer.step();
    const good = { step: 7, expAvg: tensor([9]), expAvgSq: tensor([9]) };
    const groups = [
      { params: [0], lr: 0.5 },
      { params: [1], lr: 0.5 },
    ];
    const bad: [object, RegExp][] = [
      [{ 0: good, 1: { ...good, expAvg: zeros([2]) } }, /'expAvg' of parameter 0 is \[2\], the parameter is \[1\]/],
      [
        { 0: good, 1: { ...good, expAvgSq: zeros([1], { dtype: 'i32' }) } },
        /'expAvgSq' of parameter 0 is i32, not f32/,
      ],
      [
        { 0: good, 1: { ...good, step: 1.5 } },
        /'step' of parameter 0 must be a whole number from 0 to 2\^53 - 1, got 1.5/,
      ],
      [{ 0: good, 1: { ...good, step: undefined } }, /state of parameter 0 has no number 'step'/],
    ];
    for (const [state, message] of bad) {
      expect(() => optimizer.loadStateDict({ state: state as never, paramGroups: groups })).toThrow(message);
      const now = optimizer.stateDict();
      expect(now.paramGroups.map((group) => (group as unknown as { lr: number }).lr)).toEqual([0.1, 0.1]);
      for (const i of [0, 1]) {
        expect(now.state[i]!['step']).toBe(1);
        expect(data(now.state[i]!['expAvg'] as Tensor)[0]).toBeCloseTo(0.1, 6);
      }
    }
    const rates = { state: {}, paramGroups: [groups[0]!, { params: [1], lr: -1 }] };
    expect(() => optimizer.loadStateDict(rates)).toThrow(/Adam: lr must be a number >= 0, got -1/);
    expect(optimizer.lr).toBe(0.1);
    expect(() => optimizer.loadStateDict({} as never)).toThrow(/Adam: expected what stateDict\(\) returns/);
  });

  // Loading that walked over the steps would never end.
  test('from very long trainings load at once', () => {
    for (const step of [3e8, 1e12, Number.MAX_SAFE_INTEGER])
      for (const betas of [undefined, [1 - 2 ** -53, 1 - 2 ** -53] as const]) {
        const parameter = leaf([1]);
        const optimizer = new Adam([parameter], { lr: 0.1, betas });
        const saved = { step, expAvg: tensor([1]), expAvgSq: tensor([1]) };
        optimizer.loadStateDict({ state: { 0: saved }, paramGroups: [{ params: [0] }] });
        assignGradient(parameter, tensor([1]));
        optimizer.step();
        expect(Number.isFinite(data(parameter)[0])).toBe(true);
        expect(optimizer.stateDict().state[0]!['step']).toBe(step + 1);
      }
  });
});

test('tiny state is flushed to zero, NaN stays', () => {
  const parameter = leaf([1, 1]);
  const optimizer = new Adam([parameter], { lr: 0.1 });
  assignGradient(parameter, tensor([1e-31, Number.NaN]));
  optimizer.step();
  const { expAvg, expAvgSq } = optimizer.stateDict().state[0] as { expAvg: Tensor; expAvgSq: Tensor };
  expect([...data(expAvg)]).toEqual([0, Number.NaN]);
  expect([...data(expAvgSq)]).toEqual([0, Number.NaN]);
});

describe('gradients that are denormal, or have denormal squares,', () => {
  const makers = {
    SGD: (w: Tensor) => new SGD([w], { lr: 0.1 }),
    'SGD with momentum': (w: Tensor) => new SGD([w], { lr: 0.1, momentum: 0.9 }),
    Adam: (w: Tensor) => new Adam([w]),
  };

  /** Milliseconds of one step. */
  const timed = (update: UpdateStep): number => {
    const start = performance.now();
    update.run();
    return performance.now() - start;
  };

  for (const [name, maker] of Object.entries(makers))
    test(`are as fast as others with ${name}`, () => {
      const parameters = [1e-3, 1e-20, 1e-40].map((value) => {
        const parameter = leaf(new Float32Array(100_000));
        assignGradient(parameter, full([100_000], value));
        return parameter;
      });
      const updates = parameters.map((parameter) => new UpdateStep(maker(parameter)));
      // Arithmetic on denormals takes 10 to 100 times as long. The least of interleaved steps, as many as it takes on a busy machine.
      const least = updates.map(() => Number.POSITIVE_INFINITY);
      const isSlow = (): boolean => Math.max(least[1]!, least[2]!) > 4 * least[0]!;
      for (let round = 0; round < 20 || (round < 5000 && isSlow()); round++)
        for (const [i, update] of updates.entries()) least[i] = Math.min(least[i]!, timed(update));
      for (const update of updates) update.dispose();
      expect(isSlow()).toBe(false);
      expect(data(parameters[2]!).every((w) => w === 0)).toBe(true);
    });
});

test('LambdaLR multiplies the first rate of each group', () => {
  const optimizer = new SGD(
    [
      { params: [leaf([1])], lr: 1 },
      { params: [leaf([1])], lr: 2 },
    ],
    { lr: 1 },
  );
  const schedule = new LambdaLR(optimizer, [(epoch) => 1 / (epoch + 1), (epoch) => epoch + 1]);
  expect(schedule.lastLr).toEqual([1, 2]);
  schedule.step();
  expect(schedule.lastLr).toEqual([0.5, 4]);
  expect(() => new LambdaLR(optimizer, [() => 1])).toThrow('LambdaLR: 1 functions for 2 groups');
  expect(() => new LambdaLR(optimizer, 0.5 as never)).toThrow('LambdaLR: lrLambda is a function or a list of them');
});

describe('schedules as PyTorch', () => {
  const build = ({ schedule, options }: ScheduleCase, optimizer: Optimizer): LRSchedule => {
    const { stepSize = 0, gamma, milestones = [], tMax = 0, etaMin } = options;
    if (schedule === 'StepLR') return new StepLR(optimizer, stepSize, { gamma });
    if (schedule === 'MultiStepLR') return new MultiStepLR(optimizer, milestones, { gamma });
    return schedule === 'ExponentialLR'
      ? new ExponentialLR(optimizer, gamma!)
      : new CosineAnnealingLR(optimizer, tMax, { etaMin });
  };
  for (const task of scheduleCases)
    test(task.name, () => {
      const optimizer = new SGD([leaf([1])], { lr: baseLr });
      const schedule = build(task, optimizer);
      goldenList(`schedule/${task.name}`).forEach((lr, epoch) => {
        expect(Math.abs(optimizer.lr - lr), `epoch ${epoch}`).toBeLessThanOrEqual(1e-12 * baseLr);
        schedule.step();
      });
    });

  test('the cosine is exact to the last digits', () => {
    for (let i = 0; i <= 400; i++)
      expect(Math.abs(cosineOfPi(i / 100) - Math.cos((Math.PI * i) / 100))).toBeLessThan(4e-15);
  });

  test('go on where they were', () => {
    const [a, b] = [new SGD([leaf([1])], { lr: 1 }), new SGD([leaf([1])], { lr: 1 })];
    const first = new CosineAnnealingLR(a, 10);
    for (let i = 0; i < 4; i++) first.step();
    const second = new CosineAnnealingLR(b, 10);
    second.loadStateDict(first.stateDict());
    first.step();
    second.step();
    expect(b.lr).toBe(a.lr);
  });
});

describe('errors', () => {
  const w = (): Tensor => leaf([1]);
  const shared = (): Tensor[] => {
    const p = w();
    return [p, p];
  };
  const CASES: [string, () => unknown, RegExp][] = [
    ['NaN lr', () => new SGD([w()], { lr: Number.NaN }), /SGD: lr must be a number >= 0, got NaN/],
    ['no lr', () => new SGD([w()], {} as never), /SGD: lr is required/],
    ['no options', () => new (SGD as unknown as new (p: Tensor[]) => SGD)([w()]), /SGD: lr is required/],
    ['negative lr', () => new Adam([w()], { lr: -1 }), /Adam: lr must be a number >= 0, got -1/],
    ['infinite lr', () => new Adam([w()], { lr: Infinity }), /Adam: lr must be a number >= 0, got Infinity/],
    ['momentum', () => new SGD([w()], { lr: 1, momentum: -0.1 }), /SGD: momentum must be a number >= 0, got -0.1/],
    ['dampening', () => new SGD([w()], { lr: 1, dampening: Number.NaN }), /SGD: dampening must be a number, got NaN$/],
    ['kind', () => new SGD([w()], { lr: '1' as never }), /SGD: lr must be a number, got string/],
    [
      'nesterov',
      () => new SGD([w()], { lr: 1, nesterov: true }),
      /SGD: nesterov needs momentum and no dampening, got 0 and 0/,
    ],
    ['flag', () => new SGD([w()], { lr: 1, nesterov: 1 as never }), /SGD: nesterov must be true or false, got number/],
    ['betas', () => new AdamW([w()], { betas: [0.9, 1] }), /AdamW: betas\[1\] must be a number from 0 up to 1, got 1/],
    ['eps', () => new Adam([w()], { eps: Number.NaN }), /Adam: eps must be a number >= 0, got NaN/],
    [
      'option',
      () => new Adam([w()], { amsgrad: true } as never),
      /Adam: unknown option 'amsgrad', known are lr, betas, eps, weightDecay, maximize/,
    ],
    ['empty', () => new SGD([], { lr: 1 }), /SGD: the list of parameters is empty/],
    [
      'no list',
      () => new SGD(3 as never, { lr: 1 }),
      /SGD: parameters must be a list of tensors or of groups, got number/,
    ],
    [
      'no tensor',
      () => new SGD([{ params: [1] as never }], { lr: 1 }),
      /SGD: parameter 0 must be a Tensor, got number/,
    ],
    ['twice', () => new SGD(shared(), { lr: 1 }), /SGD: parameter 1 appears twice/],
    ['dtype', () => new SGD([zeros([1], { dtype: 'i32' })], { lr: 1 }), /SGD: parameter 0 must be f32, got i32/],
    ['group option', () => new SGD([{ params: [w()], rate: 1 } as never], { lr: 1 }), /SGD: unknown option 'rate'/],
    ['stepSize', () => new StepLR(new SGD([w()], { lr: 1 }), 0), /StepLR: stepSize must be a whole number >= 1, got 0/],
    [
      'gamma',
      () => new ExponentialLR(new SGD([w()], { lr: 1 }), Number.NaN),
      /ExponentialLR: gamma must be a number >= 0, got NaN/,
    ],
    [
      'tMax',
      () => new CosineAnnealingLR(new SGD([w()], { lr: 1 }), 2.5),
      /CosineAnnealingLR: tMax must be a whole number >= 1, got 2.5/,
    ],
    ['schedule', () => new StepLR({} as never, 1), /StepLR: expected an optimiser, got object/],
  ];
  for (const [name, call, message] of CASES) test(name, () => expect(call).toThrow(message));

  test('a value out of range set later', () => {
    const optimizer = new SGD([w()], { lr: 1 });
    expect(() => {
      optimizer.lr = Number.NaN;
    }).toThrow(/SGD: lr must be a number >= 0, got NaN/);
    expect(optimizer.lr).toBe(1);
  });

  test('momentum after the first step', () => {
    const parameter = w();
    const optimizer = new SGD([parameter], { lr: 1 });
    assignGradient(parameter, tensor([1]));
    optimizer.step();
    expect(() => {
      optimizer.paramGroups[0]!.momentum = 0.9;
    }).toThrow(/SGD: momentum cannot be turned on or off after the first step/);
  });
});
