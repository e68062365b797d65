// Windows that slide over images: the options of pooling and convolution, resolved per axis.
import { checkFlag } from '../tensor/create.ts';
import { printed } from '../tensor/printed.ts';

/** One number for both axes, or [vertical, horizontal]. */
export type Pair = number | readonly [number, number];

/** Padding of all sides, per axis, or per side as [[top, bottom], [left, right]]; 'same' keeps the size at stride 1 (PyTorch's rule). */
export type Padding = Pair | readonly [readonly [number, number], readonly [number, number]] | 'same';

/** Options that say where windows lie. */
export interface WindowOptions {
  /** Distance between windows. */
  stride?: Pair | undefined;
  padding?: Padding | undefined;
  /** Distance between the taps of a window. */
  dilation?: Pair | undefined;
  /** Whether the last window may hang over the end; it starts inside the input or the padding before it. */
  ceilMode?: boolean | undefined;
}

/** A window sliding along one axis. */
export interface WindowAxis {
  /** Extent of the input. */
  readonly size: number;
  /** Taps of the window. */
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  /** Padding at both ends. */
  readonly before: number;
  readonly after: number;
  /** Positions of the window. */
  readonly outputs: number;
}

/** Both numbers of an option. Throws unless they are whole numbers >= `minimum`. */
export function pairOf(op: string, name: string, value: Pair, minimum = 1): readonly [number, number] {
  const pair = typeof value === 'number' ? ([value, value] as const) : value;
  if (!Array.isArray(pair) || pair.length !== 2 || !pair.every((each) => typeof each === 'number'))
    throw new TypeError(`${op}: ${name} must be a number or a pair of numbers, got ${printed(value)}`);
  if (!pair.every((each) => Number.isInteger(each) && each >= minimum))
    throw new RangeError(`${op}: ${name} must be a whole number >= ${minimum}, got ${printed(value)}`);
  return pair as unknown as readonly [number, number];
}

/** Padding before and after, for each axis. */
function sidesOf(
  op: string,
  padding: Padding,
  reach: readonly number[],
  stride: readonly number[],
): (readonly [number, number])[] {
  if (padding === 'same') {
    if (stride.some((each) => each !== 1))
      throw new RangeError(`${op}: padding 'same' needs stride 1, got [${stride.join(',')}]`);
    // An odd total puts the extra zero behind.
    return reach.map((taps) => [Math.floor((taps - 1) / 2), Math.ceil((taps - 1) / 2)]);
  }
  if (typeof padding === 'string')
    throw new TypeError(`${op}: padding must be numbers or 'same', got ${printed(padding)}; PyTorch's 'valid' is 0`);
  if (Array.isArray(padding) && padding.length === 2 && padding.every(Array.isArray))
    return padding.map((side: Pair) => pairOf(op, 'padding', side, 0));
  return pairOf(op, 'padding', padding as Pair, 0).map((side) => [side, side]);
}

/** Floor or ceiling of the number of positions; a window that would start in the padding behind does not count. */
function countOutputs(room: number, stride: number, end: number, ceilMode: boolean): number {
  if (!ceilMode) return Math.floor(room / stride) + 1;
  const count = Math.ceil(room / stride) + 1;
  return (count - 1) * stride >= end ? count - 1 : count;
}

const AXES = ['height', 'width'];

/**
 * The vertical and the horizontal axis of windows over planes of `size`: floor((n + before + after - dilation (kernel - 1) - 1) / stride) + 1
 * positions each, ceil with `ceilMode`. Throws for options out of range and for a window larger than the padded input.
 */
export function windowAxes(
  op: string,
  size: readonly [number, number],
  kernel: readonly [number, number],
  options: WindowOptions,
): readonly [rows: WindowAxis, columns: WindowAxis] {
  const stride = pairOf(op, 'stride', options.stride === undefined ? 1 : options.stride);
  const dilation = pairOf(op, 'dilation', options.dilation === undefined ? 1 : options.dilation);
  checkFlag(op, 'ceilMode', options.ceilMode);
  const reach = kernel.map((taps, i) => dilation[i]! * (taps - 1) + 1);
  const sides = sidesOf(op, options.padding === undefined ? 0 : options.padding, reach, stride);
  const axis = (i: 0 | 1): WindowAxis => {
    const [before, after] = sides[i]!;
    const room = size[i] + before + after - reach[i]!;
    if (room < 0)
      throw new RangeError(
        `${op}: the window's ${AXES[i]} ${reach[i]} is larger than the padded input's, ${size[i]} + ${before} + ${after}`,
      );
    const outputs = countOutputs(room, stride[i], size[i] + before, options.ceilMode ?? false);
    return { size: size[i], kernel: kernel[i], stride: stride[i], dilation: dilation[i], before, after, outputs };
  };
  return [axis(0), axis(1)];
}
