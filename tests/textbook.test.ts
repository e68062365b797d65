// What textbooks on convolutional networks compute by hand, computed by the engine: examples/textbook.mjs as a test.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DataLoader, mnist } from '../ts/data/index.ts';
import {
  arange,
  avgPool2d,
  cat,
  conv2d,
  init,
  manualSeed,
  maxPool2d,
  type NestedNumbers,
  nn,
  ones,
  optim,
  rand,
  scope,
  shutdown,
  type Tensor,
  tensor,
  zeros,
} from '../ts/index.ts';
import { lenet } from '../ts/models/index.ts';

beforeAll(() => init({ threads: 1, debug: true }));
afterAll(shutdown);

/** The numbers of a tensor in nested arrays. */
function numbers(x: Tensor): NestedNumbers {
  if (x.shape.length === 0) return x.item();
  return Array.from({ length: x.shape[0]! }, (_, i) => numbers(x.select(0, i)));
}

/** The same without the axes of extent 1 in front. */
function inner(x: Tensor): NestedNumbers {
  return numbers(x.shape[0] === 1 && x.shape.length > 1 ? x.select(0, 0).reshape(trimmed(x.shape)) : x);
}

function trimmed(shape: readonly number[]): number[] {
  return shape.slice(shape.findIndex((extent) => extent !== 1));
}

function image(values: NestedNumbers): Tensor {
  const x = tensor(values);
  return x.reshape([...new Array<number>(4 - x.ndim).fill(1), ...x.shape]);
}

const X = [
  [0, 1, 2],
  [3, 4, 5],
  [6, 7, 8],
];
const K = [
  [0, 1],
  [2, 3],
];

describe('cross-correlation', () => {
  test('0..8 with a 2 x 2 kernel', () => {
    expect(inner(conv2d(image(X), image(K)))).toEqual([
      [19, 25],
      [37, 43],
    ]);
  });

  test('two input channels are summed', () => {
    const x = cat([image(X), image(X).add(1)], 1);
    const weight = cat([image(K), image(K).add(1)], 1);
    expect(inner(conv2d(x, weight))).toEqual([
      [56, 72],
      [104, 120],
    ]);
  });

  test('three kernels give three output channels', () => {
    const x = cat([image(X), image(X).add(1)], 1);
    const weight = cat([image(K), image(K).add(1)], 1);
    expect(inner(conv2d(x, cat([weight, weight.add(1), weight.add(2)], 0)))).toEqual([
      [
        [56, 72],
        [104, 120],
      ],
      [
        [76, 100],
        [148, 172],
      ],
      [
        [96, 128],
        [192, 224],
      ],
    ]);
  });

  test('a 1 x 1 convolution is a fully connected layer over channels', () => {
    const x = rand([2, 3, 5, 4]);
    const weight = rand([7, 3, 1, 1]);
    const asConvolution = conv2d(x, weight);
    const asLayer = x
      .permute([0, 2, 3, 1])
      .reshape([40, 3])
      .matmul(weight.reshape([7, 3]).transpose(0, 1));
    const difference = asLayer.reshape([2, 5, 4, 7]).permute([0, 3, 1, 2]).sub(asConvolution);
    expect(difference.abs().max().item()).toBeLessThan(1e-6);
  });
});

/** A 6 x 8 picture of ones with a black band over columns 2 to 5. */
const band = Array.from({ length: 6 }, () => [1, 1, 0, 0, 0, 0, 1, 1]);
const edge = [[1, -1]];

/** All elements in reverse: a kernel turned by 180 degrees. */
function flipped(kernel: NestedNumbers): Tensor {
  const x = image(kernel);
  return tensor([...x.data()].reverse()).reshape(x.shape);
}

interface Learning {
  target: Tensor;
  bias: boolean;
  lr: number;
  steps: number;
}

