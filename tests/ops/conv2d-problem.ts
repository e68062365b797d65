// A case of the list of convolutions as a problem for the harness.
import { conv2d } from '../../ts/ops/conv2d.ts';
import type { Conv2dCase, Conv2dInputs } from '../cases/conv2d.ts';
import { type Input, type Layout, layouts, type Problem } from './harness.ts';

/** Layouts of x, weight and upstream gradient. */
export type Layouts = Partial<Record<'x' | 'weight' | 'dy', Layout>>;

/** A convolution with its gradients. */
export function conv2dProblem(
  task: Conv2dCase,
  { geometry, x, weight, bias, dy }: Conv2dInputs,
  layout: Layouts = {},
): Problem {
  const inputs: Record<string, Input> = {
    x: { data: x, shape: task.x, layout: layout.x },
    weight: { data: weight, shape: task.weight, layout: layout.weight },
  };
  if (bias) inputs.bias = { data: bias, shape: [bias.length] };
  return {
    inputs,
    run: (given) => conv2d(given.x!, given.weight!, given.bias, task.options),
    dy: { data: dy, shape: geometry.y, layout: layout.dy },
  };
}

/** Layouts that each operand meets at least once. */
export const combinations: readonly Layouts[] = layouts.map((x, i) => ({
  x,
  weight: layouts[(i + 1) % layouts.length]!,
  dy: layouts[(i + 2) % layouts.length]!,
}));
