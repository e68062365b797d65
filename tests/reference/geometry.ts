// Options as people write them, resolved per axis: shared by convolution and pooling.
import type { Shape } from './values.ts';

/** One number for both axes, or one for each. */
export type PairOption = number | readonly [number, number];

/** All sides, per axis, or per side: [[top, bottom], [left, right]]. */
export type PaddingOption = PairOption | readonly [readonly [number, number], readonly [number, number]] | 'same';

/** A window sliding along one axis. `before` and `after` are the padding; `outputs` counts its positions. */
export interface Axis {
  size: number;
  kernel: number;
  stride: number;
  dilation: number;
  before: number;
  after: number;
  outputs: number;
}

/** The number for axis 0 (vertical) or 1 (horizontal). */
export function onAxis(option: PairOption, axis: 0 | 1): number {
  return typeof option === 'number' ? option : option[axis];
}

/** Distance from the first to the last tap, plus one. */
function reach(kernel: number, dilation: number): number {
  return dilation * (kernel - 1) + 1;
}

function sides(padding: PaddingOption, axis: 0 | 1, span: number): readonly [number, number] {
  // PyTorch's rule: an odd total puts the extra zero behind.
  if (padding === 'same') return [Math.floor((span - 1) / 2), Math.ceil((span - 1) / 2)];
  const side = typeof padding === 'number' ? padding : padding[axis];
  return typeof side === 'number' ? [side, side] : side;
}

/** Positions of the window; with `ceilMode` the last may hang over, but must start inside the input or the padding before it. */
function countOutputs(axis: Omit<Axis, 'outputs'>, ceilMode: boolean): number {
  const room = axis.size + axis.before + axis.after - reach(axis.kernel, axis.dilation);
  if (!ceilMode) return Math.floor(room / axis.stride) + 1;
  const count = Math.ceil(room / axis.stride) + 1;
  return (count - 1) * axis.stride >= axis.size + axis.before ? count - 1 : count;
}

export interface WindowOptions {
  stride?: PairOption;
  padding?: PaddingOption;
  dilation?: PairOption;
  ceilMode?: boolean;
}

/** The vertical (0) or horizontal (1) axis of a window over [N, C, H, W]. */
export function windowAxis(shape: Shape, kernel: PairOption, options: WindowOptions, axis: 0 | 1): Axis {
  const extent = onAxis(kernel, axis);
  const dilation = onAxis(options.dilation ?? 1, axis);
  const [before, after] = sides(options.padding ?? 0, axis, reach(extent, dilation));
  const stride = onAxis(options.stride ?? 1, axis);
  const fixed = { size: shape[2 + axis] as number, kernel: extent, stride, dilation, before, after };
  return { ...fixed, outputs: countOutputs(fixed, options.ceilMode ?? false) };
}

/** Where tap `tap` of the window at `output` lies on its axis, or -1 if that is padding. */
export function tapPosition(axis: Axis, output: number, tap: number): number {
  const position = output * axis.stride - axis.before + tap * axis.dilation;
  return position < axis.size ? Math.max(position, -1) : -1;
}
