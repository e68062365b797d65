// The tape and backward: what gets a gradient, when gradients add up, what hooks see, and what is refused.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as F from '../ts/functional.ts';
import {
  enableGrad,
  full,
  init,
  isGradEnabled,
  noGrad,
  ones,
  optim,
  randn,
  shutdown,
  type Tensor,
  tensor,
  zeros,
} from './feathermap.ts';

beforeAll(() => init({ threads: 1 }));
afterAll(shutdown);

const leaf = (values: number[] | number[][]): Tensor => tensor(values, { requiresGrad: true });
const gradient = (x: Tensor): number[] => [...x.grad!.data()];

describe('what gets a gradient', () => {
  it('leaves that ask for one, and nothing else', () => {
    const a = leaf([2, 3]);
    const b = tensor([5, 7]);
    const y = a.mul(b);
    expect([a.isLeaf, b.isLeaf, y.isLeaf]).toEqual([true, true, false]);
    expect([a.requiresGrad, b.requiresGrad, y.requiresGrad]).toEqual([true, false, true]);
    y.sum().backward();
    expect(gradient(a)).toEqual([5, 7]);
    expect([b.grad, y.grad]).toEqual([null, null]);
  });

  it('a leaf that is itself the root', () => {
    const a = leaf([4]);
    a.backward();
    expect(gradient(a)).toEqual([1]);
  });

  it('detach cuts, and shares the memory', () => {
    const a = leaf([2]);
    const cut = a.mul(3).detach();
    expect([cut.isLeaf, cut.requiresGrad]).toEqual([true, false]);
    a.mul(cut).sum().backward();
    expect(gradient(a)).toEqual([6]);
    expect(a.detach().storage).toBe(a.storage);
  });

  it('labels and comparisons do not', () => {
    const x = leaf([
      [1, 2],
      [4, 3],
    ]);
    const labels = tensor([0, 1], { dtype: 'i32' });
    const mask = x.gt(1.5);
    expect([labels.requiresGrad, mask.dtype, mask.requiresGrad, x.argmax({ dim: 1 }).requiresGrad]).toEqual([
      false,
      'u8',
      false,
      false,
    ]);
    F.where(mask, x, zeros([2, 2]))
      .sum()
      .backward();
    expect(gradient(x)).toEqual([0, 1, 1, 1]);
    expect(mask.grad).toBe(null);
    F.crossEntropy(x, labels).backward();
    expect(labels.grad).toBe(null);
  });

  it('noGrad records nothing, enableGrad inside does', () => {
    const a = leaf([1]);
    const seen: boolean[] = [isGradEnabled()];
    noGrad(() => {
      seen.push(isGradEnabled(), a.mul(2).requiresGrad);
      enableGrad(() => seen.push(isGradEnabled(), a.mul(2).requiresGrad));
      seen.push(isGradEnabled());
    });
    expect([...seen, isGradEnabled()]).toEqual([true, false, false, true, true, false, true]);
    expect(() =>
      noGrad(() => {
        throw new Error('mine');
      }),
    ).toThrow('mine');
    expect(isGradEnabled()).toBe(true);
    expect(() => enableGrad(async () => {})).toThrow('enableGrad: the callback returned a promise');
  });

  it('requiresGrad refuses other kinds, dtypes and tensors made by ops', () => {
    expect(() => tensor([1], { dtype: 'i32', requiresGrad: true })).toThrow(
      'requiresGrad: only f32 tensors can have gradients, this one is i32',
    );
    const a = leaf([1]);
    expect(() => {
      (a as { requiresGrad: unknown }).requiresGrad = 1;
    }).toThrow('requiresGrad must be true or false, got number');
    expect(() => {
      a.mul(2).requiresGrad = false;
    }).toThrow('requiresGrad: only leaf tensors can be changed; use detach() for a tensor that an op made');
    a.requiresGrad = false;
    expect(a.mul(2).requiresGrad).toBe(false);
  });
});

