// One problem, answered on every road through the engine: eagerly, captured, and replayed. The roads must agree bit for bit
// and leave no memory behind. Canaries lie behind every buffer and NaN in fresh memory.
import { setFlagsFromString } from 'node:v8';
import { afterAll, beforeAll, expect } from 'vitest';
import { backward } from '../../ts/autograd/backward.ts';
import { gradientOf, setHasGradient } from '../../ts/autograd/gradient.ts';
import { capture } from '../../ts/graph/capture.ts';
import { GradientStep } from '../../ts/graph/gradient-step.ts';
import { Program } from '../../ts/graph/program.ts';
import { channelsLast, contiguous } from '../../ts/ops/copy.ts';
import { narrow, pad } from '../../ts/ops/narrow.ts';
import { transpose } from '../../ts/ops/shape.ts';
import { engine, engineInfo, type InitOptions, init, memoryStatistics, shutdown } from '../../ts/runtime/engine.ts';
import { tensor } from '../../ts/tensor/create.ts';
import { dispose } from '../../ts/tensor/dispose.ts';
import type { TypedArray } from '../../ts/tensor/dtype.ts';
import { scope } from '../../ts/tensor/lifetime.ts';
import { data } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';
import type { Shape } from '../reference/values.ts';

/** Everything once more in 256-bit mode (tests/run.mjs), with code that is optimised from the first call on: it is that which pairs vectors. */
const experimentalSimd256 = process.env.FEATHERMAP_TEST_SIMD256 === '1';
if (experimentalSimd256) setFlagsFromString('--no-liftoff');

/** Starts the engine for the tests of a file. */
export function withEngine(options: InitOptions = { threads: 1, debug: true }): void {
  beforeAll(async () => {
    await init({ ...options, experimentalSimd256 });
    if (experimentalSimd256) expect(engineInfo().vectorBits).toBe(256);
  });
  afterAll(shutdown);
}

/** Where the elements of an input lie: `inside` is the middle of a larger tensor that is NaN elsewhere. */
export type Layout = 'rowMajor' | 'channelsLast' | 'transposed' | 'inside';

export const layouts: readonly Layout[] = ['rowMajor', 'channelsLast', 'transposed', 'inside'];

/** Numbers in row-major order. Float32 inputs get a gradient unless `constant`. */
export interface Input {
  data: TypedArray;
  shape: Shape;
  layout?: Layout | undefined;
  constant?: boolean | undefined;
}

/** What to compute. Without the upstream gradient `dy` there are no gradients. */
export interface Problem<Names extends string = string> {
  inputs: Readonly<Record<Names, Input>>;
  run: (inputs: Readonly<Record<Names, Tensor>>) => Tensor;
  dy?: Input | undefined;
}

/** The result and the gradient of each input, in row-major order. */
export interface Answer {
  y: TypedArray;
  shape: readonly number[];
  gradients: Record<string, TypedArray>;
}

/** A leaf, and the tensor with the wanted layout that is made from it. */
interface Placed {
  leaf: Tensor;
  view: (leaf: Tensor) => Tensor;
}

const asItIs = (leaf: Tensor): Tensor => leaf;

const place: Record<Layout, (x: Tensor) => Placed> = {
  rowMajor: (x) => ({ leaf: x, view: asItIs }),
  channelsLast: (x) => ({ leaf: channelsLast(x), view: asItIs }),
  transposed(x) {
    if (x.shape.length < 2) return place.rowMajor(x);
    const view = (leaf: Tensor): Tensor => transpose(leaf, -1, -2);
    return { leaf: contiguous(view(x)), view };
  },
  inside(x) {
    const padding = x.shape.flatMap(() => [1, 2]);
    const view = (leaf: Tensor): Tensor => x.shape.reduce((part, extent, dim) => narrow(part, dim, 1, extent), leaf);
    return { leaf: pad(x, padding, { value: Number.NaN }), view };
  },
};

function placed({ data, shape, layout = 'rowMajor' }: Input): Placed {
  return place[layout](tensor(data, { shape }));
}

/** The tensors of a problem. */
class Bench {
  readonly #problem: Problem;
  readonly #places: [name: string, Placed][];
  readonly #dy: Tensor | undefined;

