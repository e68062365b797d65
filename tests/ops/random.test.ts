// The generator and what draws from it: known answers, statistics, and the same numbers eagerly, captured and reserved.
import '../../ts/autograd/tape.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { backward } from '../../ts/autograd/backward.ts';
import { gradientOf, setHasGradient } from '../../ts/autograd/gradient.ts';
import { philox } from '../../ts/data/philox.ts';
import { capture } from '../../ts/graph/capture.ts';
import { Program } from '../../ts/graph/program.ts';
import { channelsLast } from '../../ts/ops/copy.ts';
import { select } from '../../ts/ops/narrow.ts';
import {
  bernoulli,
  bernoulli_,
  dropout,
  fillNormal,
  fillUniform,
  manualSeed,
  normal_,
  rand,
  randn,
  reserveRandom,
  uniform_,
} from '../../ts/ops/random.ts';
import { init, shutdown } from '../../ts/runtime/engine.ts';
import { ones, tensor, zeros } from '../../ts/tensor/create.ts';
import { data } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';

beforeAll(() => init({ threads: 1, debug: true }));
afterAll(shutdown);
beforeEach(() => manualSeed(5));

/** The word that belongs to an element, from the generator in TypeScript. */
function word(seed: number, group: number, i: number): number {
  const block = new Uint32Array([4 * (group + (i >> 4)) + (i & 3), 0, 0, 0]);
  philox(block, seed, 0);
  return block[(i >> 2) & 3]!;
}

it('draws the words of Philox 4x32-10', () => {
  const first = data(rand([37]));
  const second = data(rand([5]));
  expect([...first]).toEqual(Array.from({ length: 37 }, (_, i) => (word(5, 0, i) >>> 8) / 2 ** 24));
  expect([...second]).toEqual(Array.from({ length: 5 }, (_, i) => (word(5, 3, i) >>> 8) / 2 ** 24));
});

it('starts anew with the same seed, and differs with another one', () => {
  const a = data(randn([100]));
  manualSeed(5);
  expect(data(randn([100]))).toEqual(a);
  manualSeed(2 ** 40 + 5);
  expect(data(randn([100]))).not.toEqual(a);
});

it('has the moments of its distributions', () => {
  const n = 1 << 18;
  const mean = (numbers: ArrayLike<number>, f = (v: number): number => v): number => {
    let sum = 0;
    for (let i = 0; i < numbers.length; i++) sum += f(numbers[i]!);
    return sum / numbers.length;
  };
  const normal = data(normal_(zeros([n]), 2, 3));
  expect(Math.abs(mean(normal) - 2)).toBeLessThan(0.03);
  expect(Math.abs(mean(normal, (v) => (v - 2) ** 2) - 9)).toBeLessThan(0.15);
  expect(Math.abs(mean(normal, (v) => ((v - 2) / 3) ** 4) - 3)).toBeLessThan(0.1);
  const uniform = data(uniform_(zeros([n]), -1, 1));
  expect(Math.abs(mean(uniform))).toBeLessThan(0.01);
  expect(Math.abs(mean(uniform, (v) => v * v) - 1 / 3)).toBeLessThan(0.01);
  expect(Math.abs(mean(data(bernoulli_(zeros([n]), 0.3))) - 0.3)).toBeLessThan(0.01);
});

it('keeps uniform numbers below the upper bound', () => {
  expect(data(uniform_(zeros([1 << 16]), 1, 1 + 2 ** -23)).every((v) => v === 1)).toBe(true);
  expect([...data(uniform_(zeros([3]), 4, 4))]).toEqual([4, 4, 4]);
});

it('fills views, and tensors in any layout', () => {
  const x = zeros([4, 3]);
  uniform_(select(x, 1, 1), 1, 2);
  expect(data(x).filter((v) => v === 0).length).toBe(8);
  expect(data(normal_(channelsLast(ones([2, 3, 4, 5])))).every((v) => v !== 1)).toBe(true);
});

