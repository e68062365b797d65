// Batch normalisation, adaptive pooling and hardtanh: batch-norm.json, and PyTorch's answers from golden/layers.json.
import golden from '../golden/layers.json' with { type: 'json' };
import { type Shape, values } from '../reference/values.ts';
import table from './batch-norm.json' with { type: 'json' };

export interface BatchNormCase {
  name: string;
  x: Shape;
  /** Added to x. */
  shift?: number;
  /** Whether there are weight and bias. */
  affine?: boolean;
  /** Whether PyTorch was asked. */
  golden?: boolean;
  options: { training?: boolean; momentum?: number; eps?: number };
}

export interface AdaptiveCase {
  x: Shape;
  size: number | readonly [number | null, number | null];
}

export interface HardtanhCase {
  name: string;
  options: { minVal?: number; maxVal?: number };
}

export const batchNormCases: readonly BatchNormCase[] = table.batchNorm;
export const adaptiveCases: readonly AdaptiveCase[] = table.adaptiveAvgPool2d as never;
export const hardtanhCases: readonly HardtanhCase[] = table.hardtanh;

/** PyTorch's answer of this name; undefined if there is none. */
export function layerAnswer(name: string, result: string): Float32Array | undefined {
  const text = (golden as Record<string, Record<string, string>>)[name]?.[result];
  if (text === undefined) return undefined;
  const { buffer, byteOffset, byteLength } = Buffer.from(text, 'base64');
  return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}

/** Everything that goes into a batch normalisation. */
export interface BatchNormInputs {
  x: Float32Array;
  weight: Float32Array | null;
  bias: Float32Array | null;
  mean: Float32Array;
  variance: Float32Array;
  dy: Float32Array;
  /** What the gradients of x, weight and bias are multiplied with before they are summed and differentiated again. */
  second: Float32Array[];
}

export function batchNormInputs({ name, x: shape, shift = 0, affine = true }: BatchNormCase): BatchNormInputs {
  const channels = [shape[1]!];
  const of = (what: string, extents: Shape): Float32Array => values(`batchNorm/${name}/${what}`, extents);
  const shapes = [shape, channels, channels].slice(0, affine ? 3 : 1);
  return {
    x: values(`batchNorm/${name}/x`, shape, { scale: 2, shift }),
    weight: affine ? of('weight', channels) : null,
    bias: affine ? of('bias', channels) : null,
    mean: of('mean', channels),
    variance: values(`batchNorm/${name}/variance`, channels, { fill: 'positive' }),
    dy: of('dy', shape),
    second: shapes.map((extents, i) => of(`second${i}`, extents)),
  };
}

export function adaptiveName({ x, size }: AdaptiveCase): string {
  return `adaptiveAvgPool2d/${JSON.stringify([x, size])}`;
}

/** Numbers that often lie on a bound. */
export function hardtanhInputs({ name }: HardtanhCase): { x: Float32Array; dy: Float32Array } {
  const x = values(`hardtanh/${name}/x`, [99], { scale: 9 }).map((value) => {
    const rounded = Math.round(value);
    return Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
  });
  return { x, dy: values(`hardtanh/${name}/dy`, [99]) };
}
