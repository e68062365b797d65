// Random numbers and dropout, from one counter-based generator: a value is a function of seed, counter and index alone
// (assembly/philox.ts). The generator's state lies in linear memory, so that captured programs read it like any other scalar.
//
// Run eagerly, a call draws from the state's counter and moves it on. While a step is captured, each call takes a fixed
// distance from the counter, and one last op call moves it on by what all of them used; so both ways see the same numbers.
import * as kernels from '../generated/kernels.ts';
import type { Emitter, Grid, Kernel, Location } from '../runtime/command.ts';
import { whenShutDown } from '../runtime/engine.ts';
import { activeRecorder, apply } from '../tensor/apply.ts';
import { allocateTensor, type CreateOptions, checkOptions } from '../tensor/create.ts';
import { keep } from '../tensor/lifetime.ts';
import type { Op } from '../tensor/op.ts';
import { data, writeValues } from '../tensor/read.ts';
import { checkShape, isDense, sizeOf } from '../tensor/shape.ts';
import { locationOf, type Tensor } from '../tensor/tensor.ts';
import { lt } from './compare.ts';
import { copy_, dense, relayout, to } from './copy.ts';
import { elementGrid } from './loops.ts';

/** Seed and counter; the counter counts groups of GROUP words. */
interface Position {
  readonly seed: number;
  readonly counter: number;
}

/** Where the generator starts unless `manualSeed` says otherwise. */
const START: Position = { seed: 0, counter: 0 };

/** The position as four 32-bit words in linear memory; made at the first use. */
let state: Tensor | null = null;
/** Where it will start: modules may be built, and reserve their numbers, before the engine runs. */
let start: Position = START;
/** Groups used so far by the step that is being captured; null outside of captures. */
let captured: number | null = null;

whenShutDown(() => {
  state = null;
  start = START;
  captured = null;
});

function wordsOf({ seed, counter }: Position): number[] {
  return [seed, counter].flatMap((value) => [value | 0, Math.floor(value / 2 ** 32) | 0]);
}

function position(): Position {
  if (!state) return start;
  const [seed, seedHigh, counter, counterHigh] = new Uint32Array(data(state).buffer) as unknown as [
    number,
    number,
    number,
    number,
  ];
  return { seed: seedHigh * 2 ** 32 + seed, counter: counterHigh * 2 ** 32 + counter };
}

function setPosition(wanted: Position): void {
  if (activeRecorder())
    throw new Error('random: the generator cannot be set or reserved from while a step is being captured');
  start = wanted;
  if (state) writeValues(state, wordsOf(wanted));
}

/** The generator's state in linear memory. */
function stateTensor(): Tensor {
  if (!state) {
    state = keep(allocateTensor([4], 'i32'));
    writeValues(state, wordsOf(start));
  }
  return state;
}

/** Groups that `count` numbers take. */
function groupsOf(count: number): number {
  return Math.ceil(count / kernels.GROUP);
}

/**
 * Starts the generator anew: the same seed gives the same weights, masks and samples, on every machine and any number of threads.
 * Source: torch.manual_seed.
 *
 * @throws RangeError unless the seed is a whole number from 0 to 2^53 - 1, Error while a step is being captured
 * @example
 * ```ts
 * import { init, manualSeed, randn } from 'feathermap';
 * await init();
 * manualSeed(7);
 * const a = randn([3]).data().join();
 * manualSeed(7);
 * if (randn([3]).data().join() !== a) throw new Error('differs');
 * ```
 */
export function manualSeed(seed: number): void {
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new RangeError(`manualSeed: seed must be a whole number from 0 to 2^53 - 1, got ${seed}`);
  setPosition({ seed, counter: 0 });
}

/** A stretch of the sequence that `reserveRandom` gave out, for `fillUniform` and `fillNormal`. */
export type Reservation = Position;

/** Takes the numbers for `count` elements out of the sequence, for a tensor that is filled later. */
export function reserveRandom(count: number): Reservation {
  const { seed, counter } = position();
  setPosition({ seed, counter: counter + groupsOf(count) });
  return { seed, counter };
}

/** Calls from here on belong to a step that is being captured. */
export function beginRandomCapture(): void {
  captured = 0;
}

/** Ends the step: one op call moves the counter on by all that it used. */
export function endRandomCapture(): void {
  const groups = captured ?? 0;
  captured = null;
  if (groups) apply(advanceOp, [stateTensor()], { groups });
}