describe('gradients add up', () => {
  it('over backward calls, until they are forgotten', () => {
    const a = leaf([1, 2]);
    a.mul(3).sum().backward();
    a.mul(a).sum().backward();
    expect(gradient(a)).toEqual([5, 7]);
    a.grad = null;
    expect(a.grad).toBe(null);
    a.mul(2).sum().backward();
    expect(gradient(a)).toEqual([2, 2]);
    new optim.SGD([a], { lr: 1 }).zeroGrad();
    expect(a.grad).toBe(null);
  });

  it('over all paths of a graph', () => {
    const a = leaf([3]);
    a.add(a).backward();
    expect(gradient(a)).toEqual([2]);
    a.grad = null;
    const b = a.mul(2);
    const [left, right] = [b.mul(5), b.mul(b)];
    left.add(right).backward();
    expect(gradient(a)).toEqual([2 * 5 + 2 * 2 * 6]);
  });

  it('in a deep chain, whose graph is walked without recursion', () => {
    const a = leaf([1]);
    let x: Tensor = a;
    for (let i = 0; i < 20_000; i++) x = x.add(a);
    x.backward();
    expect(gradient(a)).toEqual([20_001]);
  });

  it('an assigned gradient is copied and added to', () => {
    const a = leaf([1, 2]);
    const given = tensor([10, 20]);
    a.grad = given;
    given.mul(0);
    a.sum().backward();
    expect(gradient(a)).toEqual([11, 21]);
    expect([...given.data()]).toEqual([10, 20]);
    expect(() => {
      a.grad = tensor([1]);
    }).toThrow('grad: gradient [1] for a tensor of shape [2]');
    expect(() => {
      a.grad = tensor([1, 2], { dtype: 'i32' });
    }).toThrow('grad: a gradient is f32, got i32');
    expect(() => {
      (a as { grad: unknown }).grad = 3;
    }).toThrow('grad: expected a Tensor, got a number');
    expect(gradient(a)).toEqual([11, 21]);
  });
});

describe('the gradient of the root', () => {
  it('is 1 for one element, and has to be given for more', () => {
    const a = leaf([1, 2, 3]);
    expect(() => a.mul(2).backward()).toThrow(
      'backward: [3] has 3 elements; reduce it to one (sum, mean) or pass a gradient',
    );
    expect(() => a.mul(2).backward({ gradient: ones([2]) })).toThrow(
      'backward: gradient [2] for a tensor of shape [3]',
    );
    expect(() => a.mul(2).backward({ gradient: 1 as never })).toThrow('backward: expected a Tensor, got a number');
    expect(() => a.mul(2).backward({ gradient: ones([3], { dtype: 'i32' }) })).toThrow(
      'backward: a gradient is f32, got i32',
    );
    a.mul(2).backward({ gradient: tensor([1, 10, 100]) });
    expect(gradient(a)).toEqual([2, 20, 200]);
    expect(() =>
      a
        .mul(2)
        .sum()
        .backward({ retain: true } as never),
    ).toThrow("backward: unknown option 'retain'");
  });

  it('needs something that requires one', () => {
    expect(() => ones([1]).backward()).toThrow(
      'backward: Tensor([1], f32) does not require gradients: no parameter with requiresGrad led to it',
    );
  });
});

describe('the graph', () => {
  it('is walked once, unless it is retained', () => {
    const a = leaf([2]);
    const y = a.mul(a);
    y.backward({ retainGraph: true });
    y.backward();
    expect(gradient(a)).toEqual([8]);
    expect(() => y.backward()).toThrow(
      'backward: the saved tensors of mul are freed after the first backward(); pass { retainGraph: true } to walk the graph again',
    );
  });

  it('notices that a saved tensor was changed in place', () => {
    const a = leaf([2, 3]);
    const b = tensor([1, 1]);
    const y = a.mul(b).sum();
    b.fill_(7);
    expect(() => y.backward()).toThrow(
      'backward: Tensor([2], f32), saved by mul, was changed in place since (version 2, expected 1)',
    );
    const c = tensor([1, 1]);
    const view = c.slice([[0, 1]]);
    const z = a.mul(c).sum();
    view.zero_();
    expect(() => z.backward()).toThrow('saved by mul, was changed in place since');
  });

  it('notices that an optimiser moved a saved parameter', () => {
    const w = leaf([2]);
    const x = leaf([3]);
    const y = w.mul(x).sum();
    y.backward({ retainGraph: true });
    new optim.SGD([w], { lr: 1 }).step();
    expect(() => y.backward()).toThrow('saved by mul, was changed in place since');
  });

  it('refuses changes in place while it is recorded', () => {
    const a = leaf([1]);
    expect(() => a.fill_(2)).toThrow(
      'Tensor([1], f32, requiresGrad) needs gradients and cannot be changed in place while they are recorded; use noGrad(() => ...) or detach()',
    );
    expect(() => a.mul(2).zero_()).toThrow('cannot be changed in place while they are recorded');
    noGrad(() => a.fill_(2));
    expect(a.item()).toBe(2);
  });
});

