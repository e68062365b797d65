// captureStep: a hand-written training step (forward, backward, optimiser) is captured at its first call and replayed after.

import { checkReadable } from '../tensor/apply.ts';
import { checkOptions } from '../tensor/create.ts';
import { release } from '../tensor/lifetime.ts';
import { printed } from '../tensor/printed.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { inputSpec } from './capture.ts';
import { GradientStep, type StepOptimizer, type StepResult } from './gradient-step.ts';
import { largestBatch } from './largest-batch.ts';
import { type Plan, planOf } from './plan.ts';
import type { Profile } from './profile.ts';

/** Options of `captureStep`. */
export interface CaptureStepOptions {
  /** Updates the parameters after each backward; without one only gradients are computed, and they add up until they are zeroed. */
  optimizer?: StepOptimizer | undefined;
  /**
   * Runs between backward and update and is captured with them: `() => nn.utils.clipGradNorm_(net.parameters(), 1)`. Only with an
   * optimizer. Gradients are not recorded in it.
   */
  beforeUpdate?: (() => unknown) | undefined;
  /**
   * Most bytes of linear memory that the step may take, `plan.peakBytes`: all its programs, also the one of a last short batch.
   * Activations that do not fit are forgotten after the forward pass and computed again for the backward pass (PyTorch:
   * torch.utils.checkpoint): the same bits, more time.
   */
  memoryLimit?: number | undefined;
}

/** A captured training step: call it with a batch, get the loss (or what the function returned). */
export interface CapturedStep<Result extends StepResult> {
  (...inputs: Tensor[]): Result;
  /**
   * Captures the step for inputs like these, whose values do not matter, and returns its plan: nothing is computed, and no
   * memory is taken but for gradients and the state of the optimiser.
   */
  prepare(...inputs: Tensor[]): Plan;
  /**
   * The largest batch whose step takes at most `bytes` of linear memory, 0 if none does. `inputs` is a batch of any size: the first
   * dimension of all inputs that share that of the first one. With `memoryLimit`, computing twice counts in.
   * Batches of other sizes, such as a last short one, have programs of their own: where `memoryLimit` has no room for all of them
   * they take turns, and the step is captured anew at every change.
   */
  largestBatch(bytes: number, ...inputs: Tensor[]): number;
  /** Trains on a batch some times (default 10) and says where the time goes: `String(step.profile([x, y]))`. */
  profile(inputs: readonly Tensor[], runs?: number): Profile;
  /** What all its programs take and do, one per kind of input. Null before the first call or `prepare`. */
  readonly plan: Plan | null;
  /** Gives its programs' memory back. */
  dispose(): void;
}

const PROFILE_RUNS = 10;

const NEXT_CALL =
  'released when the next call of the captured step that returned it ended; keep(tensor) makes it stay, item() or data() takes its value out';

/**
 * Captures a training step. The first call with inputs of a new kind (shape, dtype, training or evaluation, which parameters
 * are trainable) writes down forward and backward of `lossFunction` and the update of `optimizer`; every call replays them
 * with one call into wasm. Results equal the eager ones bit for bit. What a call returns stays readable until the next
 * call ends. Numbers that the function takes from JavaScript (`x.mul(k)`, `tensor([...])`) are written down as they are at the
 * capture; what changes from step to step must be a tensor or a hyper-parameter of the optimiser.
 *
 * @param lossFunction returns the loss, or `[loss, ...more]`; must not read values (`item`, `data`)
 * @returns a function that takes a batch, trains on it once and returns the loss
 * @throws what the function throws at capture; Error from `item()` or `data()` inside it, naming the layer;
 *   MemoryLimitError (a RangeError) if `memoryLimit` cannot be met, naming the least that is possible
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
  checkOptions('captureStep', options, ['optimizer', 'beforeUpdate', 'memoryLimit']);
  const { optimizer, beforeUpdate, memoryLimit } = options;
  if (beforeUpdate !== undefined && (typeof beforeUpdate !== 'function' || !optimizer))
    throw new TypeError('captureStep: beforeUpdate is a function, and needs an optimizer');
  if (optimizer !== undefined && typeof optimizer?.zeroGrad !== 'function')
    throw new TypeError(`captureStep: optimizer must be an optimiser such as optim.SGD, got ${printed(optimizer)}`);
  if (memoryLimit !== undefined && !(typeof memoryLimit === 'number' && memoryLimit > 0))
    throw new RangeError(`captureStep: memoryLimit is a number of bytes, got ${printed(memoryLimit)}`);
  const gradients = new GradientStep(lossFunction, options);
  let before: readonly Tensor[] = [];
  const step = (...inputs: Tensor[]): Result => {
    optimizer?.zeroGrad();
    const results = optimizer ? gradients.runAndUpdate(inputs) : gradients.run(inputs);
    for (const { storage } of before) release(storage, NEXT_CALL);
    const outside = new Set([...inputs.map(({ storage }) => storage), ...gradients.handedBack]);
    before = results.filter(({ storage }) => !outside.has(storage));
    return (results.length === 1 ? results[0] : results) as Result;
  };
  const prepare = (...inputs: Tensor[]): Plan => {
    gradients.prepare(inputs);
    return planOf(gradients.programs);
  };
  const largest = (bytes: number, ...inputs: Tensor[]): number => {
    if (!(bytes > 0)) throw new RangeError(`largestBatch: expected a number of bytes, got ${printed(bytes)}`);
    for (const input of inputs) checkReadable('largestBatch', input);
    optimizer?.zeroGrad();
    return largestBatch(gradients, inputs.map(inputSpec), bytes);
  };
  const profile = (inputs: readonly Tensor[], runs = PROFILE_RUNS): Profile => {
    if (!Number.isInteger(runs) || runs < 1)
      throw new RangeError(`profile: runs must be a whole number >= 1, got ${printed(runs)}`);
    return gradients.profile(inputs, runs);
  };
  const dispose = (): void => gradients.dispose();
  return Object.defineProperty(Object.assign(step, { prepare, largestBatch: largest, profile, dispose }), 'plan', {
    get: () => (gradients.programs.length ? planOf(gradients.programs) : null),
  }) as CapturedStep<Result>;
}
