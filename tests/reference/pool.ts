// Pooling in float64, for understanding. A window is the list of input indices it covers, in row-major order.
import { type Axis, type PairOption, tapPosition, type WindowOptions, windowAxis } from './geometry.ts';
import { offset, places } from './indices.ts';
import { type Four, type Numbers, sizeOf } from './values.ts';

export interface Pool2dOptions extends WindowOptions {
  countIncludePad?: boolean;
  divisorOverride?: number;
}

/** x [N, C, H, W], y [N, C, OH, OW]. */
export interface Pool2dGeometry {
  x: Four;
  y: Four;
  rows: Axis;
  columns: Axis;
  options: Pool2dOptions;
}

/** The stride is the kernel unless the options say otherwise. */
export function pool2dGeometry(x: Four, kernel: PairOption, options: Pool2dOptions = {}): Pool2dGeometry {
  const strided = { stride: kernel, ...options };
  const rows = windowAxis(x, kernel, strided, 0);
  const columns = windowAxis(x, kernel, strided, 1);
  return { x, y: [x[0], x[1], rows.outputs, columns.outputs], rows, columns, options };
}

/** For each output in order: its row and column, and the input indices under its window. */
function* windows({ x, y, rows, columns }: Pool2dGeometry): Generator<{ oh: number; ow: number; inside: number[] }> {
  const kernel = [...places([rows.kernel, columns.kernel] as const)];
  for (const [n, c, oh, ow] of places(y)) {
    const taps = kernel.map(([kh, kw]) => [tapPosition(rows, oh, kh), tapPosition(columns, ow, kw)] as const);
    const inside = taps.filter(([h, w]) => h >= 0 && w >= 0).map(([h, w]) => offset([n, c, h, w], x));
    yield { oh, ow, inside };
  }
}

/** PyTorch's rule: the first of equal numbers wins, but NaN beats every number and a later NaN an earlier one. */
function indexOfMax(x: Numbers, inside: number[]): number {
  return inside.reduce((best, ix) => (x[ix]! > x[best]! || Number.isNaN(x[ix]!) ? ix : best), inside[0]!);
}

/** Index into x of each window's maximum. */
export function maxPool2dIndices(x: Numbers, geometry: Pool2dGeometry): Int32Array {
  return Int32Array.from(windows(geometry), ({ inside }) => indexOfMax(x, inside));
}

export function maxPool2d(x: Numbers, geometry: Pool2dGeometry): Float64Array {
  return Float64Array.from(maxPool2dIndices(x, geometry), (ix) => x[ix]!);
}

export function maxPool2dGrad(dy: Numbers, x: Numbers, geometry: Pool2dGeometry): Float64Array {
  const dx = new Float64Array(x.length);
  maxPool2dIndices(x, geometry).forEach((ix, iy) => {
    dx[ix]! += dy[iy]!;
  });
  return dx;
}

/** Length of a window that counts the padding, but not what `ceilMode` lets hang over behind it. */
function paddedExtent(axis: Axis, output: number): number {
  const start = output * axis.stride - axis.before;
  return Math.min(start + axis.kernel, axis.size + axis.after) - start;
}

function divisor({ rows, columns, options }: Pool2dGeometry, oh: number, ow: number, inside: number): number {
  if (options.divisorOverride !== undefined) return options.divisorOverride;
  if (options.countIncludePad === false) return inside;
  return paddedExtent(rows, oh) * paddedExtent(columns, ow);
}

export function avgPool2d(x: Numbers, geometry: Pool2dGeometry): Float64Array {
  return Float64Array.from(windows(geometry), ({ oh, ow, inside }) => {
    const sum = inside.reduce((total, ix) => total + x[ix]!, 0);
    return sum / divisor(geometry, oh, ow, inside.length);
  });
}

export function avgPool2dGrad(dy: Numbers, geometry: Pool2dGeometry): Float64Array {
  const dx = new Float64Array(sizeOf(geometry.x));
  let iy = 0;
  for (const { oh, ow, inside } of windows(geometry)) {
    const share = dy[iy++]! / divisor(geometry, oh, ow, inside.length);
    for (const ix of inside) dx[ix]! += share;
  }
  return dx;
}
