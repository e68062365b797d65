// Reductions: reduce.json, every op with every shape, with the numbers and tolerances that belong to it.

import type { Tolerance } from '../reference/compare.ts';
import { type ReduceOptions, reduceGeometry, type reductions } from '../reference/reduce.ts';
import { type Fill, type Shape, upstream, values } from '../reference/values.ts';
import table from './reduce.json' with { type: 'json' };

export interface ReduceCase {
  name: string;
  op: keyof typeof reductions;
  x: Shape;
  fill?: Fill | undefined;
  options: ReduceOptions;
}

interface ReduceRow {
  op: ReduceCase['op'];
  note?: string;
  fill?: Fill;
  options?: ReduceOptions;
}

interface ReduceShape {
  x: number[];
  options: ReduceOptions;
}

function reduceCase(row: ReduceRow, { x, options }: ReduceShape): ReduceCase {
  const title = row.note ? `${row.op} ${row.note}` : row.op;
  const name = `${title} ${JSON.stringify(x)} ${JSON.stringify(options)}`;
  return { name, op: row.op, x, fill: row.fill, options: { ...options, ...row.options } };
}

/** PyTorch's argmax takes one axis or all of them. */
function exists({ op, options }: ReduceCase): boolean {
  return op !== 'argmax' || !Array.isArray(options.dim);
}

export const reduceCases: readonly ReduceCase[] = (table.ops as ReduceRow[])
  .flatMap((row) => (table.shapes as ReduceShape[]).map((shape) => reduceCase(row, shape)))
  .filter(exists);

export function reduceInputs(task: ReduceCase): { x: Float32Array; y: Shape; dy: Float32Array } {
  const name = `reduce/${task.name}`;
  const { y } = reduceGeometry(task.x, task.options);
  return { x: values(`${name}/x`, task.x, { fill: task.fill }), y, dy: upstream(name, y) };
}

/** Up to 130 numbers of size 1 are summed; extremes are exact, but their gradient may be shared. */
export const reduceTolerance: Tolerance = { c: 2, terms: 130, scale: 1 };
