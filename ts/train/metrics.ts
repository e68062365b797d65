// Counting right answers, and evaluating a model over batches.
import { noGrad } from '../autograd/mode.ts';
import { capture, type InputSpec, inputSpec, sameSpec } from '../graph/capture.ts';
import { Program } from '../graph/program.ts';
import { Module } from '../nn/module.ts';
import { eq } from '../ops/compare.ts';
import { contiguous } from '../ops/copy.ts';
import { argmax } from '../ops/reduce.ts';
import { sum } from '../ops/sum.ts';
import { CaptureError } from '../runtime/errors.ts';
import { checkOptions } from '../tensor/create.ts';
import { scope } from '../tensor/lifetime.ts';
import { show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Batches of inputs and targets: a DataLoader, or any array of pairs. */
export type Batches = Iterable<readonly [Tensor, Tensor]> & { readonly length?: number };

/** A loss of the model's output against the targets, mean over the batch. */
export type LossFunction = (output: Tensor, target: Tensor) => Tensor;

/** A loss as a function, `F.crossEntropy`, or as a module, `new nn.CrossEntropyLoss()`. */
export type Loss = LossFunction | Module;

/** The function of a loss. */
export function lossFunctionOf(op: string, loss: Loss): LossFunction {
  if (loss instanceof Module) return (output, target) => loss.forward(output, target);
  if (typeof loss !== 'function')
    throw new TypeError(`${op}: loss must be a function of output and target or a module, got ${typeof loss}`);
  return loss;
}

/** How good a model is on some data. */
export interface Evaluation {
  /** Mean over the samples. */
  loss: number;
  /** Share of samples whose largest output is at the label; NaN if the targets are not labels. */
  accuracy: number;
}

/** Number of rows of [N, classes] whose largest element is at the label; null if these are not class scores and labels. */
export function correctCount(output: Tensor, target: Tensor): Tensor | null {
  if (output.ndim !== 2 || target.dtype !== 'i32' || target.ndim !== 1) return null;
  return sum(eq(argmax(output.detach(), { dim: 1 }), target));
}

/** Sums over the batches of an epoch. */
export class Tally {
  #loss = 0;
  #correct = 0;
  #samples = 0;

  /** Adds a batch: its mean loss, and how many were right (if that is known). */
  add(samples: number, loss: number, correct: number | undefined): void {
    this.#samples += samples;
    this.#loss += loss * samples;
    this.#correct += correct ?? Number.NaN;
  }

  get result(): Evaluation {
    return { loss: this.#loss / this.#samples, accuracy: this.#correct / this.#samples };
  }
}

/** What a forward pass in evaluation returns. */
interface Results {
  output: Tensor;
  loss: Tensor | undefined;
  correct: Tensor | undefined;
}

/** Disposes results, except one that is the batch itself: the output of a model that only reshapes. */
function disposeResults(results: Results, batch: readonly Tensor[]): void {
  for (const result of Object.values(results) as (Tensor | undefined)[])
    if (result && !batch.some(({ storage }) => storage === result.storage)) result.dispose();
}

/** One program for one kind of batch. */
interface Entry {
  readonly specs: readonly InputSpec[];
  readonly names: readonly (keyof Results)[];
  readonly program: Program;
}

/** Forward passes of a model in evaluation mode, one program per kind of input; eager if the model reads values. */
export class Evaluator {
  readonly #net: Module;
  readonly #loss: LossFunction | undefined;
  #entries: Entry[] = [];
  #eager = false;

  constructor(net: Module, loss?: LossFunction) {
    this.#net = net;
    this.#loss = loss;
  }

  /** Loss and accuracy over all batches. */
  run(batches: Batches): Evaluation {
    const tally = new Tally();
    this.#inEvaluation(() => {
      for (const batch of batches) {
        const results = this.#forward(batch);
        tally.add(batch[0].shape[0]!, results.loss?.item() ?? Number.NaN, results.correct?.item());
        disposeResults(results, batch);
      }
    });
    return tally.result;
  }

  /** Calls `visit` with the output and the targets of each batch. */
  visit(batches: Batches, visit: (output: Tensor, target: Tensor) => void): void {
    this.#inEvaluation(() => {
      for (const batch of batches) {
        const results = this.#forward(batch);
        visit(results.output, batch[1]);
        disposeResults(results, batch);
      }
    });
  }

  dispose(): void {
    for (const { program } of this.#entries) program.dispose();
    this.#entries = [];
  }

  #inEvaluation(callback: () => void): void {
    const restore = this.#net.rememberModes();
    this.#net.eval();
    try {
      noGrad(callback);
    } finally {
      restore();
    }
  }

  #forward([x, y]: readonly [Tensor, Tensor]): Results {
    if (!this.#eager)
      try {
        return this.#replay([contiguous(x), contiguous(y)]);
      } catch (error) {
        if (!(error instanceof CaptureError)) throw error;
        this.#eager = true;
      }
    return scope(() => this.#results(x, y));
  }

  #replay(inputs: readonly Tensor[]): Results {
    const specs = inputs.map(inputSpec);
    let entry = this.#entries.find((each) => each.specs.every((spec, i) => sameSpec(spec, specs[i]!)));
    if (!entry) this.#entries.push((entry = this.#capture(specs)));
    const outputs = entry.program.run(inputs);
    return Object.fromEntries(entry.names.map((name, i) => [name, outputs[i]!])) as unknown as Results;
  }

  #capture(specs: readonly InputSpec[]): Entry {
    const { calls, inputs, result } = capture(specs, (x, y) => this.#results(x!, y!));
    const names = (Object.keys(result) as (keyof Results)[]).filter((name) => result[name]);
    const outputs = names.map((name) => result[name]!);
    return { specs, names, program: new Program(calls, inputs, outputs) };
  }

  #results(x: Tensor, y: Tensor): Results {
    const output = this.#net.forward(x);
    return { output, loss: this.#loss?.(output, y), correct: correctCount(output, y) ?? undefined };
  }
}