/** Fits a 1 x 2 convolution of the band to a target by plain descent on the sum of squares. */
function learn({ target, bias, lr, steps }: Learning): { loss: number; weight: ArrayLike<number> } {
  const x = image(band);
  const layer = new nn.Conv2d(1, 1, [1, 2], { bias });
  const optimizer = new optim.SGD(layer.parameters(), { lr });
  const losses = Array.from({ length: steps }, () => {
    const loss = layer.forward(x).sub(target).square().sum();
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    return loss.item();
  });
  return { loss: losses.at(-1)!, weight: layer.weight.data() };
}

describe('edges', () => {
  test('[1, -1] finds them in the columns, and nothing in the transposed picture', () => {
    const row = [0, 1, 0, 0, 0, -1, 0];
    expect(inner(conv2d(image(band), image(edge)))).toEqual(new Array(6).fill(row));
    const turned = conv2d(image(band).transpose(2, 3), image(edge));
    expect(turned.shape).toEqual([1, 1, 8, 5]);
    expect(turned.abs().max().item()).toBe(0);
  });

  const seeds = [0, 1, 2, 3, 4];
  test.each(seeds)('the kernel is learned in 10 steps without bias, seed %i', (seed) => {
    manualSeed(seed);
    const { loss, weight } = learn({ target: conv2d(image(band), image(edge)), bias: false, lr: 0.03, steps: 10 });
    expect(loss).toBeLessThan(0.2);
    expect(Math.abs(weight[0]! - 1)).toBeLessThan(0.1);
    expect(Math.abs(weight[1]! + 1)).toBeLessThan(0.1);
  });

  test.each(seeds)('and in 30 steps with bias, seed %i', (seed) => {
    manualSeed(seed);
    const { loss } = learn({ target: conv2d(image(band), image(edge)), bias: true, lr: 0.01, steps: 30 });
    expect(loss).toBeLessThan(0.05);
  });

  test('true convolution flips the kernel', () => {
    const sums = X.slice(1).map((row, h) =>
      row.slice(1).map((_, w) => K.flatMap((taps, i) => taps.map((tap, j) => tap * X[h + 1 - i]![w + 1 - j]!))),
    );
    const expected = sums.map((row) => row.map((products) => products.reduce((a, b) => a + b)));
    expect(expected).toEqual([
      [5, 11],
      [23, 29],
    ]);
    expect(inner(conv2d(image(X), flipped(K)))).toEqual(expected);
  });

  test('what is learned from a true convolution is the flipped kernel', () => {
    manualSeed(0);
    const target = conv2d(image(band), flipped(edge));
    const { weight } = learn({ target, bias: false, lr: 0.03, steps: 20 });
    expect(weight[0]).toBeCloseTo(-1, 1);
    expect(weight[1]).toBeCloseTo(1, 1);
  });
});

describe('floor((n + 2p - k) / s) + 1', () => {
  const cases: [title: string, x: number[], weight: number[], options: Parameters<typeof conv2d>[3], y: number[]][] = [
    ['8x8, k 3, p 1', [1, 1, 8, 8], [1, 1, 3, 3], { padding: 1 }, [1, 1, 8, 8]],
    ['8x8, k (5,3), p (2,1)', [1, 1, 8, 8], [1, 1, 5, 3], { padding: [2, 1] }, [1, 1, 8, 8]],
    ['8x8, k 3, p 1, s 2', [1, 1, 8, 8], [1, 1, 3, 3], { padding: 1, stride: 2 }, [1, 1, 4, 4]],
    ['8x8, k (3,5), p (0,1), s (3,4)', [1, 1, 8, 8], [1, 1, 3, 5], { padding: [0, 1], stride: [3, 4] }, [1, 1, 2, 2]],
    ['3x100x100, four filters k 3, p 2', [1, 3, 100, 100], [4, 3, 3, 3], { padding: 2 }, [1, 4, 102, 102]],
    [
      'k 4 with [[2,1],[2,1]] keeps the size',
      [1, 1, 8, 8],
      [1, 1, 4, 4],
      {
        padding: [
          [2, 1],
          [2, 1],
        ],
      },
      [1, 1, 8, 8],
    ],
    [
      'k 2 with [[1,0],[1,0]] keeps the size',
      [1, 1, 8, 8],
      [1, 1, 2, 2],
      {
        padding: [
          [1, 0],
          [1, 0],
        ],
      },
      [1, 1, 8, 8],
    ],
  ];
  test.each(cases)('%s', (_, x, weight, options, y) => {
    expect(conv2d(zeros(x), zeros(weight), null, options).shape).toEqual(y);
  });

  test('Conv2d(2, 3, (3,5), padding (1,2)) on [4,2,3,5]', () => {
    const layer = new nn.Conv2d(2, 3, [3, 5], { padding: [1, 2] });
    expect(layer.forward(rand([4, 2, 3, 5])).shape).toEqual([4, 3, 3, 5]);
    expect(layer.weight.shape).toEqual([3, 2, 3, 5]);
    expect(layer.bias!.shape).toEqual([3]);
  });
});

