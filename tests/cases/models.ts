// The networks that torchvision was asked about: models.json, with the weights, images and checksums that belong to it.
import { createHash } from 'node:crypto';
import answers from '../golden/models.json' with { type: 'json' };
import { integers, type Shape, sizeOf, uniform, values } from '../reference/values.ts';
import table from './models.json' with { type: 'json' };

export interface ModelCase {
  name: string;
  /** The function of feathermap/models, if it is not the name. */
  function?: string;
  options?: Readonly<Record<string, unknown>>;
  /** Extents of the images whose logits are known. */
  sizes?: readonly number[];
  batch?: number;
  /** Whether the compiled model is asked too. Default true. */
  compiled?: boolean;
  /** Whether it has dropout, which the training step does without. */
  dropout?: boolean;
  /**
   * With `head` one dense layer of that size takes the place of the classifier. `images` is the name that its images come from, by
   * default that of the model: chosen so that no activation of the last layers lies near a bound of its ReLU.
   */
  train?: { batch: number; size: number; head?: readonly number[]; images?: string };
}

/** What torchvision answered. */
export interface ModelAnswer {
  parameters: number;
  keys: number;
  /** Of the lines `key 64x3x7x7` of the state dict. */
  sha256: string;
  logits?: Readonly<Record<string, string>>;
  train?: { loss: number; gradients: string; running: string };
}

export const modelCases: readonly ModelCase[] = table.models as never;
export const modelAnswers: Readonly<Record<string, ModelAnswer>> = answers.models as never;
export const mnistCase: { batch: number; steps: number; lr: number; momentum: number } = table.mnist;
export const mnistLosses: readonly number[] = answers.mnist;

/** Float32 or float64 numbers from base64. */
export function unpacked(text: string, Kind: typeof Float32Array | typeof Float64Array): Float32Array | Float64Array {
  const { buffer, byteOffset, byteLength } = Buffer.from(text, 'base64');
  return new Kind(buffer.slice(byteOffset, byteOffset + byteLength));
}

/** Uniform numbers in [-1, 1) that repeat with a prime period: 138 million of them cost no more than 65,521. */
function tiled(key: string, count: number): Float32Array {
  const period = uniform(key, Math.min(count, table.period));
  if (count === period.length) return period;
  const all = new Float32Array(count);
  for (let i = 0; i < count; i += period.length) all.set(period.subarray(0, Math.min(period.length, count - i)), i);
  return all;
}

function scaling(key: string, shape: Shape): [scale: number, shift: number] {
  if (shape.length > 1) return [Math.sqrt(6 / sizeOf(shape.slice(1))), 0];
  if (key.endsWith('running_var')) return [0.5, 1];
  return key.endsWith('weight') ? [0.25, 1] : [0.1, 0];
}

/** The numbers at a place of a state dict: activations stay near 1, variances positive. */
export function modelNumbers(key: string, shape: Shape): Float32Array | Int32Array {
  if (key.endsWith('num_batches_tracked')) return new Int32Array(1);
  const [scale, shift] = scaling(key, shape);
  const numbers = tiled(key, sizeOf(shape));
  for (let i = 0; i < numbers.length; i++) numbers[i] = numbers[i]! * scale + shift;
  return numbers;
}

/** Images [batch, 3, size, size] of a model. */
export function modelImages(name: string, batch: number, size: number): { data: Float32Array; shape: Shape } {
  const shape = [batch, 3, size, size];
  return { data: values(`${name}/${size}/x`, shape), shape };
}

/** Labels of its training step. */
export function modelTarget(name: string, batch: number, classes = 1000): Int32Array {
  return Int32Array.from(integers(`${name}/target`, batch, 0, classes - 1));
}

/** Names and shapes of a state dict in order, as the golden answers hold them. */
export function structureHash(state: Iterable<[string, { shape: Shape }]>): string {
  const lines = [...state].map(([key, { shape }]) => `${key} ${shape.join('x')}\n`);
  return createHash('sha256').update(lines.join('')).digest('hex');
}

/** Two products with fixed probes, the sum of squares, and three elements. */
export function modelChecksums(key: string, data: ArrayLike<number>): number[] {
  const probes = [0, 1].map((i) => uniform(`probe${i}/${key}`, Math.min(data.length, table.period)));
  const sums = [0, 0, 0];
  for (let i = 0, k = 0; i < data.length; i++, k = k + 1 === table.period ? 0 : k + 1) {
    const value = data[i] as number;
    sums[0]! += value * probes[0]![k]!;
    sums[1]! += value * probes[1]![k]!;
    sums[2]! += value * value;
  }
  return [...sums, ...[0, 1, 2].map((i) => data[Math.floor((data.length * i) / 3)] as number)];
}