/** Where a call draws from: its distance from the counter, and how far it moves the counter itself. */
interface Draw {
  readonly offset: number;
  readonly advance: number;
}

function draw(count: number): Draw {
  const groups = groupsOf(count);
  if (captured === null || !activeRecorder()) return { offset: 0, advance: groups };
  captured += groups;
  return { offset: captured - groups, advance: 0 };
}

const ONE_TILE: Grid = { tiles: 1, work: 10 };

function emitAdvance(emit: Emitter, generator: Tensor, groups: number): void {
  if (groups) emit.command(kernels.advance, { state: locationOf(generator), groups }, ONE_TILE);
}

const advanceOp: Op<{ readonly groups: number }, { readonly groups: number }> = {
  name: 'advanceRandom',
  infer: (_inputs, options) => ({ geometry: options, outputs: [] }),
  lower(emit, { groups }, [generator]) {
    emitAdvance(emit, generator!, groups);
  },
  backward: { notDifferentiable: 'it changes only the generator' },
  saves: {},
  mutates: [0],
};

/** Nanoseconds per random number. */
const COST = 2;

function randomGrid(count: number): Grid {
  return { ...elementGrid(count, COST), scratch: 4 * kernels.GROUP };
}

/** A distribution: kernel and its two parameters. */
interface Distribution {
  readonly kernel: Kernel<kernels.RandomArgs>;
  readonly p: number;
  readonly q: number;
}

function emitRandom(
  emit: Emitter,
  y: Tensor,
  generator: Location,
  { kernel, p, q }: Distribution,
  offset: number,
): void {
  emit.command(kernel, { y: locationOf(y), state: generator, offset, count: y.size, p, q }, randomGrid(y.size));
}

type RandomOptions = Distribution & Draw & { readonly shape: readonly number[] };

/** inputs: the generator's state. */
const randomOp: Op<RandomOptions, RandomOptions> = {
  name: 'random',
  infer: (_inputs, options) => ({ geometry: options, outputs: [{ shape: options.shape, dtype: 'f32' }] }),
  lower(emit, options, [generator], [y]) {
    emitRandom(emit, y!, locationOf(generator!), options, options.offset);
    emitAdvance(emit, generator!, options.advance);
  },
  backward: { notDifferentiable: 'random numbers depend on no tensor' },
  saves: {},
};

function random(distribution: Distribution, shape: readonly number[]): Tensor {
  return apply(randomOp, [stateTensor()], { ...distribution, ...draw(sizeOf(shape)), shape: [...shape] })[0]!;
}

function uniformOn(lo: number, hi: number): Distribution {
  return { kernel: kernels.uniform, p: lo, q: hi };
}

function normalWith(mean: number, std: number): Distribution {
  return { kernel: kernels.normal, p: mean, q: std };
}

function created(op: string, shape: readonly number[], options: CreateOptions, distribution: Distribution): Tensor {
  checkOptions(op, options, ['dtype', 'requiresGrad']);
  checkShape(op, shape);
  if (options.dtype !== undefined && options.dtype !== 'f32')
    throw new TypeError(`${op}: dtype must be f32, got ${options.dtype}`);
  const y = random(distribution, shape);
  if (options.requiresGrad !== undefined) y.requiresGrad = options.requiresGrad;
  return y;
}

/**
 * Uniform random numbers in [0, 1). Source: torch.rand.
 *
 * @throws RangeError for a bad shape, TypeError for a dtype other than f32
 * @example
 * ```ts
 * import { init, rand } from 'feathermap';
 * await init();
 * if (!rand([100]).data().every((v) => v >= 0 && v < 1)) throw new Error('wrong');
 * ```
 */
export function rand(shape: readonly number[], options: CreateOptions = {}): Tensor {
  return created('rand', shape, options, uniformOn(0, 1));
}

/**
 * Normal random numbers with mean 0 and standard deviation 1, by the method of Box and Muller. Source: torch.randn.
 *
 * @throws RangeError for a bad shape, TypeError for a dtype other than f32
 * @example
 * ```ts
 * import { init, randn } from 'feathermap';
 * await init();
 * if (randn([2, 3]).shape.join() !== '2,3') throw new Error('wrong');
 * ```
 */