  constructor(problem: Problem) {
    this.#problem = problem;
    this.#places = Object.entries(problem.inputs).map(([name, input]) => [name, placed(input)]);
    for (const [name, { leaf }] of this.#places)
      leaf.requiresGrad = leaf.dtype === 'f32' && problem.inputs[name]!.constant !== true && problem.dy !== undefined;
    const dy = problem.dy && placed(problem.dy);
    this.#dy = dy?.view(dy.leaf);
  }

  readonly run = (): Tensor =>
    this.#problem.run(Object.fromEntries(this.#places.map(([name, { leaf, view }]) => [name, view(leaf)])));

  eagerly(): Answer {
    const y = this.run();
    if (this.#dy) backward(y, { gradient: this.#dy });
    return this.#collect(y);
  }

  /** Captures, and runs twice: what the first run leaves in memory must not show in the second. */
  captured(before: () => void = () => {}): Answer[] {
    const step = this.#dy ? new GradientStep(this.run, { seed: this.#dy }) : undefined;
    const program = step ? undefined : this.#program();
    try {
      return [1, 2].map(() => {
        before();
        return this.#collect((step ?? program)!.run([])[0]!);
      });
    } finally {
      (step ?? program)!.dispose();
    }
  }

  #program(): Program {
    const { calls, result } = capture([], this.run);
    return new Program(calls, [], [result]);
  }

  #collect(y: Tensor): Answer {
    const gradients: Record<string, TypedArray> = {};
    for (const [name, { leaf, view }] of this.#places) {
      const gradient = gradientOf(leaf);
      if (!gradient) continue;
      gradients[name] = data(view(gradient));
      setHasGradient(leaf, false);
    }
    return { y: data(y), shape: y.shape, gradients };
  }

  /** Gradient buffers belong to their leaves and outlive scopes. */
  dispose(): void {
    for (const [, { leaf }] of this.#places) {
      if (leaf.gradient) dispose(leaf.gradient);
      if (leaf.accumulate) dispose(leaf.accumulate);
    }
  }
}

/** The numbers of an array as they lie in memory: distinguishes -0 from 0 and one NaN from another. */
function bitsOf({ buffer, byteOffset, byteLength }: TypedArray): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Throws unless both answers are the same bit for bit. */
export function expectSameBits(actual: Answer, expected: Answer, label: string): void {
  expect(actual.shape, `${label}: shape`).toEqual(expected.shape);
  expect(Object.keys(actual.gradients), `${label}: gradients`).toEqual(Object.keys(expected.gradients));
  const pairs = { y: [actual.y, expected.y] as const };
  for (const [name, gradient] of Object.entries(expected.gradients))
    Object.assign(pairs, { [name]: [actual.gradients[name]!, gradient] });
  for (const [name, [a, b]] of Object.entries(pairs))
    if (Buffer.compare(bitsOf(a), bitsOf(b)) !== 0) expect([...a], `${label}: ${name}`).toEqual([...b]);
}

/** Bytes in blocks that tensors and programs hold, without what the engine keeps for itself. */
function heldBytes(): number {
  return memoryStatistics().allocatedBytes - engine().overheadBytes(0);
}

/** The eager answer, after checking that captured and replayed answers equal it and that all memory came back. */
export function solve<Names extends string>(problem: Problem<Names>): Answer {
  const before = heldBytes();
  const answer = scope(() => {
    const bench = new Bench(problem as Problem);
    const eager = bench.eagerly();
    bench.captured().forEach((captured, i) => {
      expectSameBits(captured, eager, `run ${i + 1} of the captured program`);
    });
    bench.dispose();
    return eager;
  });
  expect(heldBytes() - before, 'bytes held after the scope').toBe(0);
  return answer;
}

/** The answers of all roads: eager, captured, replayed. `before` is called before each, to start random numbers anew. */
export function solveAll(problem: Problem, before: () => void): Answer[] {
  return scope(() => {
    const bench = new Bench(problem);
    before();
    const eager = bench.eagerly();
    const answers = [eager, ...bench.captured(before)];
    bench.dispose();
    return answers;
  });
}
