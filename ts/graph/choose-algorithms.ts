// Chooses the algorithm of every convolution of a compiled model: the one that is asked for, else the fastest of those that apply,
// measured on the real shape, else (without a clock, or when results must not depend on it) the one that a table names for the geometry.
// Winograd's is compared with the direct one on the layer's own weights, and not used where it is too far off.

import { conv2dOp } from '../ops/conv2d.ts';
import { forwardAlgorithm, forwardApplies, forwardCandidates } from '../ops/conv2d-algorithm.ts';
import type { Conv2dAlgorithm, Conv2dGeometry } from '../ops/conv2d-geometry.ts';
import type { WindowAxis } from '../ops/window.ts';
import { engine, whenShutDown } from '../runtime/engine.ts';
import { Storage } from '../runtime/storage.ts';
import type { OpCall } from '../tensor/op.ts';
import { printed } from '../tensor/printed.ts';
import { channelsLastStrides, sizeOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { Flow } from './passes/flow.ts';
import { RESIDUAL } from './passes/operands.ts';
import { type Chain, Trial } from './trial.ts';

/** Algorithms by layer, as a plan says them: `layer1.0.conv1`; the second convolution of one layer has `#2` behind its name. */
export type Algorithms = Readonly<Record<string, Conv2dAlgorithm>>;

/** What the choice depends on. */
export interface AlgorithmOptions {
  /** Algorithms chosen before, `plan.algorithms`. */
  readonly algorithms: Algorithms;
  /** Whether Winograd's may be used. */
  readonly winograd: boolean;
  /** Whether time may be measured. */
  readonly measure: boolean;
}

/** The calls with their algorithms, and what was chosen for each convolution. */
export interface Chosen {
  readonly calls: readonly OpCall[];
  readonly algorithms: Algorithms;
  /** By call: why the algorithm that was asked for or measured fastest was not taken. */
  readonly notes: ReadonlyMap<OpCall, string>;
  /** To be called once the program is there: until then packed weights of the trials are kept for it. */
  done(): void;
}

/** Largest difference from the direct algorithm that is accepted, in units of the largest output. */
const TOLERANCE = 5e-5;

const ALGORITHMS: readonly Conv2dAlgorithm[] = ['direct', 'depthwise', 'winograd4', 'winograd2'];

/** Convolutions with fewer multiply-adds are over before the clock has moved much: the table chooses for them. */
const LEAST_MACS = 2e6;

/** Chooses for every convolution of the list. */
export function chooseAlgorithms(calls: readonly OpCall[], options: AlgorithmOptions): Chosen {
  const chooser = new Chooser(calls, options);
  try {
    const chosen = calls.map((call) => (call.op.name === 'conv2d' ? chooser.choose(call) : call));
    chooser.checkNames();
    return { calls: chosen, algorithms: chooser.algorithms, notes: chooser.notes, done: () => chooser.dispose() };
  } catch (error) {
    chooser.dispose();
    throw error;
  }
}

/** The fastest algorithm of each geometry that was measured. */
let fastest = new Map<string, Conv2dAlgorithm>();

whenShutDown(() => {
  fastest = new Map();
});

class Chooser {
  readonly algorithms: Record<string, Conv2dAlgorithm> = {};
  readonly notes = new Map<OpCall, string>();
  readonly #flow: Flow;
  readonly #options: AlgorithmOptions;
  readonly #measure: boolean;
  readonly #kept: Trial[] = [];
  readonly #names = new Map<string, number>();

  constructor(calls: readonly OpCall[], options: AlgorithmOptions) {
    this.#flow = new Flow(calls, []);
    this.#options = options;
    this.#measure = options.measure && clockMoves();
  }

  /** The convolution with its algorithm. */
  choose(call: OpCall): OpCall {
    const name = this.#name(call);
    const geometry = call.geometry as Conv2dGeometry;
    const candidates = this.#candidates(name, geometry);
    const asked = candidates.length > 1 ? this.#preferred(call, candidates) : candidates[0]!;
    const { algorithm, note } = this.#verified(call, asked);
    this.algorithms[name] = algorithm;
    const chosen = withAlgorithm(call, algorithm);
    if (note) this.notes.set(chosen, note);
    return chosen;
  }

  /** Throws if algorithms were given for layers that are not there. */
  checkNames(): void {
    for (const name of Object.keys(this.#options.algorithms))
      if (!(name in this.algorithms))
        throw new RangeError(
          `compile: algorithms names '${name}', which is no convolution of this model; there are ${Object.keys(this.algorithms).join(', ')}`,
        );
  }

  dispose(): void {
    for (const trial of this.#kept) trial.dispose();
    this.#kept.length = 0;
  }

  #name({ module, op }: OpCall): string {
    const base = module || op.name;
    const count = (this.#names.get(base) ?? 0) + 1;
    this.#names.set(base, count);
    return count > 1 ? `${base}#${count}` : base;
  }

  /** What may be taken, best guess first. */
  #candidates(name: string, geometry: Conv2dGeometry): readonly Conv2dAlgorithm[] {
    const { algorithms, winograd } = this.#options;
    const asked = Object.hasOwn(algorithms, name) ? algorithms[name] : undefined;
    if (asked !== undefined) {
      if (!ALGORITHMS.includes(asked) || !forwardApplies(geometry, asked))
        throw new RangeError(`compile: algorithm ${printed(asked)} does not apply to ${name}`);
      return [asked];
    }
    const possible = forwardCandidates(geometry).filter((each) => winograd || !isWinograd(each));
    return possible.length ? possible : ['direct'];
  }

  #preferred(call: OpCall, candidates: readonly Conv2dAlgorithm[]): Conv2dAlgorithm {
    const geometry = call.geometry as Conv2dGeometry;
    const fromTable = forwardAlgorithm(geometry, false);
    if (!this.#measure || geometry.macs < LEAST_MACS || !this.#variesAlone(call))
      return candidates.includes(fromTable) ? fromTable : 'direct';
    const { algorithm: _, lo: _lo, hi: _hi, ...sizes } = geometry;
    const key = JSON.stringify([sizes, call.inputs[0]!.strides, call.inputs[RESIDUAL] !== null]);
    const known = fastest.get(key);
    if (known && candidates.includes(known)) return known;
    const best = this.#fastest(call, candidates);
    if (this.#options.winograd) fastest.set(key, best);
    return best;
  }

  /** Whether a trial can stand for the call: image and residual come from the program, the rest from parameters. */
  #variesAlone(call: OpCall): boolean {
    const [x] = call.inputs;
    return x!.storage.state === 'planned' && call.inputs[1]!.storage.state !== 'planned';
  }

  /** Times the candidates in turn, so that a slow spell of the machine meets all of them. One must clearly beat those before it. */
  #fastest(call: OpCall, candidates: readonly Conv2dAlgorithm[]): Conv2dAlgorithm {
    const contest = candidates.map((algorithm) => ({
      algorithm,
      trial: new Trial(this.#chain(withAlgorithm(call, algorithm)), varying(call)),
      time: Number.POSITIVE_INFINITY,
    }));
    for (let round = 0; round < ROUNDS; round++) {
      const least = Math.min(...contest.map(({ time }) => time));
      for (const each of contest)
        if (round < 1 || each.time < HOPELESS * least) each.time = Math.min(each.time, each.trial.time());
    }
    const best = contest.reduce((leader, each) => (each.time < CLEARLY * leader.time ? each : leader));
    for (const { trial } of contest) if (trial !== best.trial) trial.dispose();
    this.#kept.push(best.trial);
    return best.algorithm;
  }

  /** The algorithm itself, or, if it is too far off on these weights, the next one that is not. */
  #verified(call: OpCall, algorithm: Conv2dAlgorithm): { algorithm: Conv2dAlgorithm; note?: string } {
    if (!isWinograd(algorithm) || !this.#variesAlone(call)) return { algorithm };
    const sample = sampleOf(call);
    const trial = (each: Conv2dAlgorithm): Float32Array => {
      const run = new Trial(this.#chain(withAlgorithm(sample, each)), varying(sample));
      // Packed weights of the algorithm that was chosen stay for the program.
      if (each === algorithm) this.#kept.push(run);
      const result = run.result();
      if (each !== algorithm) run.dispose();
      return result;
    };
    const expected = trial('direct');
    const fallbacks = algorithm === 'winograd4' ? (['winograd2'] as const) : [];
    const notes: string[] = [];
    for (const each of [algorithm, ...fallbacks]) {
      const error = difference(trial(each), expected);
      if (error <= TOLERANCE) return { algorithm: each, note: notes.join() };
      notes.push(`${each} is off by ${error.toExponential(1)} of the largest output on these weights`);
    }
    return { algorithm: 'direct', note: notes.join() };
  }

  /** The calls that a call's operands other than image and residual come from, and the call. */
  #chain(call: OpCall): Chain {
    const chain: OpCall[] = [];
    const add = (tensor: Tensor): void => {
      const maker = this.#flow.maker(tensor);
      if (!maker || chain.includes(maker)) return;
      for (const input of maker.inputs) if (input) add(input);
      chain.push(maker);
    };
    call.inputs.forEach((input, i) => {
      if (input && i !== 0 && i !== RESIDUAL) add(input);
    });
    return [...chain, call];
  }
}

function isWinograd(algorithm: Conv2dAlgorithm): boolean {
  return algorithm === 'winograd4' || algorithm === 'winograd2';
}

function withAlgorithm(call: OpCall, algorithm: Conv2dAlgorithm): OpCall {
  return { ...call, geometry: { ...(call.geometry as Conv2dGeometry), algorithm } };
}

/** Operands that change from run to run. */
function varying({ inputs }: OpCall): Tensor[] {
  const [x] = inputs;
  const residual = inputs[RESIDUAL];
  return residual && residual.storage !== x!.storage ? [x!, residual] : [x!];
}

const ROUNDS = 4;
/** A first run, which also warms up, so much slower than that of another algorithm ends the contest for it. */
const HOPELESS = 1.6;
/** Share of the time of a likelier algorithm that another one must stay below to be taken. */
const CLEARLY = 0.95;

/** Multiply-adds of a sample on which exactness is checked, about. */
const SAMPLE_MACS = 5e6;

/** The same convolution of one small image, without residual and bounds. */
function sampleOf(call: OpCall): OpCall {
  const { rows, columns, x, weight } = call.geometry as Conv2dGeometry;
  const side = Math.max(4, Math.floor(Math.sqrt(SAMPLE_MACS / sizeOf(weight))));
  const reach = side + rows.kernel - 1;
  const shape = [1, x[1], Math.min(x[2], reach), Math.min(x[3], reach)];
  const image = new Tensor({
    storage: new Storage(4 * sizeOf(shape)),
    shape,
    dtype: 'f32',
    strides: channelsLastStrides(shape),
  });
  const [, w, bias, , scale] = call.inputs;
  const inputs = [image, w!, bias ?? null, null, scale ?? null];
  // Without the dilation, which changes no sum.
  const sides = ({ kernel, before, after }: WindowAxis) => [Math.min(before, kernel), Math.min(after, kernel)] as const;
  const padding = [sides(rows), sides(columns)] as const;
  const { geometry, outputs } = conv2dOp.infer(inputs, { padding });
  const [{ shape: yShape, strides }] = outputs as [(typeof outputs)[0]];
  const y = new Tensor({ storage: new Storage(4 * sizeOf(yShape)), shape: yShape, dtype: 'f32', strides });
  return { ...call, geometry, inputs, outputs: [y] };
}

/** The largest difference, in units of the largest expected element. */
function difference(actual: Float32Array, expected: Float32Array): number {
  let [most, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    most = Math.max(most, Math.abs(actual[i]! - expected[i]!));
    largest = Math.max(largest, Math.abs(expected[i]!));
  }
  return most === 0 ? 0 : most / largest;
}

/** Steps of the clock that are fine enough, in milliseconds, and looks at it before it counts as standing still. */
const FINE = 0.2;
const LOOKS = 100_000;

/** Whether the clock moves while code runs (in some edge workers it does not), in fine steps, and may be used. */
function clockMoves(): boolean {
  if (engine().deterministic) return false;
  const start = performance.now();
  for (let i = 0; i < LOOKS; i++) {
    const step = performance.now() - start;
    if (step > 0) return step <= FINE;
  }
  return false;
}
