// The convolutions that every implementation answers: conv2d.json, with the numbers and tolerances that belong to it.
import type { Tolerance } from '../reference/compare.ts';
import { type Conv2dGeometry, type Conv2dOptions, conv2dGeometry } from '../reference/conv2d.ts';
import { type Draw, type Four, sizeOf, upstream, values } from '../reference/values.ts';
import table from './conv2d.json' with { type: 'json' };

/** x [N, C, H, W], weight [O, C / groups, KH, KW]; with a bias unless it says false. */
export interface Conv2dCase {
  name: string;
  x: Four;
  weight: Four;
  bias?: boolean;
  options: Conv2dOptions;
}

export const conv2dCases: readonly Conv2dCase[] = table.cases as unknown as Conv2dCase[];

/** Everything that goes in, upstream gradient included. */
export interface Conv2dInputs {
  geometry: Conv2dGeometry;
  x: Float32Array;
  weight: Float32Array;
  bias: Float32Array | null;
  dy: Float32Array;
}

/** The numbers the golden answers belong to; with `smallIntegers` as `draw`, numbers whose answers are exact. */
export function conv2dInputs(task: Conv2dCase, draw: Draw = values): Conv2dInputs {
  const name = `conv2d/${task.name}`;
  const geometry = conv2dGeometry(task.x, task.weight, task.options);
  return {
    geometry,
    x: draw(`${name}/x`, task.x),
    weight: draw(`${name}/weight`, task.weight),
    bias: task.bias === false ? null : draw(`${name}/bias`, [task.weight[0]]),
    dy: upstream(name, geometry.y, draw),
  };
}

// Plain float32 sums in order stay below c = 1 on every case; 2 leaves room for other orders.
const c = 2;

/** Sums of `terms` products of two uniform numbers, each of mean square 1/3. */
function products(terms: number): Tolerance {
  return { c, terms, scale: Math.sqrt(terms) / 3 };
}

/** Tolerances for output and gradients; a sum has as many terms as its longest. */
export function conv2dTolerance({ weight, y, groups }: Conv2dGeometry): Record<'y' | 'dx' | 'dw' | 'db', Tolerance> {
  const [outputs, channels, KH, KW] = weight;
  const pixels = y[0] * y[2] * y[3];
  return {
    y: products(channels * KH * KW + 1),
    dx: products((outputs / groups) * KH * KW),
    dw: products(pixels),
    db: { c, terms: pixels, scale: Math.sqrt(pixels / 3) },
  };
}

/** Multiply-adds of the forward pass, times two. */
export function conv2dFlops({ weight, y }: Conv2dGeometry): number {
  return (2 * sizeOf(y) * sizeOf(weight)) / weight[0];
}
