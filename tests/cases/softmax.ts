// Softmax and log-softmax: softmax.json, with the numbers and tolerances that belong to it.
import type { Tolerance } from '../reference/compare.ts';
import { type FillOptions, type Shape, upstream, values } from '../reference/values.ts';
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

/** Up to 1000 powers are summed, most of them small. */
export const softmaxTolerance: Tolerance = { c: 4, terms: 4 };
