// The textbook's LeNet and its ReLU variant: lenet.json, with the weights, images and labels that belong to it.
import type { Tolerance } from '../reference/compare.ts';
import { type Four, integers, type Shape, values } from '../reference/values.ts';
import table from './lenet.json' with { type: 'json' };

/** Golden: 'lenet/<name>/logits', 'lenet/<name>/grad/<key>'; lists 'lenet/<name>/losses' and 'lenet/<name>/trained/<key>'. */
export interface LenetVariant {
  name: 'sigmoid' | 'relu';
  activation: 'Sigmoid' | 'ReLU';
  pool: 'AvgPool2d' | 'MaxPool2d';
  /** SGD's options for the ten training steps, all on the same batch. */
  optimizer: { lr: number; momentum?: number };
}

export const lenetVariants: readonly LenetVariant[] = table.variants as LenetVariant[];

/** Shapes by state-dict key. */
export const lenetShapes: Readonly<Record<string, Shape>> = table.parameters;

export const lenetSteps: number = table.steps;

/** Uniform within 1/sqrt(fan in); the fan in of a bias is its weight's. */
function parameter(key: string, shape: Shape): Float32Array {
  const weight = lenetShapes[key.replace('bias', 'weight')] as Shape;
  const fanIn = weight.slice(1).reduce((product, extent) => product * extent, 1);
  return values(`lenet/${key}`, shape, { scale: 1 / Math.sqrt(fanIn) });
}

/** The numbers to load before the first step, by state-dict key. */
export function lenetParameters(): Record<string, { shape: Shape; data: Float32Array }> {
  const entries = Object.entries(lenetShapes);
  return Object.fromEntries(entries.map(([key, shape]) => [key, { shape, data: parameter(key, shape) }]));
}

/** Images [16, 1, 28, 28] in [0, 1) and their labels [16]. */
export function lenetBatch(): { x: Float32Array; shape: Four; target: Int32Array } {
  const shape = [table.batch, 1, 28, 28] as const;
  const x = values('lenet/x', shape, { scale: 0.5, shift: 0.5 });
  return { x, shape, target: Int32Array.from(integers('lenet/target', table.batch, 0, 9)) };
}

/** What 'lenet/<name>/trained/<key>' lists of a parameter after training: its sum, and its product with a fixed probe. */
export function lenetChecksum(key: string, data: ArrayLike<number>): [sum: number, product: number] {
  const probe = values(`lenet/probe/${key}`, [data.length]);
  let [sum, product] = [0, 0];
  for (let i = 0; i < data.length; i++) {
    sum += data[i] as number;
    product += (data[i] as number) * (probe[i] as number);
  }
  return [sum, product];
}

// What PyTorch's own float32 run is off by, against the float64 numbers: logits 10, gradients up to 90 (sums over
// thousands of pixels that nearly cancel) times 2^-24 of the largest element; losses 6e-7; checksums 3e-6.

export const lenetTolerance: Readonly<Record<'logits' | 'gradient', Tolerance>> = {
  logits: { c: 8, terms: 16 },
  gradient: { c: 8, terms: 1024 },
};

/** Greatest difference of a training loss. */
export const lenetLossTolerance = 1e-5;

/** Greatest difference of either number of a checksum. */
export const lenetChecksumTolerance = 3e-5;