describe('pooling', () => {
  const sixteen = (): Tensor => arange(16).reshape([1, 1, 4, 4]);
  const sparse = [
    [5, 7],
    [13, 15],
  ];

  test('2 x 2 maximum and average of 0..8', () => {
    expect(inner(maxPool2d(image(X), 2, { stride: 1 }))).toEqual([
      [4, 5],
      [7, 8],
    ]);
    expect(inner(avgPool2d(image(X), 2, { stride: 1 }))).toEqual([
      [2, 3],
      [5, 6],
    ]);
  });

  test('the stride is the window unless it is given', () => {
    expect(numbers(new nn.MaxPool2d(3).forward(sixteen()))).toEqual([[[[10]]]]);
  });

  test('padding and stride, for all axes and per axis', () => {
    expect(inner(new nn.MaxPool2d(3, { padding: 1, stride: 2 }).forward(sixteen()))).toEqual(sparse);
    const layer = new nn.MaxPool2d([2, 3], { stride: [2, 3], padding: [0, 1] });
    expect(inner(layer.forward(sixteen()))).toEqual(sparse);
  });

  test('channels stay apart', () => {
    const x = arange(32).reshape([1, 2, 4, 4]);
    expect(inner(new nn.MaxPool2d(3, { padding: 1, stride: [2, 1] }).forward(x))).toEqual([
      [
        [5, 6, 7, 7],
        [13, 14, 15, 15],
      ],
      [
        [21, 22, 23, 23],
        [29, 30, 31, 31],
      ],
    ]);
  });
});

describe('parameter counts', () => {
  const counts: [string, () => nn.Module, number][] = [
    ['a dense layer from 256x256x3 to 1,000', () => new nn.Linear(256 * 256 * 3, 1000), 196_609_000],
    ['10 filters 3x3x3', () => new nn.Conv2d(3, 10, 3), 280],
    ['10 filters 5x5x3', () => new nn.Conv2d(3, 10, 5), 760],
    ['as many outputs on 32x32x3 from a dense layer', () => new nn.Linear(32 * 32 * 3, 32 * 32 * 10), 31_467_520],
    ['LeNet', lenet, 61_706],
  ];
  test.each(counts)('%s', (_, module, count) => {
    expect(
      module()
        .parameters()
        .reduce((sum, { size }) => sum + size, 0),
    ).toBe(count);
  });
});

