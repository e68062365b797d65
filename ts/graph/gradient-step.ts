// Forward, backward and update of a loss function as programs, one list of op calls per kind of input.
import { backward } from '../autograd/backward.ts';
import { gradientOf, setHasGradient } from '../autograd/gradient.ts';
import { noGrad } from '../autograd/mode.ts';
import { contiguous } from '../ops/copy.ts';
import { MemoryLimitError } from '../runtime/errors.ts';
import type { Storage } from '../runtime/storage.ts';
import { checkReadable } from '../tensor/apply.ts';
import type { OpCall } from '../tensor/op.ts';
import { isDense } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { type Captured, capture, type InputSpec, inputSpec, sameSpec } from './capture.ts';
import { fitIntoMemory } from './memory-limit.ts';
import { isAccumulation, writeGradientsInPlace } from './passes/direct-gradients.ts';
import { dropUnused } from './passes/drop-unused.ts';
import { fuseNorms } from './passes/fuse-norms.ts';
import { type Plan, planOf, type Timing } from './plan.ts';
import { type Profile, profileOf } from './profile.ts';
import { Program } from './program.ts';

/** What a captured step needs of an optimiser. */
export interface StepOptimizer {
  readonly parameters: readonly Tensor[];
  /** Makes the state of all parameters that have a gradient. */
  prepare(): void;
  step(): void;
  zeroGrad(): void;
}

/** What the function of a step returns: the loss, or the loss first and further tensors to look at. */
export type StepResult = Tensor | readonly [Tensor, ...Tensor[]];

/**
 * What a program does with gradients: 'add' to those that are there, 'start' them where there are none, or start those of the
 * optimiser's parameters and 'update' these.
 */
type Kind = 'add' | 'start' | 'update';

/** Options of `GradientStep`. */
export interface GradientStepOptions {
  /** For `runAndUpdate`. */
  readonly optimizer?: StepOptimizer | undefined;
  /** Runs between backward and update, captured with the update. */
  readonly beforeUpdate?: (() => unknown) | undefined;
  /** The gradient of the loss, 1 if absent: a loss scale that lives in linear memory. */
  readonly seed?: Tensor | undefined;
  /** Most bytes that a program may take. */
  readonly memoryLimit?: number | undefined;
}

/** One kind of input: what was captured, and its programs. */
interface Entry {
  readonly specs: readonly InputSpec[];
  readonly captured: Captured<readonly Tensor[]>;
  /** Leaves that get a gradient. */
  readonly reached: readonly Tensor[];
  readonly programs: Map<Kind, Program>;
}

/** Forward and backward of a loss function, captured per kind of input, with the update where one follows at once. Shared by captureStep and fit. */
export class GradientStep {
  readonly #lossFunction: (...inputs: Tensor[]) => StepResult;
  readonly #optimizer: StepOptimizer | undefined;
  readonly #beforeUpdate: (() => unknown) | undefined;
  readonly #seed: Tensor | undefined;
  readonly #memoryLimit: number | undefined;
  #entries: Entry[] = [];

  constructor(
    lossFunction: (...inputs: Tensor[]) => StepResult,
    { optimizer, beforeUpdate, seed, memoryLimit }: GradientStepOptions,
  ) {
    this.#lossFunction = lossFunction;
    this.#optimizer = optimizer;
    this.#beforeUpdate = beforeUpdate;
    this.#seed = seed;
    this.#memoryLimit = memoryLimit;
  }

  /** Makes the program that `run`, or with an optimiser `runAndUpdate`, would use for such inputs, without running it. */
  prepare(inputs: readonly Tensor[]): Program {
    const entry = this.#entry(checked(inputs).map(inputSpec));
    return this.#program(entry, this.#optimizer ? 'update' : kindOf(entry));
  }

  /** Bytes that the same would take with inputs of these kinds; nothing stays of it. */
  peakBytes(specs: readonly InputSpec[]): number {
    const entry = this.#capture(specs);
    const program = this.#build(entry, this.#optimizer ? 'update' : kindOf(entry), []);
    const { peakBytes } = planOf([program]);
    program.dispose();
    return peakBytes;
  }