it('chooses with the given probabilities', () => {
  expect([...data(bernoulli(tensor([0, 1, 0, 1])))]).toEqual([0, 1, 0, 1]);
  expect([...data(bernoulli_(zeros([2]), 0))]).toEqual([0, 0]);
  expect([...data(bernoulli_(zeros([2]), 1))]).toEqual([1, 1]);
});

describe('dropout', () => {
  it('scales what it keeps and passes the gradient through the same mask', () => {
    const x = tensor(new Float32Array(1000).fill(3), { requiresGrad: true });
    const y = dropout(x, { p: 0.25 });
    const kept = Array.from(data(y), (v) => Number(v !== 0));
    expect([...data(y)]).toEqual([...kept.map((k) => k * 4)]);
    expect(kept.reduce((a, b) => a + b)).toBeGreaterThan(650);
    rand([7]);
    manualSeed(99);
    backward(y, { gradient: ones([1000]) });
    expect(data(gradientOf(x)!)).toEqual(Float32Array.from(kept, (k) => k * Math.fround(4 / 3)));
  });

  it('is the identity outside of training or with p = 0, and zero with p = 1', () => {
    const x = ones([8]);
    expect(dropout(x, { training: false })).toBe(x);
    expect(dropout(x, { p: 0 })).toBe(x);
    expect([...data(dropout(x, { p: 1 }))]).toEqual(new Array(8).fill(0));
  });

  it('draws another mask each time', () => {
    const x = ones([4, 8, 4, 4]);
    expect(data(dropout(x))).not.toEqual(data(dropout(x)));
  });
});

it('draws the same numbers eagerly and from a replayed program', () => {
  const x = tensor(new Float32Array(40).fill(1), { requiresGrad: true });
  const step = (): Tensor[] => {
    const y = dropout(x, { p: 0.5 });
    const others = [rand([20]), randn([3])];
    backward(y, { gradient: ones([40]) });
    return [y, ...others];
  };
  const numbers = (outputs: readonly Tensor[]): number[][] => {
    const gradient = gradientOf(x)!;
    setHasGradient(x, false);
    return [...outputs, gradient].map((t) => [...data(t)]);
  };
  const eager = [numbers(step()), numbers(step())];
  const after = data(rand([4]));
  manualSeed(5);
  const { calls, result } = capture([], step);
  const program = new Program(calls, [], result);
  expect([numbers(program.run([])), numbers(program.run([]))]).toEqual(eager);
  program.dispose();
  expect(data(rand([4]))).toEqual(after);
});

it('refuses to be seeded in a capture', () => {
  expect(() => capture([], () => manualSeed(1))).toThrow('while a step is being captured');
});

it('fills a reserved tensor later, whatever was drawn or seeded in between', () => {
  const expected = data(rand([50]));
  const next = data(rand([4]));
  manualSeed(5);
  const ticket = reserveRandom(50);
  expect(data(rand([4]))).toEqual(next);
  manualSeed(123);
  const x = zeros([50]);
  fillUniform(x, 0, 1, ticket);
  expect(data(x)).toEqual(expected);
  fillNormal(x, 3, 0, ticket);
  expect(data(x).every((v) => v === 3)).toBe(true);
});

it.each([
  ['manualSeed: seed must be a whole number from 0 to 2^53 - 1, got -1', () => manualSeed(-1)],
  ['uniform_: lo 2 is larger than hi 1', () => uniform_(zeros([1]), 2, 1)],
  ['normal_: std must not be negative, got -1', () => normal_(zeros([1]), 0, -1)],
  ['normal_: mean must be a finite number, got NaN', () => normal_(zeros([1]), Number.NaN)],
  ['dropout: p must be a probability from 0 to 1, got 1.5', () => dropout(zeros([1]), { p: 1.5 })],
  ["dropout: unknown option 'inplace', known are p, training", () => dropout(zeros([1]), { inplace: true } as object)],
  ['rand: dtype must be f32, got i32', () => rand([1], { dtype: 'i32' })],
  ['bernoulli_: expected an f32 tensor, got i32', () => bernoulli_(zeros([1], { dtype: 'i32' }))],
])('%s', (message, call) => {
  expect(call).toThrow(message);
});