describe('receptive field', () => {
  const conv = (kernel: number, stride = 1) => ({
    kernel,
    stride,
    run: (x: Tensor) => conv2d(x, ones([1, 1, kernel, kernel]), null, { stride }),
  });
  const pool = (kernel: number) => ({ kernel, stride: kernel, run: (x: Tensor) => avgPool2d(x, kernel) });
  const stacks = {
    'one 3x3': [conv(3)],
    'two 3x3, as much as one 5x5': [conv(3), conv(3)],
    'three 3x3, as much as one 7x7': [conv(3), conv(3), conv(3)],
    '3x3, pooling 2, 3x3': [conv(3), pool(2), conv(3)],
    'two strided 3x3': [conv(3, 2), conv(3, 2)],
    'LeNet up to its dense layers': [conv(5), pool(2), conv(5), pool(2)],
  };

  /** r = 1 + sum over layers of (kernel - 1) times the strides before. */
  function formula(layers: readonly { kernel: number; stride: number }[]): number {
    let [field, jump] = [1, 1];
    for (const { kernel, stride } of layers) {
      field += (kernel - 1) * jump;
      jump *= stride;
    }
    return field;
  }

  test.each(Object.entries(stacks))('%s', (_, layers) => {
    const x = ones([1, 1, 41, 41], { requiresGrad: true });
    const y = layers.reduce((signal, { run }) => run(signal), x);
    const middle = Math.floor(y.shape[2]! / 2);
    y.select(2, middle).select(2, middle).sum().backward();
    const reached = Array.from(x.grad!.data()).filter((gradient) => gradient !== 0).length;
    expect(Math.sqrt(reached)).toBe(formula(layers));
  });

  test('by the formula', () => {
    expect(Object.values(stacks).map(formula)).toEqual([3, 5, 7, 8, 7, 16]);
  });
});

describe('image filters on a real picture', () => {
  const filters = {
    identity: [0, 0, 0, 0, 1, 0, 0, 0, 0],
    edge: [-1, -1, -1, -1, 8, -1, -1, -1, -1],
    sharpen: [0, -1, 0, -1, 5, -1, 0, -1, 0],
    box: new Array<number>(9).fill(1 / 9),
    gaussian: [1, 2, 1, 2, 4, 2, 1, 2, 1].map((tap) => tap / 16),
  };
  let picture: Tensor;
  beforeAll(async () => {
    [picture] = new DataLoader(await mnist({ train: false })).load([0]) as [Tensor, Tensor];
  });

  /** The filtered picture, by definition. */
  function byHand(taps: readonly number[]): Float64Array {
    const pixels = picture.data();
    return Float64Array.from(pixels, (_, at) => {
      const [row, column] = [Math.floor(at / 28), at % 28];
      return taps.reduce((sum, tap, i) => {
        const [r, c] = [row + Math.floor(i / 3) - 1, column + (i % 3) - 1];
        return r < 0 || r > 27 || c < 0 || c > 27 ? sum : sum + tap * pixels[28 * r + c]!;
      }, 0);
    });
  }

  test.each(Object.entries(filters))('%s', (_, taps) => {
    expect(picture.shape).toEqual([1, 1, 28, 28]);
    const filtered = scope(() => conv2d(picture, tensor(taps).reshape([1, 1, 3, 3]), null, { padding: 1 }));
    const expected = byHand(taps);
    filtered.data().forEach((pixel, i) => {
      expect(Math.abs(pixel - expected[i]!)).toBeLessThan(1e-5);
    });
  });

  test('the identity changes nothing, blurs keep the mean of the inside, edges vanish where the picture is flat', () => {
    const apply = (taps: readonly number[]): Tensor =>
      conv2d(picture, tensor(taps).reshape([1, 1, 3, 3]), null, { padding: 1 });
    expect(apply(filters.identity).data()).toEqual(picture.data());
    const flat = ones([1, 1, 9, 9]);
    const inside = (taps: readonly number[]): Tensor => conv2d(flat, tensor(taps).reshape([1, 1, 3, 3]));
    expect(inside(filters.edge).abs().max().item()).toBe(0);
    for (const taps of [filters.box, filters.gaussian, filters.sharpen])
      expect(inside(taps).sub(1).abs().max().item()).toBeLessThan(1e-6);
  });
});
