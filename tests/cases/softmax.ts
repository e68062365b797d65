// Softmax and log-softmax: softmax.json, with the numbers and tolerances that belong to it.
import { magnitude, type Tolerance } from '../reference/compare.ts';
import { type FillOptions, type Numbers, type Shape, upstream, values } from '../reference/values.ts';
import table from './softmax.json' with { type: 'json' };

export interface SoftmaxCase extends FillOptions {
  name: string;
  x: Shape;
  dim: number;
}

export const softmaxCases: readonly SoftmaxCase[] = table.cases as SoftmaxCase[];

/** Both ops have golden answers, each for inputs of its own. */
export type SoftmaxOp = 'softmax' | 'logSoftmax';

export function softmaxInputs(op: SoftmaxOp, task: SoftmaxCase): { x: Float32Array; dy: Float32Array } {
  const name = `${op}/${task.name}`;
  return { x: values(`${name}/x`, task.x, task), dy: upstream(name, task.x) };
}

/** For the golden output y; the gradient of softmax is a product with y, in which differences of size 1 may cancel. */
export function softmaxTolerance(op: SoftmaxOp, y: Numbers): Record<'y' | 'dx', Tolerance> {
  const shared = { c: 4, terms: 4 };
  return { y: shared, dx: { ...shared, scale: op === 'softmax' ? magnitude(y) : 0 } };
}