describe('hooks', () => {
  it('read intermediate gradients', () => {
    const a = leaf([1, 2]);
    const y = a.mul(3);
    const seen: number[][] = [];
    y.registerHook((g) => {
      seen.push([...g.data()]);
      return undefined;
    });
    y.mul(y).sum().backward();
    expect(seen).toEqual([[6, 12]]);
    expect(gradient(a)).toEqual([18, 36]);
  });

  it('replace gradients, in the order they were registered, until they are removed', () => {
    const a = leaf([1, 2]);
    const y = a.mul(3);
    const remove = y.registerHook((g) => g.mul(10));
    y.registerHook((g) => g.add(1));
    y.sum().backward({ retainGraph: true });
    expect(gradient(a)).toEqual([33, 33]);
    remove();
    remove();
    a.grad = null;
    y.sum().backward();
    expect(gradient(a)).toEqual([6, 6]);
  });

  it('of a leaf see its whole gradient once, however many paths lead there', () => {
    const a = leaf([1, -2]);
    const seen: number[][] = [];
    a.registerHook((g) => {
      seen.push([...g.data()]);
      return g.clamp({ max: 5 });
    });
    a.add(a).add(a.mul(a)).sum().backward();
    expect(seen).toEqual([[4, -2]]);
    a.mul(9).sum().backward();
    expect(seen[1]).toEqual([9, 9]);
    expect(gradient(a)).toEqual([4 + 5, -2 + 5]);
  });

  it('of an intermediate see the sum of its paths', () => {
    const a = leaf([2]);
    const b = a.mul(1);
    const seen: number[] = [];
    b.registerHook((g) => void seen.push(g.item()) as undefined);
    b.mul(3).add(b.mul(4)).backward();
    expect(seen).toEqual([7]);
  });

  it('need a function and a tensor with gradients', () => {
    expect(() => ones([1]).registerHook(() => undefined)).toThrow(
      'registerHook: Tensor([1], f32) does not require gradients',
    );
    expect(() => leaf([1]).registerHook(3 as never)).toThrow('registerHook: expected a function, got number');
  });

  it('retainGrad keeps the gradient of an intermediate', () => {
    const a = leaf([1, 2]);
    const y = a.mul(3);
    expect(y.grad).toBe(null);
    y.retainGrad();
    y.mul(y).sum().backward();
    expect(gradient(y)).toEqual([6, 12]);
    expect(() => ones([1]).retainGrad()).toThrow('retainGrad: Tensor([1], f32) does not require gradients');
  });
});

describe('views', () => {
  const x = (): Tensor =>
    leaf([
      [1, 2, 3],
      [4, 5, 6],
    ]);
  const weights = (shape: number[]): Tensor =>
    F.reshape(tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]), [12])
      .slice([[0, shape.reduce((a, b) => a * b, 1)]])
      .reshape(shape);

  it.each<[string, (x: Tensor) => Tensor, number[]]>([
    ['reshape', (x) => x.reshape([3, 2]), [1, 2, 3, 4, 5, 6]],
    ['permute', (x) => x.permute([1, 0]), [1, 3, 5, 2, 4, 6]],
    ['transpose', (x) => x.transpose(0, 1), [1, 3, 5, 2, 4, 6]],
    [
      'slice',
      (x) =>
        x.slice([
          [0, 2],
          [1, 3],
        ]),
      [0, 1, 2, 0, 3, 4],
    ],
    ['narrow', (x) => x.narrow(1, 0, 1), [1, 0, 0, 2, 0, 0]],
    ['select', (x) => x.select(0, 1), [0, 0, 0, 1, 2, 3]],
    ['expand', (x) => x.unsqueeze(0).expand([2, 2, 3]), [1 + 7, 2 + 8, 3 + 9, 4 + 10, 5 + 11, 6 + 12]],
    ['squeeze', (x) => x.reshape([1, 6]).squeeze(), [1, 2, 3, 4, 5, 6]],
    ['flatten', (x) => x.flatten(), [1, 2, 3, 4, 5, 6]],
    ['permuted and then flattened', (x) => x.permute([1, 0]).reshape([6]), [1, 3, 5, 2, 4, 6]],
  ])('%s', (_, view, expected) => {
    const a = x();
    const y = view(a);
    y.mul(weights([...y.shape]))
      .sum()
      .backward();
    expect(gradient(a)).toEqual(expected);
    expect(a.grad!.shape).toEqual([2, 3]);
  });
});

