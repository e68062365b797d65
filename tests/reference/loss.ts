// Losses in float64, for understanding.
import { logSoftmax, softmax } from './softmax.ts';
import { type Numbers, type Shape, sizeOf } from './values.ts';

export type Reduction = 'mean' | 'sum' | 'none';

export interface CrossEntropyOptions {
  reduction?: Reduction;
  labelSmoothing?: number;
  ignoreIndex?: number;
}

/** Logits [N, C, ...] and class indices [N, ...]. */
export interface CrossEntropyCase {
  x: Numbers;
  shape: Shape;
  target: Numbers;
  options?: CrossEntropyOptions;
}

/** Index of the logit of class c that belongs to element i of the target. */
function logitIndex(shape: Shape, i: number, c: number): number {
  const inner = sizeOf(shape.slice(2));
  return (Math.floor(i / inner) * shape[1]! + c) * inner + (i % inner);
}

/** The probability asked of each class: 1 - e + e / C for the target, e / C for the others; none where ignored. */
function wanted({ target, shape, options = {} }: CrossEntropyCase): Float64Array {
  const { labelSmoothing = 0, ignoreIndex = -100 } = options;
  const q = new Float64Array(sizeOf(shape));
  for (let i = 0; i < target.length; i++) {
    if (target[i] === ignoreIndex) continue;
    for (let c = 0; c < shape[1]!; c++) q[logitIndex(shape, i, c)] = labelSmoothing / shape[1]!;
    q[logitIndex(shape, i, target[i]!)]! += 1 - labelSmoothing;
  }
  return q;
}

/** What the sum of the losses is divided by: for the mean, the number of targets that are not ignored. */
function count({ target, options = {} }: CrossEntropyCase): number {
  if ((options.reduction ?? 'mean') !== 'mean') return 1;
  return Array.from(target).filter((label) => label !== (options.ignoreIndex ?? -100)).length;
}

/** -sum over c of q[c] * log softmax(x)[c], for each target ('none') or reduced to one number. */
export function crossEntropy(task: CrossEntropyCase): Float64Array {
  const [logs, q] = [logSoftmax(task.x, task.shape, 1), wanted(task)];
  const losses = Float64Array.from(task.target, (_, i) => {
    let loss = 0;
    for (let c = 0; c < task.shape[1]!; c++) {
      const index = logitIndex(task.shape, i, c);
      if (q[index]! > 0) loss -= q[index]! * logs[index]!;
    }
    return loss;
  });
  if (task.options?.reduction === 'none') return losses;
  return Float64Array.of(losses.reduce((sum, loss) => sum + loss, 0) / count(task));
}

/** dx = dy * (softmax(x) - q); nothing where the target is ignored. */
export function crossEntropyGrad(dy: Numbers, task: CrossEntropyCase): Float64Array {
  const [shares, q] = [softmax(task.x, task.shape, 1), wanted(task)];
  const dx = new Float64Array(shares.length);
  for (let i = 0; i < task.target.length; i++) {
    if (task.target[i] === (task.options?.ignoreIndex ?? -100)) continue;
    const upstream = dy[dy.length === 1 ? 0 : i]! / count(task);
    for (let c = 0; c < task.shape[1]!; c++) {
      const index = logitIndex(task.shape, i, c);
      dx[index] = upstream * (shares[index]! - q[index]!);
    }
  }
  return dx;
}

/** (x - target)^2, for each element ('none') or reduced to one number. */
export function mseLoss(x: Numbers, target: Numbers, reduction: Reduction = 'mean'): Float64Array {
  const squares = Float64Array.from(x, (number, i) => (number - target[i]!) ** 2);
  if (reduction === 'none') return squares;
  const sum = squares.reduce((a, b) => a + b, 0);
  return Float64Array.of(reduction === 'mean' ? sum / x.length : sum);
}

/** dx; the gradient of the target is its negative. */
export function mseLossGrad(dy: Numbers, x: Numbers, target: Numbers, reduction: Reduction = 'mean'): Float64Array {
  const divisor = reduction === 'mean' ? x.length : 1;
  return Float64Array.from(x, (number, i) => (dy[dy.length === 1 ? 0 : i]! * 2 * (number - target[i]!)) / divisor);
}
