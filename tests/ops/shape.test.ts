// Views, copies, padding and concatenation: values, layouts, gradients as adjoints, canaries (debug mode), messages.
import '../../ts/autograd/tape.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backward } from '../../ts/autograd/backward.ts';
import { gradientOf } from '../../ts/autograd/gradient.ts';
import { noGrad } from '../../ts/autograd/mode.ts';
import { cat, stack } from '../../ts/ops/cat.ts';
import { channelsLast, clone, contiguous, copy_, fill_, relayout, scaleImage, to, zero_ } from '../../ts/ops/copy.ts';
import { mul } from '../../ts/ops/elementwise.ts';
import { narrow, pad, select, slice } from '../../ts/ops/narrow.ts';
import { detach, flatten, permute, reshape, squeeze, transpose, unsqueeze, view } from '../../ts/ops/shape.ts';
import { expand } from '../../ts/ops/sum.ts';
import { init, shutdown } from '../../ts/runtime/engine.ts';
import { arange, tensor, zeros } from '../../ts/tensor/create.ts';
import { data } from '../../ts/tensor/read.ts';
import { contiguousStrides, sizeOf } from '../../ts/tensor/shape.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import { dot } from '../reference/compare.ts';
import { integers } from '../reference/values.ts';

beforeAll(() => init({ threads: 1, debug: true }));
afterAll(shutdown);

function numbered(...shape: number[]): Tensor {
  return reshape(arange(sizeOf(shape)), shape);
}

/** <f(x), dy> = <x, dx>, exactly: every op here is linear. */
function checkAdjoint(f: (x: Tensor) => Tensor, shape: readonly number[], layout?: readonly number[]): void {
  const leaf = tensor(integers('x', sizeOf(shape), -4, 4), { shape });
  const x = layout ? relayout(leaf, layout) : leaf;
  x.requiresGrad = true;
  const y = f(x);
  const dy = tensor(integers('dy', y.size, -4, 4), { shape: y.shape });
  backward(y, { gradient: dy });
  expect(dot(data(y), data(dy))).toBe(dot(data(x), data(gradientOf(x)!)));
}

describe('layouts', () => {
  const shapes = [
    [2, 3, 4, 5],
    [1, 6, 28, 28],
    [3, 16, 1, 9],
    [2, 64, 7, 7],
    [1, 1, 5, 5],
    [4, 3, 33, 17],
    [0, 3, 2, 2],
  ];
  it.each(shapes)('goes to channels-last and back: %i %i %i %i', (...shape) => {
    const x = numbered(...shape);
    const y = channelsLast(x);
    const [, c, h, w] = shape as [number, number, number, number];
    if (x.size)
      expect(y.strides).toEqual([c * h * w, 1, w * c, c].map((s, i) => (shape[i] === 1 && y === x ? x.strides[i] : s)));
    expect(data(y)).toEqual(data(x));
    expect(data(contiguous(y))).toEqual(data(x));
    expect(contiguous(y).strides).toEqual(y === x ? x.strides : contiguousStrides(shape));
    expect(channelsLast(y)).toBe(y);
  });

  it('copies every permutation of four dimensions', () => {
    const x = numbered(5, 6, 7, 9);
    for (let code = 0; code < 256; code++) {
      const dims = [code & 3, (code >> 2) & 3, (code >> 4) & 3, code >> 6];
      if (new Set(dims).size < 4) continue;
      const y = permute(x, dims);
      const copied = contiguous(y);
      expect(data(copied)).toEqual(data(y));
      expect(data(relayout(copied, y.strides))).toEqual(data(y));
    }
  });

  it('copies bytes and integers in any layout', () => {
    const x = to(numbered(3, 5, 17), 'u8');
    expect(data(contiguous(permute(x, [2, 0, 1])))).toEqual(data(permute(x, [2, 0, 1])));
    const n = to(numbered(3, 5, 17), 'i32');
    expect(data(contiguous(transpose(n, 0, 2)))).toEqual(data(transpose(n, 0, 2)));
  });

  it('keeps views of a dense tensor as they are and clones into new memory', () => {
    const x = numbered(2, 3);
    expect(contiguous(x)).toBe(x);
    const y = clone(transpose(x, 0, 1));
    expect(y.strides).toEqual([1, 3]);
    zero_(x);
    expect([...data(y)]).toEqual([0, 3, 1, 4, 2, 5]);
  });
});

