// The training loop.
import { GradientStep, type StepOptimizer, UpdateStep } from '../graph/gradient-step.ts';
import type { Module } from '../nn/module.ts';
import { clipGradNorm_ } from '../nn/utils.ts';
import { CaptureError } from '../runtime/errors.ts';
import { checkOptions, tensor } from '../tensor/create.ts';
import { keep } from '../tensor/lifetime.ts';
import { writeValues } from '../tensor/read.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Batches, correctCount, Evaluator, type Loss, lossFunctionOf, Tally } from './metrics.ts';

/** What happened in one epoch. */
export interface EpochResult {
  /** Counted from 1. */
  epoch: number;
  /** Mean training loss per sample, as it was when each batch was trained on. */
  loss: number;
  /** Training accuracy, likewise; NaN if the targets are not labels. */
  trainAccuracy: number;
  /** Loss and accuracy on the test batches after the epoch; NaN without them. */
  testLoss: number;
  testAccuracy: number;
  /** Time of the training part. */
  seconds: number;
}

/** Something that moves the learning rate after each epoch. */
export interface Schedule {
  step(): void;
}

/** Options of `fit`. */
export interface FitOptions {
  train: Batches;
  test?: Batches | undefined;
  loss: Loss;
  optimizer: StepOptimizer;
  /** Default 1. */
  epochs?: number | undefined;
  /** Batches whose gradients are averaged before each update. Default 1. */
  accumulate?: number | undefined;
  /** Scales all gradients of an update so that their norm is at most this; see `nn.utils.clipGradNorm_`. */
  clipGradNorm?: number | undefined;
  /** Most bytes of linear memory that a captured step may take; see `captureStep`. */
  memoryLimit?: number | undefined;
  schedule?: Schedule | undefined;
  /** Called after each epoch; returning false ends the training. */
  onEpoch?: ((result: EpochResult) => unknown) | undefined;
  /** Called after each batch with its index, the number of batches (if known) and the batch's loss. */
  onBatch?: ((batch: number, batches: number | undefined, loss: number) => void) | undefined;
  /** Ends the training after the running batch; `fit` then throws the signal's reason. What was learned stays. */
  signal?: AbortSignal | undefined;
}

const OPTIONS = [
  'train',
  'test',
  'loss',
  'optimizer',
  'epochs',
  'accumulate',
  'clipGradNorm',
  'memoryLimit',
  'schedule',
  'onEpoch',
  'onBatch',
  'signal',
];

/** The event loop gets a turn this often, so that timers, signals and the page stay alive. */
const TURN_MILLISECONDS = 100;

function checkFit(options: FitOptions): { epochs: number; accumulate: number } {
  checkOptions('fit', options, OPTIONS);
  const { train, optimizer, epochs = 1, accumulate = 1 } = options;
  if (typeof train?.[Symbol.iterator] !== 'function')
    throw new TypeError('fit: train must be a DataLoader or an array of [x, y] batches');
  lossFunctionOf('fit', options.loss);
  if (typeof optimizer?.step !== 'function')
    throw new TypeError('fit: optimizer must be an optimiser such as optim.SGD');
  const { clipGradNorm, memoryLimit } = options;
  for (const [name, value] of Object.entries({ clipGradNorm, memoryLimit }))
    if (value !== undefined && !(typeof value === 'number' && value > 0))
      throw new RangeError(`fit: ${name} must be a number > 0, got ${value}`);
  for (const [name, value] of Object.entries({ epochs, accumulate }))
    if (!Number.isInteger(value) || value < 1)
      throw new RangeError(`fit: ${name} must be a whole number >= 1, got ${value}`);
  return { epochs, accumulate };
}

/**
 * Trains a model: per batch forward, backward and update as captured programs, per epoch an evaluation on `test`.
 * A model that cannot be captured (it reads values, or has hooks) is trained eagerly, with one warning.
 *
 * @returns one result per epoch
 * @throws TypeError or RangeError for bad options; the reason of an aborted `signal`; what model and loss throw
 * @example
 * ```ts
 * import { init, nn, optim, randn, tensor } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * import { fit } from 'feathermap/train';
 * await init();
 * const net = new nn.Linear(2, 2);
 * const batch = [tensor([[1, 0], [0, 1]]), tensor([0, 1], { dtype: 'i32' })];
 * const optimizer = new optim.SGD(net.parameters(), { lr: 1 });
 * const history = await fit(net, { train: [batch], loss: F.crossEntropy, optimizer, epochs: 20 });
 * if (history.at(-1).trainAccuracy !== 1) throw new Error('did not learn');
 * ```
 */