export function randn(shape: readonly number[], options: CreateOptions = {}): Tensor {
  return created('randn', shape, options, normalWith(0, 1));
}

/** Distribution and draw, or a reserved position. */
type FillOptions = Distribution & (Draw | Position);

/** inputs: the dense tensor that is filled in the order of memory, and the generator's state unless the position is fixed. */
const fillRandomOp: Op<FillOptions, FillOptions> = {
  name: 'random_',
  infer: (_inputs, options) => ({ geometry: options, outputs: [] }),
  lower(emit, options, [x, generator]) {
    if ('seed' in options) return emitRandom(emit, x!, emit.table(wordsOf(options)), options, 0);
    emitRandom(emit, x!, locationOf(generator!), options, options.offset);
    emitAdvance(emit, generator!, options.advance);
  },
  backward: { notDifferentiable: 'random_ writes into memory that is there' },
  saves: {},
  mutates: [0],
};

function fillRandom(op: string, x: Tensor, distribution: Distribution): Tensor {
  if (x.dtype !== 'f32') throw new TypeError(`${op}: expected an f32 tensor, got ${x.dtype}`);
  if (!isDense(x.shape, x.strides)) return copy_(x, random(distribution, x.shape));
  apply(fillRandomOp, [x, stateTensor()], { ...distribution, ...draw(x.size) });
  return x;
}

/** Fills a dense tensor from a reservation, in the order of its memory. */
export function fillUniform(x: Tensor, lo: number, hi: number, reservation: Reservation): void {
  apply(fillRandomOp, [x, null], { ...uniformOn(lo, hi), ...reservation });
}

/** Fills a dense tensor from a reservation, in the order of its memory. */
export function fillNormal(x: Tensor, mean: number, std: number, reservation: Reservation): void {
  apply(fillRandomOp, [x, null], { ...normalWith(mean, std), ...reservation });
}

function checkFinite(op: string, values: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(values))
    if (!Number.isFinite(value)) throw new RangeError(`${op}: ${name} must be a finite number, got ${value}`);
}

/**
 * Fills the tensor with uniform random numbers in [lo, hi) and returns it. Source: torch.Tensor.uniform_.
 *
 * @throws RangeError if a bound is not finite or lo > hi, TypeError unless x is f32
 * @example
 * ```ts
 * import { init, zeros } from 'feathermap';
 * await init();
 * if (!zeros([9]).uniform_(2, 3).data().every((v) => v >= 2 && v < 3)) throw new Error('wrong');
 * ```
 */
export function uniform_(x: Tensor, lo = 0, hi = 1): Tensor {
  checkFinite('uniform_', { lo, hi });
  if (lo > hi) throw new RangeError(`uniform_: lo ${lo} is larger than hi ${hi}`);
  return fillRandom('uniform_', x, uniformOn(lo, hi));
}

/**
 * Fills the tensor with normal random numbers and returns it. Source: torch.Tensor.normal_.
 *
 * @throws RangeError if the mean is not finite or `std` is negative, TypeError unless x is f32
 * @example
 * ```ts
 * import { init, zeros } from 'feathermap';
 * await init();
 * if (zeros([4]).normal_(5, 0).data().join() !== '5,5,5,5') throw new Error('wrong');
 * ```
 */
export function normal_(x: Tensor, mean = 0, std = 1): Tensor {
  checkFinite('normal_', { mean, std });
  if (std < 0) throw new RangeError(`normal_: std must not be negative, got ${std}`);
  return fillRandom('normal_', x, normalWith(mean, std));
}

/**
 * 1 with the probability that stands in `p`, else 0, element by element, as f32. Source: torch.bernoulli.
 *
 * @throws TypeError unless p is f32
 * @example
 * ```ts
 * import { bernoulli, init, tensor } from 'feathermap';
 * await init();
 * if (bernoulli(tensor([0, 1])).data().join() !== '0,1') throw new Error('wrong');
 * ```
 */
export function bernoulli(p: Tensor): Tensor {
  if (p.dtype !== 'f32') throw new TypeError(`bernoulli: expected an f32 tensor of probabilities, got ${p.dtype}`);
  return to(lt(random(uniformOn(0, 1), p.shape), p), 'f32');
}

function checkProbability(op: string, p: number): void {
  if (!(p >= 0 && p <= 1)) throw new RangeError(`${op}: p must be a probability from 0 to 1, got ${p}`);
}

