// Functions of one and of two tensors: elementwise.json, with the numbers and tolerances that belong to it.
import { broadcastShapes } from '../reference/broadcast.ts';
import type { Tolerance } from '../reference/compare.ts';
import type { binary, Operands, unary } from '../reference/elementwise.ts';
import { type Fill, type FillOptions, type Shape, upstream, values } from '../reference/values.ts';
import table from './elementwise.json' with { type: 'json' };

/** One tensor [67]. `exponent` belongs to pow, `options` to clamp. */
export interface UnaryCase extends FillOptions {
  name: string;
  op: keyof typeof unary | 'clamp' | 'pow';
  exponent?: number;
  options?: { min?: number; max?: number };
}

export const unaryCases: readonly UnaryCase[] = table.unary as UnaryCase[];

/** Ops whose golden answer to the numbers of golden tensor 'elementwise/specials' exists as '<op> of specials'. */
export const specialOps: readonly (keyof typeof unary)[] = table.specials as (keyof typeof unary)[];

export function unaryInputs(task: UnaryCase): { x: Float32Array; dy: Float32Array } {
  const name = `elementwise/${task.name}`;
  return { x: values(`${name}/x`, [67], task), dy: upstream(name, [67]) };
}

/** Two tensors that broadcast. */
export interface BinaryCase {
  name: string;
  op: keyof typeof binary | 'where';
  shapes: { a: Shape; b: Shape };
  fills: { a: FillOptions; b: FillOptions };
}

interface BinaryRow {
  op: BinaryCase['op'];
  note?: string;
  fillA?: Fill;
  fillB?: Fill;
  scaleA?: number;
  scaleB?: number;
}

function binaryCase(row: BinaryRow, shapes: BinaryCase['shapes']): BinaryCase {
  const title = row.note ? `${row.op} ${row.note}` : row.op;
  const name = `${title} ${JSON.stringify(shapes.a)} ${JSON.stringify(shapes.b)}`;
  const fills = { a: { fill: row.fillA, scale: row.scaleA }, b: { fill: row.fillB, scale: row.scaleB } };
  return { name, op: row.op, shapes, fills };
}

/** Every op with every pair of shapes. */
export const binaryCases: readonly BinaryCase[] = (table.binary as BinaryRow[]).flatMap((row) =>
  table.shapes.map((shapes) => binaryCase(row, shapes)),
);

/** Everything that goes in; `condition` (1 or 0, in the shape of y) is for `where`. */
export interface BinaryInputs extends Operands {
  a: Float32Array;
  b: Float32Array;
  condition: Float32Array;
  y: Shape;
  dy: Float32Array;
}

export function binaryInputs({ name: title, shapes, fills }: BinaryCase): BinaryInputs {
  const name = `elementwise/${title}`;
  const y = broadcastShapes(shapes.a, shapes.b);
  return {
    shapes,
    a: values(`${name}/a`, shapes.a, fills.a),
    b: values(`${name}/b`, shapes.b, fills.b),
    condition: values(`${name}/condition`, y, { fill: 'ties' }).map((number) => Number(number > 0)),
    y,
    dy: upstream(name, y),
  };
}

/** At most 60 numbers are summed into a broadcast operand's gradient. */
export const elementwiseTolerance: Tolerance = { c: 4, terms: 8 };
