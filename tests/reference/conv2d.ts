// Convolution in float64, for understanding: one generator of index triples defines it and both its gradients.
//
//   y[iy] += x[ix] * w[iw]     dx[ix] += dy[iy] * w[iw]     dw[iw] += x[ix] * dy[iy]     for every tap (iy, ix, iw)
import { type Axis, type PaddingOption, type PairOption, tapPosition, windowAxis } from './geometry.ts';
import { offset, places } from './indices.ts';
import { type Four, type Numbers, sizeOf } from './values.ts';

export interface Conv2dOptions {
  stride?: PairOption;
  padding?: PaddingOption;
  dilation?: PairOption;
  groups?: number;
}

/** x [N, C, H, W], weight [O, C / groups, KH, KW], y [N, O, OH, OW]. */
export interface Conv2dGeometry {
  x: Four;
  weight: Four;
  y: Four;
  rows: Axis;
  columns: Axis;
  groups: number;
}

export function conv2dGeometry(x: Four, weight: Four, options: Conv2dOptions = {}): Conv2dGeometry {
  const [outputs, , KH, KW] = weight;
  const rows = windowAxis(x, [KH, KW], options, 0);
  const columns = windowAxis(x, [KH, KW], options, 1);
  return { x, weight, y: [x[0], outputs, rows.outputs, columns.outputs], rows, columns, groups: options.groups ?? 1 };
}

/** Every product of the convolution as indices into y, x and w; taps in the padding are left out. */
export function* taps({ x, weight, y, rows, columns, groups }: Conv2dGeometry): Generator<[number, number, number]> {
  const [outputs, channels, KH, KW] = weight;
  const kernel = [...places([channels, KH, KW] as const)];
  for (const [n, o, oh, ow] of places(y)) {
    const firstChannel = Math.floor(o / (outputs / groups)) * channels;
    for (const [c, kh, kw] of kernel) {
      const [h, w] = [tapPosition(rows, oh, kh), tapPosition(columns, ow, kw)];
      if (h < 0 || w < 0) continue;
      yield [offset([n, o, oh, ow], y), offset([n, firstChannel + c, h, w], x), offset([o, c, kh, kw], weight)];
    }
  }
}

/** Output channel of element iy of y. */
function channelOf(iy: number, [, channels, OH, OW]: Four): number {
  return Math.floor(iy / (OH * OW)) % channels;
}

export function conv2d(x: Numbers, w: Numbers, bias: Numbers | null, geometry: Conv2dGeometry): Float64Array {
  const y = new Float64Array(sizeOf(geometry.y));
  for (const [iy, ix, iw] of taps(geometry)) y[iy]! += x[ix]! * w[iw]!;
  return bias ? y.map((sum, iy) => sum + bias[channelOf(iy, geometry.y)]!) : y;
}

export function conv2dInputGrad(dy: Numbers, w: Numbers, geometry: Conv2dGeometry): Float64Array {
  const dx = new Float64Array(sizeOf(geometry.x));
  for (const [iy, ix, iw] of taps(geometry)) dx[ix]! += dy[iy]! * w[iw]!;
  return dx;
}

export function conv2dWeightGrad(x: Numbers, dy: Numbers, geometry: Conv2dGeometry): Float64Array {
  const dw = new Float64Array(sizeOf(geometry.weight));
  for (const [iy, ix, iw] of taps(geometry)) dw[iw]! += x[ix]! * dy[iy]!;
  return dw;
}

export function conv2dBiasGrad(dy: Numbers, geometry: Conv2dGeometry): Float64Array {
  const db = new Float64Array(geometry.y[1]);
  for (let iy = 0; iy < dy.length; iy++) db[channelOf(iy, geometry.y)]! += dy[iy]!;
  return db;
}
