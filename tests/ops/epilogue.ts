// What compile fuses into a convolution: y = clamp(conv(x, weight * scale) + bias + residual, lo, hi), asked of whichever algorithm
// computes it, beside the answer on small integers.
import { conv2dOp } from '../../ts/ops/conv2d.ts';
import { channelsLast } from '../../ts/ops/copy.ts';
import { apply } from '../../ts/tensor/apply.ts';
import type { Operand } from '../../ts/tensor/op.ts';
import { type Conv2dCase, conv2dInputs } from '../cases/conv2d.ts';
import * as oracle from '../reference/conv2d.ts';
import { type Numbers, smallIntegers } from '../reference/values.ts';
import { type Input, solve } from './harness.ts';

const [lo, hi] = [-30, 50];

/** The op with an activation fused. */
const clamped: typeof conv2dOp = {
  ...conv2dOp,
  infer(inputs, options) {
    const { geometry, outputs } = conv2dOp.infer(inputs, options);
    return { geometry: { ...geometry, lo, hi }, outputs };
  },
};

/** What the epilogue takes, for `describe.each`. */
export const epilogues = ['residual', 'scale', 'bias, residual, scale'] as const;

/** The engine's y, the expected one, and the sums before anything is added to them or clamped but the bias. */
export function solveEpilogue(
  task: Conv2dCase,
  epilogue: (typeof epilogues)[number],
): { y: Numbers; expected: number[]; sums: number[] } {
  const { geometry, x, weight, bias } = conv2dInputs(task, smallIntegers);
  const outputs = geometry.y[1]!;
  const scale = epilogue.includes('scale') ? smallIntegers('scale', [outputs]) : null;
  const residual = epilogue.includes('residual') ? smallIntegers('residual', geometry.y) : null;
  const added = epilogue.includes('bias') ? (bias ?? smallIntegers('bias', [outputs])) : null;
  const inputs: Record<string, Input> = {
    x: { data: x, shape: task.x, constant: true },
    weight: { data: weight, shape: task.weight, layout: 'channelsLast', constant: true },
  };
  if (scale) inputs.scale = { data: scale, shape: [outputs], constant: true };
  if (added) inputs.bias = { data: added, shape: [outputs], constant: true };
  if (residual) inputs.residual = { data: residual, shape: geometry.y, layout: 'channelsLast', constant: true };
  const { y } = solve({
    inputs,
    run: (given) => {
      const operands: Operand[] = [channelsLast(given.x!), given.weight!];
      operands.push(given.bias ?? null, given.residual ?? null, given.scale ?? null);
      return apply(clamped, operands, task.options ?? {})[0]!;
    },
  });
  const perOutput = weight.length / outputs;
  const scaled = weight.map((value, i) => value * (scale ? scale[Math.floor(i / perOutput)]! : 1));
  const sums = [...oracle.conv2d(x, scaled, added, geometry)];
  const expected = sums.map((sum, i) => Math.min(Math.max(sum + (residual ? residual[i]! : 0), lo), hi));
  return { y, expected, sums };
}