/** A probability in units of 2^-24, as the kernels compare it with random words. */
function thresholdOf(p: number): number {
  return Math.round(p * 2 ** 24);
}

/**
 * Fills the tensor with 1 with probability `p`, else 0, and returns it. Source: torch.Tensor.bernoulli_.
 *
 * @throws RangeError unless 0 <= p <= 1, TypeError unless x is f32
 * @example
 * ```ts
 * import { init, zeros } from 'feathermap';
 * await init();
 * if (zeros([3]).bernoulli_(1).data().join() !== '1,1,1') throw new Error('wrong');
 * ```
 */
export function bernoulli_(x: Tensor, p = 0.5): Tensor {
  checkProbability('bernoulli_', p);
  if (x.dtype !== 'f32') throw new TypeError(`bernoulli_: expected an f32 tensor, got ${x.dtype}`);
  return copy_(x, lt(random(uniformOn(0, 1), x.shape), thresholdOf(p) / 2 ** 24));
}

/** The counter as one call sees it, so that its mask can be made again: the backward pass needs no mask in memory. */
const saveCounterOp: Op<Draw, Draw> = {
  name: 'saveCounter',
  infer: (_inputs, options) => ({ geometry: options, outputs: [{ shape: [4], dtype: 'i32' }] }),
  lower(emit, { offset, advance }, [generator], [y]) {
    emit.command(kernels.saveCounter, { y: locationOf(y!), state: locationOf(generator!), offset }, ONE_TILE);
    emitAdvance(emit, generator!, advance);
  },
  backward: { notDifferentiable: 'a counter is a whole number' },
  saves: {},
};

interface MaskOptions {
  readonly p: number;
}

interface MaskGeometry extends MaskOptions {
  readonly strides: readonly number[];
}

/** inputs: x, counter. y = x mask / (1 - p), where the mask follows from the counter; linear in x, so it is its own gradient. */
const dropoutOp: Op<MaskOptions, MaskGeometry> = {
  name: 'dropout',
  infer([x], { p }) {
    if (x!.dtype !== 'f32') throw new TypeError(`dropout: expected an f32 tensor, got ${x!.dtype}`);
    const { shape, strides } = x!;
    return { geometry: { p, strides }, outputs: [{ shape, dtype: 'f32', strides }] };
  },
  lower(emit, { p }, [x, counter], [y]) {
    const places = { y: locationOf(y!), x: locationOf(x!), state: locationOf(counter!) };
    const scale = p === 1 ? 0 : 1 / (1 - p);
    emit.command(
      kernels.dropout,
      { ...places, offset: 0, count: x!.size, threshold: thresholdOf(p), scale },
      randomGrid(x!.size),
    );
  },
  backward: ({ geometry: { p, strides }, inputs: [, counter], gradients: [dy] }) => [
    apply(dropoutOp, [relayout(dy!, strides), counter!], { p })[0]!,
    null,
  ],
  saves: { inputs: [1] },
};

/** Options of `dropout`. */
export interface DropoutOptions {
  /** Probability of an element to become 0; default 0.5. */
  p?: number | undefined;
  /** false: the identity. Default true. */
  training?: boolean | undefined;
}

/**
 * Sets each element to 0 with probability `p` and divides the others by 1 - p, so that the mean stays.
 * Source: torch.nn.functional.dropout; Srivastava et al., "Dropout" (JMLR 2014).
 *
 * @throws RangeError unless 0 <= p <= 1, TypeError unless x is f32 or for an unknown option
 * @example
 * ```ts
 * import { init, ones } from 'feathermap';
 * import { dropout } from 'feathermap/functional';
 * await init();
 * const y = dropout(ones([1000]), { p: 0.5 });
 * if (!y.data().every((v) => v === 0 || v === 2)) throw new Error('wrong');
 * ```
 */
export function dropout(x: Tensor, options: DropoutOptions = {}): Tensor {
  checkOptions('dropout', options, ['p', 'training']);
  const { p = 0.5, training = true } = options;
  checkProbability('dropout', p);
  if (!training || p === 0) return x;
  const [counter] = apply(saveCounterOp, [stateTensor()], draw(x.size));
  return apply(dropoutOp, [dense(x), counter!], { p })[0]!;
}
