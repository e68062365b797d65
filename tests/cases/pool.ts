// The poolings that every implementation answers: pool.json, with the numbers and tolerances that belong to it.
import type { Tolerance } from '../reference/compare.ts';
import type { PairOption } from '../reference/geometry.ts';
import { type Pool2dGeometry, type Pool2dOptions, pool2dGeometry } from '../reference/pool.ts';
import { type Draw, type Fill, type Four, upstream, values } from '../reference/values.ts';
import table from './pool.json' with { type: 'json' };

export interface PoolCase {
  name: string;
  op: 'max' | 'avg';
  x: Four;
  kernel: PairOption;
  fill?: Fill;
  options: Pool2dOptions;
}

export const poolCases: readonly PoolCase[] = table.cases as unknown as PoolCase[];

/** Everything that goes in, upstream gradient included. */
export interface PoolInputs {
  geometry: Pool2dGeometry;
  x: Float32Array;
  dy: Float32Array;
}

/** The numbers the golden answers belong to; with `smallIntegers` as `draw`, whole numbers. */
export function poolInputs(task: PoolCase, draw: Draw = values): PoolInputs {
  const name = `pool/${task.name}`;
  const geometry = pool2dGeometry(task.x, task.kernel, task.options);
  return { geometry, x: draw(`${name}/x`, task.x, { fill: task.fill }), dy: upstream(name, geometry.y, draw) };
}

/** A maximum is one of the inputs, its gradient a sum of as many numbers as windows overlap; an average sums a window. */
export function poolTolerance(task: PoolCase, { rows, columns }: Pool2dGeometry): Record<'y' | 'dx', Tolerance> {
  const overlap = Math.ceil(rows.kernel / rows.stride) * Math.ceil(columns.kernel / columns.stride);
  const dx = { c: overlap > 1 || task.op === 'avg' ? 2 : 0, terms: overlap, scale: 1 };
  return { y: { c: task.op === 'max' ? 0 : 2, terms: rows.kernel * columns.kernel, scale: 1 }, dx };
}