export async function fit(net: Module, options: FitOptions): Promise<EpochResult[]> {
  const { epochs } = checkFit(options);
  const trainer = new Trainer(net, options);
  const history: EpochResult[] = [];
  const restore = net.rememberModes();
  try {
    for (let epoch = 1; epoch <= epochs; epoch++) {
      const result = await trainer.epoch(epoch);
      history.push(result);
      options.schedule?.step();
      if ((await options.onEpoch?.(result)) === false) break;
    }
  } finally {
    trainer.dispose();
    restore();
  }
  return history;
}

class Trainer {
  readonly #net: Module;
  readonly #options: FitOptions;
  readonly #accumulate: number;
  readonly #seed: Tensor;
  readonly #gradients: GradientStep;
  readonly #update: UpdateStep;
  readonly #beforeUpdate = (): void => {
    const { clipGradNorm, optimizer } = this.#options;
    if (clipGradNorm !== undefined) clipGradNorm_(optimizer.parameters, clipGradNorm);
  };
  readonly #evaluator: Evaluator;
  #eager = false;
  #lastTurn = performance.now();

  constructor(net: Module, options: FitOptions) {
    this.#net = net;
    this.#options = options;
    this.#accumulate = options.accumulate ?? 1;
    this.#seed = keep(tensor(1));
    const loss = lossFunctionOf('fit', options.loss);
    const lossFunction = (x: Tensor, y: Tensor): [Tensor, ...Tensor[]] => {
      const output = net.forward(x);
      const correct = correctCount(output, y);
      return correct ? [loss(output, y), correct] : [loss(output, y)];
    };
    this.#gradients = new GradientStep(lossFunction as (...inputs: Tensor[]) => [Tensor, ...Tensor[]], {
      optimizer: options.optimizer,
      beforeUpdate: this.#beforeUpdate,
      seed: this.#seed,
      memoryLimit: options.memoryLimit,
    });
    this.#update = new UpdateStep(options.optimizer, this.#beforeUpdate);
    this.#evaluator = new Evaluator(net, loss);
  }

  async epoch(epoch: number): Promise<EpochResult> {
    const { train, test, signal } = this.#options;
    const tally = new Tally();
    const start = performance.now();
    this.#net.train();
    let index = 0;
    for (const batch of train) {
      signal?.throwIfAborted();
      if (batch?.length !== 2) throw new TypeError(`fit: batch ${index} of train is not a pair [x, y], got ${batch}`);
      this.#batch(batch, index, tally);
      index++;
      await this.#turn();
    }
    if (index === 0) throw new RangeError('fit: train has no batches');
    if (index % this.#accumulate) this.#applyUpdate();
    const seconds = (performance.now() - start) / 1000;
    signal?.throwIfAborted();
    const { loss, accuracy } = tally.result;
    const result = test ? this.#evaluator.run(test) : { loss: Number.NaN, accuracy: Number.NaN };
    return { epoch, loss, trainAccuracy: accuracy, testLoss: result.loss, testAccuracy: result.accuracy, seconds };
  }

  dispose(): void {
    this.#gradients.dispose();
    this.#update.dispose();
    this.#evaluator.dispose();
    this.#seed.dispose();
  }

  #batch(batch: readonly [Tensor, Tensor], index: number, tally: Tally): void {
    const { train, optimizer, onBatch } = this.#options;
    const within = index % this.#accumulate;
    if (within === 0) {
      optimizer.zeroGrad();
      const left = train.length === undefined ? this.#accumulate : train.length - index;
      writeValues(this.#seed, [1 / Math.min(this.#accumulate, left)]);
    }
    const results = this.#compute(batch);
    if (within === this.#accumulate - 1 && (this.#eager || this.#accumulate > 1)) this.#applyUpdate();
    const loss = results[0]!.item();
    tally.add(batch[0].shape[0]!, loss, results[1]?.item());
    for (const result of results) result.dispose();
    onBatch?.(index, train.length, loss);
  }

  /** Loss and gradients of a batch, and the update too if it is captured with them. */
  #compute(batch: readonly [Tensor, Tensor]): Tensor[] {
    if (!this.#eager)
      try {
        return this.#accumulate === 1 ? this.#gradients.runAndUpdate(batch) : this.#gradients.run(batch);
      } catch (error) {
        if (!(error instanceof CaptureError)) throw error;
        this.#eager = true;
        console.warn(`fit: training eagerly, because the step cannot be captured: ${error.message}`);
      }
    return this.#gradients.runEagerly(batch);
  }

  #applyUpdate(): void {
    if (this.#eager) {
      this.#beforeUpdate();
      this.#options.optimizer.step();
    } else this.#update.run();
  }

  async #turn(): Promise<void> {
    if (performance.now() - this.#lastTurn < TURN_MILLISECONDS) return;
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.#lastTurn = performance.now();
  }
}
