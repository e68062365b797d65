// Optimisers and schedules: trajectories from PyTorch, groups, state, long lists of parameters, errors.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { assignGradient, gradientOf } from '../../ts/autograd/gradient.ts';
import { UpdateStep } from '../../ts/graph/capture-step.ts';
import { detach, permute } from '../../ts/ops/shape.ts';
import { Adam, AdamW, SGD } from '../../ts/optim/index.ts';
import type { Optimizer } from '../../ts/optim/optimizer.ts';
import {
  CosineAnnealingLR,
  cosineOfPi,
  ExponentialLR,
  type LRSchedule,
  MultiStepLR,
  StepLR,
} from '../../ts/optim/schedule.ts';
import { init, shutdown } from '../../ts/runtime/engine.ts';
import { tensor, zeros } from '../../ts/tensor/create.ts';
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
