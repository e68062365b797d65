// captureStep: a hand-written training step (forward, backward, optimiser) is captured at its first call and replayed after.
import { backward } from '../autograd/backward.ts';
import { gradientOf } from '../autograd/gradient.ts';
import { contiguous } from '../ops/copy.ts';
import { checkReadable } from '../tensor/apply.ts';
import { checkOptions } from '../tensor/create.ts';
import { release } from '../tensor/lifetime.ts';
import { isDense } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { type Captured, capture, type InputSpec, inputSpec, sameSpec } from './capture.ts';
import { type Plan, Program, planOf } from './program.ts';

/** What a captured step needs of an optimiser. */
export interface StepOptimizer {
  readonly parameters: readonly Tensor[];
  /** Makes the state of all parameters that have a gradient. */
  prepare(): void;
  step(): void;
  zeroGrad(): void;
}

/** Options of `captureStep`. */
export interface CaptureStepOptions {
  /** Updates the parameters after each backward; without one only gradients are computed, and they add up until they are zeroed. */
  optimizer?: StepOptimizer | undefined;
}

/** What the function of a step returns: the loss, or the loss first and further tensors to look at. */
export type StepResult = Tensor | readonly [Tensor, ...Tensor[]];

/** One program for one kind of input. */
interface Entry {
  readonly specs: readonly InputSpec[];
  readonly captured: Captured<readonly Tensor[]>;
  readonly program: Program;
}

/** Forward and backward of a loss function, captured per kind of input. Shared by captureStep and fit. */
export class GradientStep {
  readonly #lossFunction: (...inputs: Tensor[]) => StepResult;
  readonly #seed: Tensor | undefined;
  #entries: Entry[] = [];

  /** `seed` is the gradient of the loss, 1 if absent: a loss scale that lives in linear memory. */
  constructor(lossFunction: (...inputs: Tensor[]) => StepResult, seed?: Tensor) {
    this.#lossFunction = lossFunction;
    this.#seed = seed;
  }

  /** Computes loss and gradients; returns what the function returned. */
  run(inputs: readonly Tensor[]): Tensor[] {
    inputs.forEach(checkInput);
    const dense = inputs.map((x) => (isDense(x.shape, x.strides) ? x : contiguous(x)));
    return this.#entry(dense).program.run(dense);
  }

  /** The same without capture. */
  runEagerly(inputs: readonly Tensor[]): Tensor[] {
    const results = resultsOf(this.#lossFunction(...inputs));
    backward(results[0]!, { gradient: this.#seed });
    return results.map((result) => result.detach());
  }

  /** The programs so far, one per kind of input. */
  get programs(): readonly Program[] {
    return this.#entries.map(({ program }) => program);
  }

  dispose(): void {
    for (const { program } of this.#entries) program.dispose();
    this.#entries = [];
  }

  #entry(inputs: readonly Tensor[]): Entry {
    const specs = inputs.map(inputSpec);
    const found = this.#entries.find((entry) => matches(entry, specs));
    if (found) return found;
    const captured = capture(specs, (...standIns) => {
      const results = resultsOf(this.#lossFunction(...standIns));
      backward(results[0]!, { gradient: this.#seed });
      return results;
    });
    const program = new Program(captured.calls, captured.inputs, captured.result);
    const entry = { specs, captured, program };
    this.#entries.push(entry);
    return entry;
  }
}

/** An input of a step is data: no gradient flows out of a program into what lies before it. */
function checkInput(input: unknown, index: number): void {
  checkReadable('captureStep', input);
  if (input.requiresGrad)
    throw new Error(
      `captureStep: input ${index}, ${input}, needs a gradient, which a captured step does not give to its inputs; detach() it, or let the function read it from outside`,
    );
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
  #programs = new Map<string, Program>();

  constructor(optimizer: StepOptimizer) {
    this.#optimizer = optimizer;
  }

  run(): void {
    const { parameters } = this.#optimizer;
    const key = parameters.map((parameter) => (gradientOf(parameter) ? 1 : 0)).join('');
    let program = this.#programs.get(key);
    if (!program) {
      this.#optimizer.prepare();
      const { calls } = capture([], () => this.#optimizer.step());
      program = new Program(calls, [], []);
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

/** A captured training step: call it with a batch, get the loss (or what the function returned). */
export interface CapturedStep<Result extends StepResult> {
  (...inputs: Tensor[]): Result;
  /** What all its programs take and do: forward and backward per kind of input, and the update. Null before the first call. */
  readonly plan: Plan | null;
  /** Gives its programs' memory back. */
  dispose(): void;
}

const NEXT_CALL =
  'released when the next call of the captured step that returned it ended; keep(tensor) makes it stay, item() or data() takes its value out';

/**
 * Captures a training step. The first call with inputs of a new kind (shape, dtype, training or evaluation, which parameters
 * are trainable) writes down forward and backward of `lossFunction` and the update of `optimizer`; every call replays them
 * with one call into wasm each. Results equal the eager ones bit for bit. What a call returns stays readable until the next
 * call ends. Numbers that the function takes from JavaScript (`x.mul(k)`, `tensor([...])`) are written down as they are at the
 * capture; what changes from step to step must be a tensor or a hyper-parameter of the optimiser.
 *
 * @param lossFunction returns the loss, or `[loss, ...more]`; must not read values (`item`, `data`)
 * @returns a function that takes a batch, trains on it once and returns the loss
 * @throws what the function throws at capture; Error from `item()` or `data()` inside it, naming the layer
 * @example
 * ```ts
 * import { captureStep, init, nn, optim, randn } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * await init();
 * const net = new nn.Linear(4, 1);
 * const step = captureStep((x, y) => F.mseLoss(net.forward(x), y), { optimizer: new optim.SGD(net.parameters(), { lr: 0.1 }) });
 * const x = randn([8, 4]);
 * const y = x.sum({ dim: 1, keepdim: true });
 * const first = step(x, y).item();
 * for (let i = 0; i < 50; i++) step(x, y);
 * if (!(step(x, y).item() < first)) throw new Error('did not learn');
 * ```
 */
export function captureStep<Result extends StepResult>(
  lossFunction: (...inputs: Tensor[]) => Result,
  options: CaptureStepOptions = {},
): CapturedStep<Result> {
  checkOptions('captureStep', options, ['optimizer']);
  const { optimizer } = options;
  const gradients = new GradientStep(lossFunction);
  const update = optimizer && new UpdateStep(optimizer);
  let before: readonly Tensor[] = [];
  const step = (...inputs: Tensor[]): Result => {
    optimizer?.zeroGrad();
    const results = gradients.run(inputs);
    update?.run();
    for (const { storage } of before) release(storage, NEXT_CALL);
    before = results.filter((result) => !inputs.some(({ storage }) => storage === result.storage));
    return (results.length === 1 ? results[0] : results) as Result;
  };
  const dispose = (): void => {
    gradients.dispose();
    update?.dispose();
  };
  return Object.defineProperty(Object.assign(step, { dispose }), 'plan', {
    get: () => {
      const programs = [...gradients.programs, ...(update?.programs ?? [])];
      return programs.length ? planOf(programs) : null;
    },
  }) as CapturedStep<Result>;
}
