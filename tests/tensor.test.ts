// Creating tensors and looking at them: ranges, constants of captured steps, sizes, overlapping copies, dimensions of scalars.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  arange,
  CaptureError,
  captureStep,
  cat,
  compile,
  flatten,
  full,
  init,
  memoryStatistics,
  nn,
  ones,
  onesLike,
  optim,
  pad,
  scope,
  shutdown,
  type Tensor,
  tensor,
  zeros,
  zerosLike,
} from './feathermap.ts';

beforeAll(() => init({ threads: 1, debug: true }));
afterAll(shutdown);

const wrong = (value: unknown): never => value as never;

describe('arange', () => {
  test('takes options wherever they stand', () => {
    const expected = [0, 1, 2, 3, 4];
    for (const x of [
      arange(5, { dtype: 'i32' }),
      arange(0, 5, { dtype: 'i32' }),
      arange(0, 5, 1, { dtype: 'i32' }),
      arange(5, undefined, 1, { dtype: 'i32' }),
    ]) {
      expect(x.dtype).toBe('i32');
      expect([...x.data()]).toEqual(expected);
    }
    expect(arange(2, { requiresGrad: true }).requiresGrad).toBe(true);
  });

  test('rounds each number once', () => {
    const length = 40000;
    const expected = Float32Array.from({ length }, (_, i) => -3.7 + i * 0.1);
    expect(arange(-3.7, -3.7 + 0.1 * (length - 0.5), 0.1).data()).toEqual(expected);
  });

  test('counts down, counts nothing, and fills bytes', () => {
    expect([...arange(3, -2, -2, { dtype: 'i32' }).data()]).toEqual([3, 1, -1]);
    expect(arange(0).shape).toEqual([0]);
    expect([...arange(250, 256, 5, { dtype: 'u8' }).data()]).toEqual([250, 255]);
  });

  test('needs no ordinary memory', () => {
    const x = arange(2e7, { dtype: 'i32' });
    expect(x.narrow(0, 2e7 - 1, 1).item()).toBe(2e7 - 1);
    x.dispose();
  });

  test.each<[string, ErrorConstructor, () => unknown]>([
    [
      "arange: unknown option 'type', known are dtype, requiresGrad",
      TypeError,
      () => arange(5, wrong({ type: 'i32' })),
    ],
    ['arange: options must be an object, got null; write { dtype: ... }', TypeError, () => arange(5, wrong(null))],
    ['arange: expected up to three numbers (start, end, step), then options', TypeError, () => arange(0, wrong({}), 1)],
    ['arange: options must be an object, got string; write { dtype: ... }', TypeError, () => arange(wrong('5'))],
    ['arange: from 0 to 5 in steps of -1 is not a finite range', RangeError, () => arange(0, 5, -1)],
    [
      'arange: 0.5 is not a whole number from -2147483648 to 2147483647, as i32 needs',
      RangeError,
      () => arange(0, 2, 0.5, { dtype: 'i32' }),
    ],
    ['arange: 256 is not a whole number from 0 to 255, as u8 needs', RangeError, () => arange(257, { dtype: 'u8' })],
    [
      'arange: shape [3000000000] has 3000000000 elements, a tensor has at most 2147483647',
      RangeError,
      () => arange(3e9),
    ],
  ])('%s', (message, kind, call) => {
    expect(call).toThrow(new kind(message));
  });
});

