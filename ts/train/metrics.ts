// Counting right answers, and evaluating a model over batches.
import { noGrad } from '../autograd/mode.ts';
import { capture, type InputSpec, inputSpec, sameSpec } from '../graph/capture.ts';
import { Program } from '../graph/program.ts';
import type { Module } from '../nn/module.ts';
import { eq } from '../ops/compare.ts';
import { contiguous } from '../ops/copy.ts';
import { argmax, sum } from '../ops/reduce.ts';
import { checkOptions } from '../tensor/create.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Batches of inputs and targets: a DataLoader, or any array of pairs. */
export type Batches = Iterable<readonly [Tensor, Tensor]> & { readonly length?: number };

/** A loss of the model's output against the targets, mean over the batch. */
export type LossFunction = (output: Tensor, target: Tensor) => Tensor;

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

/** Forward passes of a model in evaluation mode, one program per kind of input. */
export class Evaluator {
  readonly #net: Module;
  readonly #loss: LossFunction | undefined;
  #entries: { specs: InputSpec[]; names: (keyof Results)[]; program: Program }[] = [];

  constructor(net: Module, loss?: LossFunction) {
    this.#net = net;
    this.#loss = loss;
  }

  /** Loss and accuracy over all batches. */
  run(batches: Batches): Evaluation {
    const tally = new Tally();
    this.#inEvaluation(() => {
      for (const batch of batches) {
        const { output, loss, correct } = this.#forward(batch);
        tally.add(batch[0].shape[0]!, loss?.item() ?? Number.NaN, correct?.item());
        for (const result of [output, loss, correct]) result?.dispose();
      }
    });
    return tally.result;
  }

  /** Calls `visit` with the output and the targets of each batch. */
  visit(batches: Batches, visit: (output: Tensor, target: Tensor) => void): void {
    this.#inEvaluation(() => {
      for (const batch of batches) {
        const { output, loss, correct } = this.#forward(batch);
        visit(output, batch[1]);
        for (const result of [output, loss, correct]) result?.dispose();
      }
    });
  }

  dispose(): void {
    for (const { program } of this.#entries) program.dispose();
    this.#entries = [];
  }

  #inEvaluation(callback: () => void): void {
    const { training } = this.#net;
    this.#net.eval();
    try {
      noGrad(callback);
    } finally {
      this.#net.train(training);
    }
  }

  #forward(batch: readonly [Tensor, Tensor]): Results {
    const inputs = batch.map(contiguous);
    const specs = inputs.map(inputSpec);
    let entry = this.#entries.find((each) => each.specs.every((spec, i) => sameSpec(spec, specs[i]!)));
    if (!entry) {
      const { calls, inputs: standIns, result } = capture(specs, (x, y) => this.#results(x!, y!));
      const names = (Object.keys(result) as (keyof Results)[]).filter((name) => result[name]);
      entry = {
        specs,
        names,
        program: new Program(
          calls,
          standIns,
          names.map((name) => result[name]!),
        ),
      };
      this.#entries.push(entry);
    }
    const { names, program } = entry;
    const outputs = program.run(inputs);
    return Object.fromEntries(names.map((name, i) => [name, outputs[i]!])) as unknown as Results;
  }

  #results(x: Tensor, y: Tensor): Results {
    const output = this.#net.forward(x);
    return { output, loss: this.#loss?.(output, y), correct: correctCount(output, y) ?? undefined };
  }
}

/** Options of `evaluate`. */
export interface EvaluateOptions {
  /** Default: no loss, only accuracy. */
  loss?: LossFunction | undefined;
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
  const evaluator = new Evaluator(net, options.loss);
  try {
    return evaluator.run(batches);
  } finally {
    evaluator.dispose();
  }
}

/**
 * Confusion matrix: entry [i][j] counts samples of class i whose largest output is j.
 *
 * @throws RangeError for a label outside 0 .. classes - 1
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
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  const evaluator = new Evaluator(net);
  try {
    evaluator.visit(batches, (output, target) => {
      const predicted = argmax(output, { dim: 1 }).data();
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