describe('createGraph', () => {
  /** Central differences of <v, gradient of f at x>, with f summed by `u`. */
  function secondByDifferences(f: (x: Tensor) => Tensor, x0: Tensor, v: Tensor, h: number): Float32Array {
    const at = (sign: number): Tensor => {
      const x = x0.add(v.mul(sign * h)).detach();
      x.requiresGrad = true;
      f(x).backward();
      return x.grad!;
    };
    return at(1)
      .sub(at(-1))
      .mul(1 / (2 * h))
      .data() as Float32Array;
  }

  function second(f: (x: Tensor) => Tensor, x0: Tensor, v: Tensor): Float32Array {
    const x = x0.detach();
    x.requiresGrad = true;
    f(x).backward({ createGraph: true });
    const first = x.grad!;
    x.grad = null;
    first.mul(v).sum().backward();
    return x.grad!.data() as Float32Array;
  }

  it('lets .grad itself be differentiated', () => {
    const x = leaf([2, 3]);
    x.mul(x).mul(x).sum().backward({ createGraph: true });
    const first = x.grad!;
    expect([...first.data()].map(Math.round)).toEqual([12, 27]);
    expect(first.requiresGrad).toBe(true);
    x.grad = null;
    first.sum().backward({ createGraph: true });
    const next = x.grad!;
    expect([...next.data()].map(Math.round)).toEqual([12, 18]);
    x.grad = null;
    next.sum().backward();
    expect(gradient(x).map(Math.round)).toEqual([6, 6]);
    x.sum().backward();
    expect(gradient(x).map(Math.round)).toEqual([7, 7]);
  });

  it('adds to what is there, as a plain backward afterwards does', () => {
    const x = leaf([3]);
    x.mul(2).backward();
    x.mul(x).backward({ createGraph: true });
    expect(gradient(x)).toEqual([8]);
    x.mul(5).backward();
    expect(gradient(x)).toEqual([13]);
    expect(x.grad!.requiresGrad).toBe(false);
  });

  const w = (): Tensor => randn([3, 2, 3, 3]);
  it.each<[string, number[], () => (x: Tensor) => Tensor]>([
    ['sigmoid', [7], () => (x) => x.sigmoid().sum()],
    ['tanh', [7], () => (x) => x.tanh().square().sum()],
    ['matmul', [3, 3], () => (x) => x.matmul(x).matmul(x).sum()],
    [
      'linear over its weight',
      [2, 4],
      () => {
        const x = randn([3, 4]);
        return (weight) => F.linear(x, weight).sigmoid().sum();
      },
    ],
    [
      'conv2d over its input',
      [2, 2, 5, 4],
      () => {
        const weight = w();
        return (x) =>
          F.conv2d(x, weight, null, { padding: 1, stride: [2, 1] })
            .sigmoid()
            .sum();
      },
    ],
    [
      'conv2d over its weight',
      [3, 2, 3, 3],
      () => {
        const x = randn([2, 2, 5, 4]);
        return (weight) =>
          F.conv2d(x, weight, null, { padding: 1, stride: [2, 1] })
            .sigmoid()
            .sum();
      },
    ],
    [
      'conv2d over input and weight at once',
      [1, 2, 3, 3],
      () => (x) => F.conv2d(x, x, null, { padding: 1 }).square().sum(),
    ],
  ])('second derivative of %s', (_, shape, make) => {
    const f = make();
    const [x0, v] = [randn(shape).mul(0.5), randn(shape)];
    const expected = secondByDifferences(f, x0, v, 2 ** -7);
    const actual = second(f, x0, v);
    const scale = Math.max(1, ...expected.map(Math.abs));
    // The truncation of the differences, h^2 times a fourth derivative, is the larger part of the error.
    const worst = Math.max(...actual.map((value, i) => Math.abs(value - expected[i]!) / scale));
    expect(worst).toBeLessThan(4e-3);
  });

  it('closes the convolution triple: a third derivative', () => {
    const x = tensor([1, 2], { shape: [1, 1, 1, 2] });
    const w = full([1, 1, 1, 1], 3, { requiresGrad: true });
    const found: number[] = [];
    let y = F.conv2d(x, w).pow(3).sum();
    for (let i = 0; i < 3; i++) {
      w.grad = null;
      y.backward({ createGraph: true });
      y = w.grad!.sum();
      found.push(Math.round(y.item()));
    }
    // Derivatives of (w^3 times the sum of x^3 = 9) at w = 3: 27 w^2, 54 w, 54.
    expect(found).toEqual([243, 162, 54]);
  });
});

it('gradients and optimisers from before shutdown are refused, and leave the new memory alone', async () => {
  const w = leaf([1]);
  w.mul(2).backward();
  const optimizer = new optim.SGD([w], { lr: 1, momentum: 0.9 });
  optimizer.step();
  await shutdown();
  await init({ threads: 1 });
  const message = 'grad: this Tensor([1], f32, requiresGrad) was made before shutdown()';
  expect(() => w.grad).toThrow(message);
  expect(() => {
    w.grad = null;
  }).toThrow(message);
  expect(() => optimizer.zeroGrad()).toThrow(message);
  expect(() => {
    optimizer.lr = 0.5;
  }).toThrow(/^SGD: this Tensor.* was made before shutdown\(\)/);
});

describe('a gradient that someone holds', () => {
  it('is not overwritten by the next one', () => {
    const w = tensor([1, 2], { requiresGrad: true });
    w.square().sum().backward();
    const first = w.grad!;
    w.grad = null;
    w.pow(3).sum().backward();
    expect([first.tolist(), w.grad!.tolist()]).toEqual([
      [2, 4],
      [3, 12],
    ]);
  });
});