describe('a captured step', () => {
  test('has constants: a model that normalises its input compiles and trains', () => {
    class Normalised extends nn.Module {
      readonly inner = new nn.Linear(3, 1);
      forward(x: Tensor): Tensor {
        return this.inner.forward(x.sub(tensor([1, 2, 3])).div(tensor([2, 4, 8])));
      }
    }
    const net = new Normalised();
    const x = tensor([3, 6, 11, 1, 2, 3], { shape: [2, 3] });
    const eager = net.forward(x).data();
    const run = compile(net, { input: [2, 3] });
    expect(run(x).data()).toEqual(eager);
    run.dispose();
    const twin = new Normalised();
    twin.loadStateDict(net.stateDict());
    const loss = (model: nn.Module) => (input: Tensor) => model.forward(input).square().mean();
    const optimizer = new optim.SGD(net.parameters(), { lr: 0.1 });
    const other = new optim.SGD(twin.parameters(), { lr: 0.1 });
    const step = captureStep(loss(net), { optimizer });
    for (let i = 0; i < 3; i++) {
      const captured = step(x).item();
      const plain = loss(twin)(x);
      other.zeroGrad();
      plain.backward();
      expect(captured).toBe(plain.item());
      other.step();
    }
    step.dispose();
  });

  test('keeps its constants when the scope ends in which it was captured', () => {
    const w = ones([2], { requiresGrad: true });
    const step = captureStep((x: Tensor) =>
      w
        .mul(x)
        .mul(tensor([2, 3]))
        .sum(),
    );
    scope(() => void step(ones([2])));
    scope(() => {
      for (let i = 0; i < 20; i++) full([2], -7);
    });
    expect(step(ones([2])).item()).toBe(5);
    step.dispose();
  });

  test('finds gradients of extremes with indices', () => {
    const values = [1, 5, 5, 7, 3, 9];
    const gradient = (captured: boolean): Float32Array => {
      const w = tensor(values, { shape: [2, 3], requiresGrad: true });
      const loss = (): Tensor => {
        const [most] = w.max({ dim: 1, returnIndices: true });
        const [least] = w.min({ dim: -2, keepdim: true, returnIndices: true });
        return most
          .mul(tensor([2, 3]))
          .sum()
          .add(least.sum());
      };
      if (captured) captureStep(loss)();
      else loss().backward();
      return w.grad!.data() as Float32Array;
    };
    expect([...gradient(false)]).toEqual([1, 2, 1, 0, 1, 3]);
    expect(gradient(true)).toEqual(gradient(false));
  });

  test('takes a range', () => {
    const w = ones([], { requiresGrad: true });
    const step = captureStep(() => w.mul(arange(1, 4)).sum());
    expect(step().item()).toBe(6);
    expect(w.grad!.item()).toBe(6);
    step.dispose();
  });

  test('still has no values of its own', () => {
    const w = ones([2], { requiresGrad: true });
    expect(() => captureStep(() => w.mul(tensor(w.mul(2).data())).sum())()).toThrow(CaptureError);
  });
});

describe('sizes', () => {
  const limit = 'a tensor has at most 2147483647';
  test.each<[string, () => unknown]>([
    [`expand: shape [2147483648] has 2147483648 elements, ${limit}`, () => ones([1]).expand([2 ** 31])],
    [`zeros: shape [65536,65536] has 4294967296 elements, ${limit}`, () => zeros([65536, 65536], { dtype: 'u8' })],
    [
      `eq: shape [65536,65536] has 4294967296 elements, ${limit}`,
      () => zeros([65536, 1]).eq(zeros([65536]).expand([1, 65536])),
    ],
    [
      `cat: shape [4000000000] has 4000000000 elements, ${limit}`,
      () => cat([ones([1]).expand([2e9]), ones([1]).expand([2e9])]),
    ],
    [
      `pad: shape [2000000001,2] has 4000000002 elements, ${limit}`,
      () => pad(ones([1, 1]).expand([2e9, 1]), [0, 1, 1, 0]),
    ],
  ])('%s', (message, call) => {
    expect(call).toThrow(new RangeError(message));
  });
});

describe('copy_', () => {
  test('between overlapping views reads everything first', () => {
    const x = arange(16).reshape([4, 4]);
    x.copy_(x.transpose(0, 1));
    expect([...x.data()]).toEqual([0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]);
    const y = arange(6);
    y.narrow(0, 1, 5).copy_(y.narrow(0, 0, 5));
    expect([...y.data()]).toEqual([0, 0, 1, 2, 3, 4]);
    const z = arange(4);
    z.copy_(z.narrow(0, 2, 1));
    expect([...z.data()]).toEqual([2, 2, 2, 2]);
  });

  test('makes no copy of what cannot overlap', () => {
    const x = arange(8);
    const before = memoryStatistics();
    x.narrow(0, 0, 4).copy_(x.narrow(0, 4, 4));
    x.copy_(x);
    expect(memoryStatistics()).toEqual(before);
    expect([...x.data()]).toEqual([4, 5, 6, 7, 4, 5, 6, 7]);
  });
});

