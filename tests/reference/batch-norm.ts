// Batch normalisation as it is defined, in float64: the oracle.
import type { Numbers, Shape } from './values.ts';

/** One number per channel, and the number of elements behind it. */
export interface Moments {
  mean: number[];
  variance: number[];
  count: number;
}

/** Channel of element `i`. */
function channelOf([, C, ...rest]: Shape, i: number): number {
  const plane = rest.reduce((product, extent) => product * extent, 1);
  return Math.floor(i / plane) % C!;
}

/** Sums over all elements of a channel. */
function perChannel(shape: Shape, term: (i: number, channel: number) => number): number[] {
  const sums = new Array<number>(shape[1]!).fill(0);
  const size = shape.reduce((product, extent) => product * extent, 1);
  for (let i = 0; i < size; i++) {
    const channel = channelOf(shape, i);
    sums[channel]! += term(i, channel);
  }
  return sums;
}

/** Mean and biased variance of each channel. */
export function momentsOf(x: Numbers, shape: Shape): Moments {
  const count = x.length / shape[1]!;
  const mean = perChannel(shape, (i) => x[i]! / count);
  return { mean, variance: perChannel(shape, (i, c) => (x[i]! - mean[c]!) ** 2 / count), count };
}

/** What the formula is about. */
export interface Norm {
  x: Numbers;
  shape: Shape;
  weight: Numbers | null;
  bias: Numbers | null;
  eps: number;
}

export function batchNorm({ x, shape, weight, bias, eps }: Norm, { mean, variance }: Moments): Float64Array {
  return Float64Array.from(x as ArrayLike<number>, (value, i) => {
    const c = channelOf(shape, i);
    return ((value - mean[c]!) / Math.sqrt(variance[c]! + eps)) * (weight?.[c] ?? 1) + (bias?.[c] ?? 0);
  });
}

/** Gradients; `batch` says that the moments are those of x itself. */
export function batchNormGrad(
  { x, shape, weight, eps }: Norm,
  { mean, variance, count }: Moments,
  dy: Numbers,
  batch: boolean,
): { dx: Float64Array; dweight: number[]; dbias: number[] } {
  const normalised = (i: number, c: number): number => (x[i]! - mean[c]!) / Math.sqrt(variance[c]! + eps);
  const dbias = perChannel(shape, (i) => dy[i]!);
  const dweight = perChannel(shape, (i, c) => dy[i]! * normalised(i, c));
  const dx = Float64Array.from(x as ArrayLike<number>, (_, i) => {
    const c = channelOf(shape, i);
    const scale = (weight?.[c] ?? 1) / Math.sqrt(variance[c]! + eps);
    const shared = batch ? (dbias[c]! + normalised(i, c) * dweight[c]!) / count : 0;
    return scale * (dy[i]! - shared);
  });
  return { dx, dweight, dbias };
}
