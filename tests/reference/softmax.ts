// Softmax and log-softmax along one axis, in float64.
import { reduceGeometry } from './reduce.ts';
import type { Numbers, Shape } from './values.ts';

/** exp(x) / sum(exp(x)), shifted by the largest so that nothing overflows. */
function softmaxRow(x: number[]): number[] {
  const largest = Math.max(...x);
  const powers = x.map((number) => Math.exp(number - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((number) => number / sum);
}

function logSoftmaxRow(x: number[]): number[] {
  const largest = Math.max(...x);
  const sum = x.reduce((a, number) => a + Math.exp(number - largest), 0);
  return x.map((number) => number - largest - Math.log(sum));
}

/** Applies `row` along `dim` to every line of numbers; lines of several tensors of the same shape go together. */
function alongDim(
  tensors: Numbers[],
  shape: Shape,
  dim: number,
  row: (...lines: number[][]) => number[],
): Float64Array {
  const y = new Float64Array(tensors[0]!.length);
  for (const group of reduceGeometry(shape, { dim }).groups) {
    const line = row(...tensors.map((tensor) => group.map((index) => tensor[index]!)));
    group.forEach((index, i) => {
      y[index] = line[i]!;
    });
  }
  return y;
}

export function softmax(x: Numbers, shape: Shape, dim: number): Float64Array {
  return alongDim([x], shape, dim, softmaxRow);
}

export function logSoftmax(x: Numbers, shape: Shape, dim: number): Float64Array {
  return alongDim([x], shape, dim, logSoftmaxRow);
}

/** dx = y * (dy - sum(dy * y)). */
export function softmaxGrad(dy: Numbers, x: Numbers, shape: Shape, dim: number): Float64Array {
  return alongDim([dy, x], shape, dim, (dyLine, xLine) => {
    const y = softmaxRow(xLine!);
    const mean = y.reduce((sum, share, i) => sum + share * dyLine![i]!, 0);
    return y.map((share, i) => share * (dyLine![i]! - mean));
  });
}

/** dx = dy - softmax(x) * sum(dy). */
export function logSoftmaxGrad(dy: Numbers, x: Numbers, shape: Shape, dim: number): Float64Array {
  return alongDim([dy, x], shape, dim, (dyLine, xLine) => {
    const sum = dyLine!.reduce((a, b) => a + b, 0);
    return softmaxRow(xLine!).map((share, i) => dyLine![i]! - share * sum);
  });
}