describe('types', () => {
  it('casts as documented', () => {
    const x = tensor([1.9, -1.9, 3e9, -3e9, Number.NaN, 255.5, 256, -1]);
    expect([...data(to(x, 'i32'))]).toEqual([1, -1, 2147483647, -2147483648, 0, 255, 256, -1]);
    expect([...data(to(x, 'u8'))]).toEqual([1, 255, 255, 0, 0, 255, 0, 255]);
    expect([...data(to(tensor([-1, 300], { dtype: 'i32' }), 'u8'))]).toEqual([255, 44]);
    expect([...data(to(tensor([16777217, -5], { dtype: 'i32' }), 'f32'))]).toEqual([16777216, -5]);
    expect([...data(to(to(tensor([0, 200]), 'u8'), 'i32'))]).toEqual([0, 200]);
    expect(to(x, 'f32')).toBe(x);
  });

  it('scales images', () => {
    const pixels = tensor(Uint8Array.from({ length: 37 }, (_, i) => 7 * i));
    const expected = Float32Array.from({ length: 37 }, (_, i) =>
      Math.fround(Math.fround(((7 * i) & 255) * Math.fround(1 / 255)) - 0.5),
    );
    expect(data(scaleImage(pixels, 1 / 255, -0.5))).toEqual(expected);
    const image = reshape(pixels, [37, 1]);
    expect(scaleImage(expand(image, [37, 3])).shape).toEqual([37, 3]);
  });

  it('refuses other dtypes', () => {
    expect(() => to(zeros([1]), 'f64' as 'f32')).toThrow("to: dtype is 'f32', 'i32' or 'u8', got \"f64\"");
    expect(() => scaleImage(zeros([1]))).toThrow('scaleImage: expected a u8 tensor, got f32');
  });
});

describe('in place', () => {
  it('writes into views and nothing else', () => {
    const x = numbered(4, 5);
    fill_(narrow(narrow(x, 0, 1, 2), 1, 1, 3), -1);
    expect([...data(x)]).toEqual([0, 1, 2, 3, 4, 5, -1, -1, -1, 9, 10, -1, -1, -1, 14, 15, 16, 17, 18, 19]);
    copy_(select(x, 1, 4), tensor([7, 8, 9, 6]));
    expect([...data(select(x, 1, 4))]).toEqual([7, 8, 9, 6]);
    copy_(x, tensor([1, 2, 3, 4, 5], { dtype: 'i32' }));
    expect([...data(select(x, 0, 3))]).toEqual([1, 2, 3, 4, 5]);
    const bytes = to(zeros([3, 3]), 'u8');
    fill_(select(bytes, 1, 2), 255);
    expect([...data(bytes)]).toEqual([0, 0, 255, 0, 0, 255, 0, 0, 255]);
    expect([...data(fill_(bytes, 3))]).toEqual(new Array(9).fill(3));
  });

  it('raises the version and is refused on the tape', () => {
    const x = tensor([1, 2], { requiresGrad: true });
    expect(() => zero_(x)).toThrow(
      'fill_: Tensor([2], f32, requiresGrad) needs gradients and cannot be changed in place',
    );
    const y = mul(x, x);
    noGrad(() => fill_(x, 3));
    expect(() => backward(y, { gradient: tensor([1, 1]) })).toThrow('saved by mul, was changed in place since');
  });

  it.each([
    ["copy_: source [3] does not broadcast to the target's shape [2,1]", () => copy_(zeros([2, 1]), zeros([3]))],
    ['fill_: value 256 is not a whole number from 0 to 255, as u8 needs', () => fill_(to(zeros([1]), 'u8'), 256)],
    ['fill_: value must be a number, got undefined', () => fill_(zeros([1]), undefined as unknown as number)],
  ])('%s', (message, call) => {
    expect(call).toThrow(message);
  });
});

