// Bad input: every message says which op, what disagrees, and both values. The families' own files hold more of them.
import { describe, expect, test } from 'vitest';
import * as F from '../../ts/functional.ts';
import {
  add,
  avgPool2d,
  captureStep,
  clamp,
  conv2d,
  crossEntropy,
  exp,
  linear,
  matmul,
  maximum,
  maxPool2d,
  mseLoss,
  mul,
  nn,
  noGrad,
  ones,
  relu,
  scope,
  softmax,
  sum,
  type Tensor,
  tensor,
  where,
  zeros,
} from '../../ts/index.ts';
import { withEngine } from './harness.ts';

withEngine();

type Case = [message: string, kind: ErrorConstructor, call: () => unknown];

/** Lets a test pass what the types forbid. */
const wrong = (value: unknown): never => value as never;

function reads(cases: readonly Case[]): void {
  test.each(cases)('%s', (message, kind, call) => {
    let caught: unknown;
    try {
      call();
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(kind);
    expect((caught as Error).message).toContain(message);
  });
}

const image = (): Tensor => zeros([1, 2, 5, 5]);
const kernel = (): Tensor => zeros([3, 2, 3, 3]);
const labels = (...values: number[]): Tensor => tensor(values, { dtype: 'i32' });
const convolve = (options: object | number) => () => conv2d(image(), kernel(), null, wrong(options));

describe('conv2d', () => {
  reads([
    [
      'conv2d: input must have 4 dimensions [N,C,H,W], got shape [2,5,5]',
      RangeError,
      () => conv2d(zeros([2, 5, 5]), kernel()),
    ],
    [
      'conv2d: weight must have 4 dimensions [O,C/groups,KH,KW], got shape [3,2,3]',
      RangeError,
      () => conv2d(image(), zeros([3, 2, 3])),
    ],
    [
      'conv2d: input [1,3,5,5] has 3 channels, weight [3,2,3,3] with groups 1 expects 2',
      RangeError,
      () => conv2d(zeros([1, 3, 5, 5]), kernel()),
    ],
    [
      'conv2d: bias [4] does not fit weight [3,2,3,3], expected [3]',
      RangeError,
      () => conv2d(image(), kernel(), zeros([4])),
    ],
    ['conv2d: weight [3,2,0,3] is empty', RangeError, () => conv2d(image(), zeros([3, 2, 0, 3]))],
    ['conv2d: input must be f32, got i32', TypeError, () => conv2d(zeros([1, 2, 5, 5], { dtype: 'i32' }), kernel())],
    ['conv2d: weight must be f32, got u8', TypeError, () => conv2d(image(), zeros([3, 2, 3, 3], { dtype: 'u8' }))],
    ['conv2d: stride must be a whole number >= 1, got 0', RangeError, convolve({ stride: 0 })],
    ['conv2d: stride must be a whole number >= 1, got NaN', RangeError, convolve({ stride: Number.NaN })],
    ['conv2d: stride must be a whole number >= 1, got [1,NaN]', RangeError, convolve({ stride: [1, Number.NaN] })],
    ['conv2d: stride must be a whole number >= 1, got 1.5', RangeError, convolve({ stride: 1.5 })],
    ['conv2d: stride must be a number or a pair of numbers, got "2"', TypeError, convolve({ stride: '2' })],
    ['conv2d: stride must be a number or a pair of numbers, got [1]', TypeError, convolve({ stride: [1] })],
    ['conv2d: stride must be a number or a pair of numbers, got null', TypeError, convolve({ stride: null })],
    ['conv2d: padding must be a number or a pair of numbers, got null', TypeError, convolve({ padding: null })],
    [
      `conv2d: padding must be numbers or 'same', got "valid"; PyTorch's 'valid' is 0`,
      TypeError,
      convolve({ padding: 'valid' }),
    ],
    ['conv2d: dilation must be a number or a pair of numbers, got null', TypeError, convolve({ dilation: null })],
    ['conv2d: padding must be a whole number >= 0, got -1', RangeError, convolve({ padding: -1 })],
    [
      'conv2d: padding must be a whole number >= 0, got [0,-1]',
      RangeError,
      convolve({
        padding: [
          [0, -1],
          [0, 0],
        ],
      }),
    ],
    ['conv2d: padding must be a whole number >= 0, got Infinity', RangeError, convolve({ padding: Infinity })],
    ["conv2d: padding 'same' needs stride 1, got [2,2]", RangeError, convolve({ padding: 'same', stride: 2 })],
    ['conv2d: dilation must be a whole number >= 1, got 0', RangeError, convolve({ dilation: 0 })],
    ['conv2d: groups must be a whole number >= 1, got NaN', RangeError, convolve({ groups: Number.NaN })],
    ['conv2d: groups 3 must divide 2 input channels and 3 output channels', RangeError, convolve({ groups: 3 })],
    [
      "conv2d: the window's height 3 is larger than the padded input's, 2 + 0 + 0",
      RangeError,
      () => conv2d(zeros([1, 2, 2, 5]), kernel()),
    ],
    [
      "conv2d: the window's width 7 is larger than the padded input's, 5 + 0 + 0",
      RangeError,
      convolve({ dilation: [1, 3] }),
    ],
    [
      "conv2d: unknown option 'strides', known are stride, padding, dilation, groups",
      TypeError,
      convolve({ strides: 2 }),
    ],
    ['conv2d: options must be an object, got number; write { stride: ... }', TypeError, convolve(2)],
    ['conv2d: expected a Tensor, got an object', TypeError, () => conv2d(image(), kernel(), wrong({ stride: 2 }))],
  ]);
});

describe('pooling', () => {
  reads([
    [
      'maxPool2d: stride must be a number or a pair of numbers, got null',
      TypeError,
      () => maxPool2d(image(), 2, { stride: wrong(null) }),
    ],
    [
      'maxPool2d: ceilMode must be true or false, got string',
      TypeError,
      () => maxPool2d(image(), 2, { ceilMode: wrong('false') }),
    ],
    [
      'maxPool2d: returnIndices must be true or false, got number',
      TypeError,
      () => maxPool2d(image(), 2, { returnIndices: wrong(1) }),
    ],
    [
      'avgPool2d: ceilMode must be true or false, got null',
      TypeError,
      () => avgPool2d(image(), 2, { ceilMode: wrong(null) }),
    ],
    [
      'avgPool2d: countIncludePad must be true or false, got string',
      TypeError,
      () => avgPool2d(image(), 2, { countIncludePad: wrong('no') }),
    ],
    ['maxPool2d: expected images [N,C,H,W] or [C,H,W], got [5,5]', RangeError, () => maxPool2d(zeros([5, 5]), 2)],
    [
      'maxPool2d: padding 2 is more than half of the kernel size 2',
      RangeError,
      () => maxPool2d(image(), 2, { padding: 2 }),
    ],
    [
      'avgPool2d: padding 2 is more than half of the kernel size 3',
      RangeError,
      () => avgPool2d(image(), 3, { padding: 2 }),
    ],
    [
      "maxPool2d: the window's height 6 is larger than the padded input's, 5 + 0 + 0",
      RangeError,
      () => maxPool2d(image(), 6),
    ],
    ['maxPool2d: stride must be a whole number >= 1, got 0', RangeError, () => maxPool2d(image(), 2, { stride: 0 })],
    ['avgPool2d: kernelSize must be a whole number >= 1, got NaN', RangeError, () => avgPool2d(image(), Number.NaN)],
    [
      'avgPool2d: kernelSize must be a number or a pair of numbers, got undefined',
      TypeError,
      () => avgPool2d(image(), wrong(undefined)),
    ],
    [
      'avgPool2d: kernelSize must be a number or a pair of numbers, got Tensor([1,2,5,5], f32)',
      TypeError,
      () => avgPool2d(image(), wrong(image())),
    ],
    ["avgPool2d: unknown option 'dilation'", TypeError, () => avgPool2d(image(), 2, wrong({ dilation: 2 }))],
    [
      'avgPool2d: divisorOverride must be a whole number >= 1, got 0',
      RangeError,
      () => avgPool2d(image(), 2, { divisorOverride: 0 }),
    ],
    [
      'maxPool2d: expected an f32 tensor, got i32',
      TypeError,
      () => maxPool2d(zeros([1, 1, 4, 4], { dtype: 'i32' }), 2),
    ],
  ]);
});

describe('products', () => {
  reads([
    [
      'matmul: [2,3] has 3 columns, [4,5] has 4 rows; they must agree',
      RangeError,
      () => matmul(zeros([2, 3]), zeros([4, 5])),
    ],
    [
      'matmul: batches of [2,3,4] and [3,4,5]: shapes [2] and [3] do not broadcast',
      RangeError,
      () => matmul(zeros([2, 3, 4]), zeros([3, 4, 5])),
    ],
    [
      'matmul: expected tensors with at least 1 dimension, got [] and [2,2]',
      RangeError,
      () => matmul(tensor(1), zeros([2, 2])),
    ],
    [
      'matmul: left operand must be f32, got i32',
      TypeError,
      () => matmul(zeros([2, 2], { dtype: 'i32' }), zeros([2, 2])),
    ],
    [
      'linear: input [2,3] has 3 features, weight [5,4] expects 4',
      RangeError,
      () => linear(zeros([2, 3]), zeros([5, 4])),
    ],
    [
      'linear: bias [4] does not fit weight [5,4], expected [5]',
      RangeError,
      () => linear(zeros([2, 4]), zeros([5, 4]), zeros([4])),
    ],
    [
      'linear: weight must have 2 dimensions [out,in], got shape [4]',
      RangeError,
      () => linear(zeros([2, 4]), zeros([4])),
    ],
  ]);
});

describe('elementwise', () => {
  reads([
    ['add: shapes [2] and [3] do not broadcast', RangeError, () => add(zeros([2]), zeros([3]))],
    ['maximum: shapes [2,3] and [3,2] do not broadcast', RangeError, () => maximum(zeros([2, 3]), zeros([3, 2]))],
    [
      "mul: expected f32 tensors, got i32 and f32; convert with to('f32')",
      TypeError,
      () => mul(zeros([2], { dtype: 'i32' }), 0.5),
    ],
    ['add: expected a tensor or a number, got string', TypeError, () => add(zeros([1]), wrong('2'))],
    ["exp: expected an f32 tensor, got u8; convert with to('f32')", TypeError, () => exp(zeros([2], { dtype: 'u8' }))],
    ['clamp: expected a min, a max or both', RangeError, () => clamp(zeros([1]), {})],
    ['clamp: bounds must not be NaN, got NaN and Infinity', RangeError, () => clamp(zeros([1]), { min: Number.NaN })],
    ["clamp: unknown option 'low', known are min, max", TypeError, () => clamp(zeros([1]), wrong({ low: 1 }))],
    ['where: the condition must be u8, got f32', TypeError, () => where(zeros([1]), 1, 2)],
  ]);
});

describe('losses and softmax', () => {
  reads([
    [
      'crossEntropy: scores [3,4] need one label per sample, [3], got target [4]',
      RangeError,
      () => crossEntropy(zeros([3, 4]), labels(0, 0, 0, 0)),
    ],
    [
      'crossEntropy: index or label 4 is out of range, expected 0 to 3',
      RangeError,
      () => crossEntropy(zeros([3, 4]), labels(0, 4, 1)),
    ],
    [
      'crossEntropy: index or label -1 is out of range, expected 0 to 3',
      RangeError,
      () => crossEntropy(zeros([3, 4]), labels(0, -1, 1)),
    ],
    [
      `crossEntropy: reduction is 'mean', 'sum' or 'none', got "avg"`,
      RangeError,
      () => crossEntropy(zeros([1, 4]), labels(0), { reduction: wrong('avg') }),
    ],
    [
      'crossEntropy: labelSmoothing must lie between 0 and 1, got NaN',
      RangeError,
      () => crossEntropy(zeros([1, 4]), labels(0), { labelSmoothing: Number.NaN }),
    ],
    [
      'crossEntropy: ignoreIndex must be a whole number, got NaN',
      RangeError,
      () => crossEntropy(zeros([1, 4]), labels(0), { ignoreIndex: Number.NaN }),
    ],
    ['mseLoss: x [3] and target [3,1] have different shapes', RangeError, () => mseLoss(zeros([3]), zeros([3, 1]))],
    ['softmax: dim 2 is out of range for a tensor with 2 dimensions', RangeError, () => softmax(zeros([2, 3]), 2)],
    ['softmax: dim must be a number, got Tensor([2], f32)', TypeError, () => softmax(zeros([2]), wrong(zeros([2])))],
  ]);

  test('a label out of range in a replayed step names the op and the layer, and the step goes on working', () => {
    class Net extends nn.Module {
      readonly head: nn.Linear = new nn.Linear(2, 3);
      readonly loss: nn.CrossEntropyLoss = new nn.CrossEntropyLoss();
      forward(x: Tensor, target: Tensor): Tensor {
        return this.loss.forward(this.head.forward(x), target);
      }
    }
    const net = new Net();
    const step = captureStep((x, target) => net.forward(x, target));
    const x = ones([4, 2]);
    const before = step(x, labels(0, 1, 2, 0)).item();
    expect(() => step(x, labels(0, 1, 3, 0))).toThrow(
      /^crossEntropy \(in loss\): index or label 3 is out of range, expected 0 to 2$/,
    );
    expect(() => step(x, labels(0, 1, -7, 0))).toThrow('label -7 is out of range');
    expect(step(x, labels(0, 1, 2, 0)).item()).toBe(before);
    step.dispose();
  });
});

describe('shapes and dimensions', () => {
  reads([
    ['reshape: [2,3] with 6 elements does not fit shape [4,2]', RangeError, () => zeros([2, 3]).reshape([4, 2])],
    ['reshape: shape must be an array of numbers, got number', TypeError, () => zeros([2, 3]).reshape(wrong(6))],
    [
      'reshape: shape [1,1,1,1,1,1,1,1,2] has more than 8 dimensions',
      RangeError,
      () => zeros([2]).reshape([1, 1, 1, 1, 1, 1, 1, 1, 2]),
    ],
    ['shape [1,1,1,1,1,1,1,1,1] has more than 8 dimensions', RangeError, () => zeros([1, 1, 1, 1, 1, 1, 1, 1, 1])],
    [
      'unsqueeze: [1,1,1,1,1,1,1,1] already has 8 dimensions',
      RangeError,
      () => zeros([1, 1, 1, 1, 1, 1, 1, 1]).unsqueeze(0),
    ],
    ['sum: dim 2 is out of range for a tensor with 2 dimensions', RangeError, () => sum(zeros([2, 3]), { dim: 2 })],
    ['sum: dim NaN is out of range', RangeError, () => sum(zeros([2, 3]), { dim: Number.NaN })],
    [
      'transpose: dim 3 is out of range for a tensor with 2 dimensions',
      RangeError,
      () => zeros([2, 3]).transpose(0, 3),
    ],
    ['select: dim 2 is out of range for a tensor with 2 dimensions', RangeError, () => zeros([2, 3]).select(2, 0)],
    ['expand: [2,3] does not expand to [3,3]', RangeError, () => zeros([2, 3]).expand([3, 3])],
  ]);
});

describe('what is no tensor', () => {
  const calls: [string, (x: Tensor) => unknown][] = [
    ['relu', (x) => F.relu(x)],
    ['sigmoid', (x) => F.sigmoid(x)],
    ['tanh', (x) => F.tanh(x)],
    ['leakyRelu', (x) => F.leakyRelu(x)],
    ['silu', (x) => F.silu(x)],
    ['hardsigmoid', (x) => F.hardsigmoid(x)],
    ['hardswish', (x) => F.hardswish(x)],
    ['neg', (x) => F.neg(x)],
    ['abs', (x) => F.abs(x)],
    ['sqrt', (x) => F.sqrt(x)],
    ['square', (x) => F.square(x)],
    ['reciprocal', (x) => F.reciprocal(x)],
    ['exp', (x) => F.exp(x)],
    ['log', (x) => F.log(x)],
    ['contiguous', (x) => F.contiguous(x)],
    ['channelsLast', (x) => F.channelsLast(x)],
    ['clone', (x) => F.clone(x)],
    ['squeeze', (x) => F.squeeze(x)],
    ['flatten', (x) => F.flatten(x)],
    ['zero_', (x) => F.zero_(x)],
    ['scaleImage', (x) => F.scaleImage(x)],
    ['sum', (x) => F.sum(x)],
    ['clamp', (x) => F.clamp(x, { min: 0 })],
    ['to', (x) => F.to(x, 'i32')],
    ['fill_', (x) => F.fill_(x, 1)],
    ['copy_', (x) => F.copy_(zeros([2]), x)],
    ['reshape', (x) => F.reshape(x, [2])],
    ['view', (x) => F.view(x, [2])],
    ['permute', (x) => F.permute(x, [0])],
    ['transpose', (x) => F.transpose(x, 0, 0)],
    ['unsqueeze', (x) => F.unsqueeze(x, 0)],
    ['expand', (x) => F.expand(x, [2])],
    ['narrow', (x) => F.narrow(x, 0, 0, 1)],
    ['slice', (x) => F.slice(x, [[0, 1]])],
    ['select', (x) => F.select(x, 0, 0)],
    ['stack', (x) => F.stack([zeros([2]), x])],
    ['cat', (x) => F.cat([zeros([2]), x])],
    ['pad', (x) => F.pad(x, [1, 1])],
    ['softmax', (x) => F.softmax(x, 0)],
    ['logSoftmax', (x) => F.logSoftmax(x, 0)],
    ['maxPool2d', (x) => F.maxPool2d(x, 2)],
    ['avgPool2d', (x) => F.avgPool2d(x, 2)],
    ['conv2d', (x) => F.conv2d(x, kernel())],
    ['matmul', (x) => F.matmul(zeros([2, 2]), x)],
  ];
  test.each(calls)('%s of an array', (name, call) => {
    const message = `${name}: expected a Tensor, got an array (use tensor(...))`;
    expect(() => call(wrong([1, 2]))).toThrow(new TypeError(message));
  });
});

describe('memory that is gone', () => {
  const gone = (): Tensor => {
    const x = zeros([2]);
    x.dispose();
    return x;
  };
  reads([
    ['add: this Tensor([2], f32) was disposed', Error, () => add(gone(), 1)],
    ['relu: this Tensor([2], f32) was disposed', Error, () => relu(gone())],
    ['reshape: this Tensor([2], f32) was disposed', Error, () => gone().reshape([2, 1])],
    ['data: this Tensor([2], f32) was disposed', Error, () => gone().data()],
    [
      'select: this Tensor([2,2], f32) was disposed',
      Error,
      () => {
        const x = zeros([2, 2]);
        x.dispose();
        x.select(0, 0);
      },
    ],
    [
      'data: this Tensor([2], f32) was disposed',
      Error,
      () => {
        const x = zeros([2, 2]);
        const row = x.select(0, 0);
        x.dispose();
        row.data();
      },
    ],
    [
      'add: this Tensor([2], f32) was released at the end of the scope',
      Error,
      () => {
        let inside = zeros([2]);
        scope(() => {
          inside = zeros([2]);
        });
        inside.add(1);
      },
    ],
    [
      'item: this Tensor([1], f32, requiresGrad) was released when the next backward() ended',
      Error,
      () => {
        const w = ones([1], { requiresGrad: true });
        const [first] = Array.from({ length: 3 }, () => {
          const y = w.mul(2);
          y.backward();
          return y;
        });
        first!.item();
      },
    ],
    [
      'dispose: Tensor([1], f32, requiresGrad) is used by 1 captured program; dispose those first',
      Error,
      () => {
        const w = ones([1], { requiresGrad: true });
        const step = captureStep((x) => x.mul(w).sum());
        step(ones([1]));
        w.dispose();
      },
    ],
  ]);
});

describe('backward', () => {
  const leaf = (size = 2): Tensor => ones([size], { requiresGrad: true });
  reads([
    [
      'backward: the saved tensors of mul are freed after the first backward(); pass { retainGraph: true }',
      Error,
      () => {
        const w = leaf(1);
        const y = w.mul(w);
        y.backward();
        y.backward();
      },
    ],
    [
      'backward: [2] has 2 elements; reduce it to one (sum, mean) or pass a gradient',
      RangeError,
      () => leaf().mul(2).backward(),
    ],
    ['backward: Tensor([1], f32) does not require gradients', Error, () => ones([1]).backward()],
    [
      'backward: gradient [3] for a tensor of shape [2]',
      RangeError,
      () =>
        leaf()
          .mul(2)
          .backward({ gradient: ones([3]) }),
    ],
    [
      "backward: unknown option 'retain'",
      TypeError,
      () =>
        leaf(1)
          .mul(2)
          .backward(wrong({ retain: true })),
    ],
    [
      'backward: Tensor([2], f32), saved by mul, was changed in place since (version 1, expected 0)',
      Error,
      () => {
        const factor = ones([2]);
        const y = leaf().mul(factor).sum();
        factor.fill_(3);
        y.backward();
      },
    ],
    [
      'backward: Tensor([2], f32, requiresGrad), saved by mul, was changed in place since',
      Error,
      () => {
        const w = leaf();
        const y = w.mul(w).sum();
        noGrad(() => w.fill_(3));
        y.backward();
      },
    ],
    [
      'fill_: Tensor([2], f32, requiresGrad) needs gradients and cannot be changed in place while they are recorded',
      Error,
      () => leaf().fill_(1),
    ],
    [
      'requiresGrad: only leaf tensors can be changed',
      Error,
      () => {
        leaf().mul(2).requiresGrad = false;
      },
    ],
    [
      'requiresGrad: only f32 tensors can have gradients, this one is i32',
      TypeError,
      () => tensor([1], { dtype: 'i32', requiresGrad: true }),
    ],
    [
      'grad: gradient [3] for a tensor of shape [2]',
      RangeError,
      () => {
        leaf().grad = ones([3]);
      },
    ],
  ]);

  test('after an error everything still works', () => {
    const w = leaf();
    expect(() => conv2d(w, w)).toThrow();
    w.mul(3).sum().backward();
    expect([...w.grad!.data()]).toEqual([3, 3]);
  });
});