  /** Runs it some times and says where the time goes. */
  profile(inputs: readonly Tensor[], runs: number): Profile {
    const program = this.prepare(inputs);
    const describe = (timing: Timing): Plan => planOf([program], { timing });
    return profileOf(program, checked(inputs), runs, describe, () => this.#optimizer?.zeroGrad());
  }

  /** Computes loss and gradients; returns what the function returned. */
  run(inputs: readonly Tensor[]): Tensor[] {
    const dense = checked(inputs);
    const entry = this.#entry(dense.map(inputSpec));
    return this.#program(entry, kindOf(entry)).run(dense);
  }

  /** The same, then the update, in one program. The optimiser's gradients have been zeroed. */
  runAndUpdate(inputs: readonly Tensor[]): Tensor[] {
    const dense = checked(inputs);
    return this.#program(this.#entry(dense.map(inputSpec)), 'update').run(dense);
  }

  /** Loss and gradients without capture. */
  runEagerly(inputs: readonly Tensor[]): Tensor[] {
    const results = resultsOf(this.#lossFunction(...inputs));
    backward(results[0]!, { gradient: this.#seed });
    return results.map((result) => result.detach());
  }

  /** The programs so far. */
  get programs(): readonly Program[] {
    return this.#entries.flatMap(({ programs }) => [...programs.values()]);
  }

  /** Storages from outside that results lie in. */
  get handedBack(): readonly Storage[] {
    return this.programs.flatMap(({ handedBack }) => [...handedBack]);
  }

  dispose(): void {
    for (const program of this.programs) program.dispose();
    this.#entries = [];
  }

  #entry(specs: readonly InputSpec[]): Entry {
    let entry = this.#entries.find((each) => matches(each, specs));
    if (entry) return entry;
    this.#dropReplaced();
    this.#entries.push((entry = this.#capture(specs)));
    return entry;
  }

  /** Forgets what was captured with layers or parameters that have been replaced: its programs would pin them. */
  #dropReplaced(): void {
    const gone = this.#entries.filter(({ captured }) => !captured.hasSameParts());
    for (const { programs } of gone) for (const program of programs.values()) program.dispose();
    this.#entries = this.#entries.filter((entry) => !gone.includes(entry));
  }

  #capture(specs: readonly InputSpec[]): Entry {
    const captured = capture(specs, (...standIns) => {
      const results = resultsOf(this.#lossFunction(...standIns));
      backward(results[0]!, { gradient: this.#seed });
      return results;
    });
    const buffers = new Set(captured.calls.filter(isAccumulation).map(({ inputs: [buffer] }) => buffer!.storage));
    const reached = captured.leaves.filter(({ gradient }) => gradient && buffers.has(gradient.storage));
    return { specs, captured, reached, programs: new Map<Kind, Program>() };
  }

  #program(entry: Entry, kind: Kind): Program {
    let program = entry.programs.get(kind);
    if (!program) entry.programs.set(kind, (program = this.#fit(entry, kind)));
    return program;
  }

  /** Beside the other programs if the limit allows; else they go, and are made again when they are needed. */
  #fit(entry: Entry, kind: Kind): Program {
    const others = this.programs;
    try {
      return this.#build(entry, kind, others);
    } catch (error) {
      if (!(error instanceof MemoryLimitError) || !others.length) throw error;
      for (const program of others) program.dispose();
      for (const { programs } of this.#entries) programs.clear();
      return this.#build(entry, kind, []);
    }
  }

  #build({ captured, reached }: Entry, kind: Kind, others: readonly Program[]): Program {
    const { inputs, result: results } = captured;
    const started = kind === 'start' ? reached : kind === 'update' ? this.#optimizer!.parameters : [];
    const ends = [...inputs, ...results];
    const fused = fuseNorms(dropUnused(captured.calls, results), ends);
    const calls = writeGradientsInPlace(fused, buffersOf(started), ends);
    const update = kind === 'update' ? captureUpdate(this.#optimizer!, reached, this.#beforeUpdate) : [];
    const build = (list: readonly OpCall[]): Program =>
      new Program([...list, ...update], inputs, results, { deferred: true });
    return fitIntoMemory({ calls, inputs, results, others }, this.#memoryLimit ?? Number.POSITIVE_INFINITY, build);
  }
}

/** Whether gradients are there. */
function kindOf({ reached }: Entry): Kind {
  return reached.every((leaf) => gradientOf(leaf) === null) ? 'start' : 'add';
}

function buffersOf(leaves: readonly Tensor[]): Set<Storage> {
  return new Set(leaves.flatMap(({ gradient }) => (gradient ? [gradient.storage] : [])));
}

/** The op calls of an update when just these leaves have a gradient. */
function captureUpdate(
  optimizer: StepOptimizer,
  reached: readonly Tensor[],
  beforeUpdate: () => unknown = () => {},
): readonly OpCall[] {
  const leaves = new Set([...optimizer.parameters, ...reached]);
  const before = new Map([...leaves].map((leaf) => [leaf, gradientOf(leaf) !== null]));
  for (const leaf of leaves) setHasGradient(leaf, reached.includes(leaf));
  try {
    optimizer.prepare();
    return updateCalls(optimizer, beforeUpdate);
  } finally {
    for (const [leaf, had] of before) setHasGradient(leaf, had);
  }
}

function updateCalls(optimizer: StepOptimizer, beforeUpdate: () => unknown): readonly OpCall[] {
  const { calls } = capture([], () => {
    noGrad(beforeUpdate);
    optimizer.step();
  });
  return calls;
}

/** The inputs as a program takes them: data, since no gradient flows out of a program into what lies before it. */
function checked(inputs: readonly Tensor[]): Tensor[] {
  return inputs.map((input, index) => {
    checkReadable('captureStep', input);
    if (input.requiresGrad)
      throw new Error(
        `captureStep: input ${index}, ${input}, needs a gradient, which a captured step does not give to its inputs; detach() it, or let the function read it from outside`,
      );
    return isDense(input.shape, input.strides) ? input : contiguous(input);
  });
}

function resultsOf(result: StepResult): readonly Tensor[] {
  const results = Array.isArray(result) ? (result as readonly Tensor[]) : [result as Tensor];
  if (!results.length || !results.every((each) => each instanceof Tensor))
    throw new TypeError(`the loss function must return a Tensor, or the loss first in an array of them, got ${result}`);
  return results;
}

function matches({ specs, captured }: Entry, wanted: readonly InputSpec[]): boolean {
  return specs.length === wanted.length && specs.every((spec, i) => sameSpec(spec, wanted[i]!)) && captured.isCurrent();
}

/** The update of an optimiser, captured once per set of parameters that have gradients. */
export class UpdateStep {
  readonly #optimizer: StepOptimizer;
  readonly #beforeUpdate: () => unknown;
  #programs = new Map<string, Program>();

  constructor(optimizer: StepOptimizer, beforeUpdate: () => unknown = () => {}) {
    this.#optimizer = optimizer;
    this.#beforeUpdate = beforeUpdate;
  }

  run(): void {
    const { parameters } = this.#optimizer;
    const key = parameters.map((parameter) => (gradientOf(parameter) ? 1 : 0)).join('');
    let program = this.#programs.get(key);
    if (!program) {
      this.#optimizer.prepare();
      program = new Program(updateCalls(this.#optimizer, this.#beforeUpdate), [], []);
      this.#programs.set(key, program);
    }
    program.run([]);
  }

  /** The programs so far, one per set of parameters. */
  get programs(): readonly Program[] {
    return [...this.#programs.values()];
  }

  dispose(): void {
    for (const program of this.#programs.values()) program.dispose();
    this.#programs.clear();
  }
}