/** Options of `evaluate`. */
export interface EvaluateOptions {
  /** Default: no loss, only accuracy. */
  loss?: Loss | undefined;
}

/**
 * Runs a model in evaluation mode over batches and returns mean loss and accuracy. The model's mode is put back afterwards.
 *
 * @throws TypeError for an unknown option; what the model throws
 * @example
 * ```ts
 * import { init, tensor, zeros } from 'feathermap';
 * import * as F from 'feathermap/functional';
 * import { lenet } from 'feathermap/models';
 * import { evaluate } from 'feathermap/train';
 * await init();
 * const batches = [[zeros([4, 1, 28, 28]), tensor([0, 1, 2, 3], { dtype: 'i32' })]];
 * const { loss, accuracy } = evaluate(lenet(), batches, { loss: F.crossEntropy });
 * if (!(loss > 0) || accuracy > 0.25) throw new Error('wrong');
 * ```
 */
export function evaluate(net: Module, batches: Batches, options: EvaluateOptions = {}): Evaluation {
  checkOptions('evaluate', options, ['loss']);
  if (!(net instanceof Module)) throw new TypeError(`evaluate: the first argument must be a Module, got ${typeof net}`);
  if (typeof batches?.[Symbol.iterator] !== 'function')
    throw new TypeError('evaluate: expected a DataLoader or an array of [x, y] batches');
  const evaluator = new Evaluator(net, options.loss && lossFunctionOf('evaluate', options.loss));
  try {
    return evaluator.run(batches);
  } finally {
    evaluator.dispose();
  }
}

/**
 * Confusion matrix: entry [i][j] counts samples of class i whose largest output is j.
 *
 * @throws RangeError for a label outside 0 .. classes - 1, or a model with another number of outputs
 * @example
 * ```ts
 * import { init, tensor, zeros } from 'feathermap';
 * import { lenet } from 'feathermap/models';
 * import { confusionMatrix } from 'feathermap/train';
 * await init();
 * const counts = confusionMatrix(lenet(), [[zeros([2, 1, 28, 28]), tensor([3, 4], { dtype: 'i32' })]], 10);
 * if (counts[3].reduce((a, b) => a + b) !== 1) throw new Error('wrong');
 * ```
 */
export function confusionMatrix(net: Module, batches: Batches, classes: number): number[][] {
  if (!Number.isInteger(classes) || classes < 1)
    throw new RangeError(`confusionMatrix: classes must be a whole number >= 1, got ${classes}`);
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  const evaluator = new Evaluator(net);
  try {
    evaluator.visit(batches, (output, target) => {
      if (output.ndim !== 2 || output.shape[1] !== classes)
        throw new RangeError(`confusionMatrix: output ${show(output.shape)} has no row of ${classes} class scores`);
      const predicted = scope(() => argmax(output, { dim: 1 }).data());
      target.data().forEach((label, i) => {
        const row = counts[label];
        if (!row) throw new RangeError(`confusionMatrix: label ${label} is out of range, expected 0 to ${classes - 1}`);
        row[predicted[i]!]!++;
      });
    });
  } finally {
    evaluator.dispose();
  }
  return counts;
}