describe('views', () => {
  it('share memory and read in logical order', () => {
    const x = numbered(2, 3, 4);
    for (const y of [
      view(x, [6, 4]),
      reshape(x, [-1]),
      flatten(x, 1),
      permute(x, [2, 0, 1]),
      transpose(x, 0, -1),
      squeeze(unsqueeze(x, 1)),
      expand(unsqueeze(x, 0), [2, -1, -1, -1]),
      narrow(x, 1, 1, 2),
      select(x, -1, 3),
      slice(x, [undefined, [1], [-3, -1]]),
      detach(x),
    ])
      expect(y.storage).toBe(x.storage);
    expect([...data(permute(narrow(x, 1, 1, 2), [1, 0, 2]))]).toEqual([
      4, 5, 6, 7, 16, 17, 18, 19, 8, 9, 10, 11, 20, 21, 22, 23,
    ]);
    expect([...data(slice(x, [[1], [1], [-3, -1]]))]).toEqual([17, 18, 21, 22]);
    expect([...data(select(select(x, 0, -1), 0, 0))]).toEqual([12, 13, 14, 15]);
    expect(slice(x, [[5, 2]]).shape).toEqual([0, 3, 4]);
  });

  it('reshapes what it can without a copy', () => {
    const x = channelsLast(numbered(2, 3, 4, 5));
    expect(reshape(x, [2, 3, 20]).storage).toBe(x.storage);
    expect(reshape(x, [2, 60]).storage).not.toBe(x.storage);
    expect(data(reshape(x, [2, 60]))).toEqual(data(x));
    expect(data(reshape(x, [2, 3, 2, 1, 2, 5]))).toEqual(data(x));
    expect(reshape(tensor(3), [1, 1]).shape).toEqual([1, 1]);
    expect(reshape(zeros([0, 4]), [2, 0]).shape).toEqual([2, 0]);
    expect(reshape(unsqueeze(permute(x, [0, 2, 3, 1]), 2), [40, 3]).storage).toBe(x.storage);
  });

  it.each<[string, (x: Tensor) => Tensor]>([
    ['view', (x) => view(contiguous(x), [6, 20])],
    ['reshape of a permuted tensor', (x) => reshape(permute(x, [3, 1, 0, 2]), [10, 12])],
    ['flatten', (x) => flatten(x, 1, 2)],
    ['transpose', (x) => transpose(x, 1, 3)],
    ['squeeze', (x) => squeeze(unsqueeze(x, 2), 2)],
    ['expand', (x) => expand(unsqueeze(x, 1), [2, 3, 3, 4, 5])],
    ['narrow', (x) => narrow(x, 2, 1, 2)],
    ['slice', (x) => slice(x, [[0, 1], [1], [1, -1]])],
    ['select', (x) => select(x, 1, 2)],
    ['pad', (x) => pad(x, [1, 2, 0, 3, 1, 0])],
    ['cat', (x) => cat([x, mul(x, 2), narrow(x, 1, 0, 1)], 1)],
    ['stack', (x) => stack([x, mul(x, 3)], 2)],
    ['clone', (x) => clone(transpose(x, 0, 2))],
    ['channelsLast', (x) => channelsLast(x)],
  ])('%s has the adjoint as its gradient', (_, f) => {
    checkAdjoint(f, [2, 3, 4, 5]);
    checkAdjoint(f, [2, 3, 4, 5], [60, 1, 15, 3]);
  });

  it('detaches', () => {
    const x = tensor([1], { requiresGrad: true });
    expect(detach(mul(x, 2)).requiresGrad).toBe(false);
  });

  it.each([
    [
      'view: [2,3] with strides [1,2] cannot be seen as [6] without a copy; use reshape',
      () => view(transpose(numbered(3, 2), 0, 1), [6]),
    ],
    ['reshape: [2,3] with 6 elements does not fit shape [4,-1]', () => reshape(numbered(2, 3), [4, -1])],
    ['reshape: shape [-1,-1] has more than one -1', () => reshape(numbered(2, 3), [-1, -1])],
    ['permute: dims [0,0] must name each of the 2 dimensions of [2,3] once', () => permute(numbered(2, 3), [0, 0])],
    ['transpose: dim 2 is out of range for a tensor with 2 dimensions', () => transpose(numbered(2, 3), 0, 2)],
    ['expand: [2,3] does not expand to [2,4]', () => expand(numbered(2, 3), [2, 4])],
    ['narrow: 3 elements from 1 do not lie in dimension 1 of [2,3]', () => narrow(numbered(2, 3), 1, 1, 3)],
    ['select: index 3 is out of range for dimension 1 of [2,3]', () => select(numbered(2, 3), 1, 3)],
    ['flatten: startDim 1 comes after endDim 0', () => flatten(numbered(2, 3), 1, 0)],
    ['pad: padding [1,-1] must hold whole numbers >= 0', () => pad(numbered(2, 3), [1, -1])],
    ["pad: unknown option 'mode', known are value", () => pad(numbered(2, 3), [1, 1], { mode: 'reflect' } as object)],
    ['cat: expected at least one tensor', () => cat([])],
    ['cat: shapes [2,3] and [3,2] differ outside dimension 0', () => cat([numbered(2, 3), numbered(3, 2)])],
    ['stack: shapes [2,3] and [3,2] differ', () => stack([numbered(2, 3), numbered(3, 2)])],
  ])('%s', (message, call) => {
    expect(call).toThrow(message);
  });
});

describe('parts', () => {
  it('pads with a value, the last dimension first', () => {
    expect([...data(pad(numbered(2, 2), [1, 0, 0, 1], { value: 9 }))]).toEqual([9, 0, 1, 9, 2, 3, 9, 9, 9]);
    expect(data(pad(channelsLast(numbered(1, 2, 2, 2)), [1, 1, 1, 1]))).toEqual(
      data(pad(numbered(1, 2, 2, 2), [1, 1, 1, 1])),
    );
    expect([...data(pad(to(numbered(3), 'u8'), [1, 1], { value: 7 }))]).toEqual([7, 0, 1, 2, 7]);
  });

  it('joins in any layout', () => {
    const a = numbered(2, 3, 4, 5);
    const b = numbered(2, 2, 4, 5);
    expect(data(cat([channelsLast(a), b], 1))).toEqual(data(cat([a, b], 1)));
    expect(cat([channelsLast(a), b], 1).strides).toEqual([100, 1, 25, 5]);
    expect([...data(cat([to(numbered(2), 'i32'), to(numbered(3), 'i32')]))]).toEqual([0, 1, 0, 1, 2]);
    expect([...data(stack([numbered(2), numbered(2)], -1))]).toEqual([0, 0, 1, 1]);
  });
});