describe('a tensor without dimensions', () => {
  test('has a dimension 0 and -1 for reductions', () => {
    const x = tensor(5);
    for (const dim of [0, -1]) {
      expect(x.sum({ dim }).item()).toBe(5);
      expect(x.mean({ dim }).item()).toBe(5);
      expect(x.max({ dim }).item()).toBe(5);
      expect(x.argmax({ dim }).item()).toBe(0);
      expect(x.softmax(dim).item()).toBe(1);
      expect(x.max({ dim, returnIndices: true }).map((each) => each.item())).toEqual([5, 0]);
    }
    expect(() => x.sum({ dim: 1 })).toThrow(
      new RangeError('sum: dim 1 is out of range for a tensor with 0 dimensions'),
    );
  });

  test('flattens to one element', () => {
    expect(flatten(tensor(5)).shape).toEqual([1]);
    expect(flatten(tensor(5), -1, 0).shape).toEqual([1]);
  });
});

test('an empty list of dimensions means all of them', () => {
  const x = tensor([
    [1, 2],
    [3, 6],
  ]);
  expect(x.sum({ dim: [] }).item()).toBe(12);
  expect(x.mean({ dim: [], keepdim: true }).shape).toEqual([1, 1]);
  expect(x.var({ dim: [], unbiased: false }).item()).toBe(3.5);
  expect(x.max({ dim: [] }).item()).toBe(6);
  const column = tensor([[1], [2]], { requiresGrad: true });
  column.max({ dim: 1 }).sum().backward();
  expect([...column.grad!.data()]).toEqual([1, 1]);
});

describe('zerosLike and onesLike', () => {
  test('take shape and dtype of a tensor', () => {
    const x = tensor([[1, 2, 3]], { dtype: 'i32', requiresGrad: false }).transpose(0, 1);
    const y = zerosLike(x);
    expect([y.shape, y.dtype, [...y.data()]]).toEqual([[3, 1], 'i32', [0, 0, 0]]);
    const z = onesLike(x, { dtype: 'f32', requiresGrad: true });
    expect([z.shape, z.dtype, [...z.data()], z.requiresGrad]).toEqual([[3, 1], 'f32', [1, 1, 1], true]);
    expect(onesLike(tensor(5)).shape).toEqual([]);
    expect(zerosLike(zeros([0, 2])).shape).toEqual([0, 2]);
    expect(zerosLike(ones([2], { requiresGrad: true })).requiresGrad).toBe(false);
  });

  test('are part of a captured step', () => {
    const weight = tensor([2, 3], { requiresGrad: true });
    const step = captureStep((x) => onesLike(x).mul(weight).add(zerosLike(x)).sum());
    expect(step(tensor([9, 9])).item()).toBe(5);
  });

  test('say what is wrong', () => {
    expect(() => zerosLike(wrong([1]))).toThrow(TypeError);
    expect(() => onesLike(zeros([1]), wrong({ dtyp: 'f32' }))).toThrow(/onesLike: unknown option/);
  });
});

test('methods that choose', () => {
  const x = tensor([3, -1, 2]);
  expect(x.argmin().item()).toBe(1);
  expect([...x.where(x.gt(0), 0).data()]).toEqual([3, 0, 2]);
});

test.each<[string, ErrorConstructor, () => unknown]>([
  ['zeros: shape must be an array of numbers, got number', TypeError, () => zeros(wrong(3))],
  ["ones: dtype is 'f32', 'i32' or 'u8', got \"f64\"", TypeError, () => ones([1], wrong({ dtype: 'f64' }))],
  ["zeros: dtype is 'f32', 'i32' or 'u8', got NaN", TypeError, () => zeros([1], wrong({ dtype: Number.NaN }))],
  ['permute: dims must be an array of numbers, got number', TypeError, () => zeros([2, 3]).permute(wrong(1))],
  [
    'unsqueeze: dim 3 is out of range for a tensor with 2 dimensions, expected -3 to 2',
    RangeError,
    () => zeros([2, 3]).unsqueeze(3),
  ],
  ['sum: keepdim must be true or false, got string', TypeError, () => ones([2]).sum(wrong({ keepdim: 'no' }))],
])('%s', (message, kind, call) => {
  expect(call).toThrow(new kind(message));
});
