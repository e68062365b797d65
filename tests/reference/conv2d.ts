// Convolution in float64, for understanding: one walk over index triples defines it and both its gradients.
//
//   y[iy] += x[ix] * w[iw]     dx[ix] += dy[iy] * w[iw]     dw[iw] += x[ix] * dy[iy]     for every tap (iy, ix, iw)
import { type Axis, type PaddingOption, type PairOption, tapPosition, windowAxis } from './geometry.ts';
import { coordinates } from './indices.ts';
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

/**
 * Every product of the convolution as indices into y, x and w; taps in the padding are left out. It calls back instead of
 * yielding, which made the tests of convolutions wait for their oracle.
 */
export function forEachTap(
  { x, weight, y, rows, columns, groups }: Conv2dGeometry,
  visit: (iy: number, ix: number, iw: number) => void,
): void {
  const [, C, H, W] = x;
  const [O, channels, KH, KW] = weight;
  for (let iy = 0; iy < sizeOf(y); iy++) {
    const [n, o, oh, ow] = coordinates(iy, y);
    const firstPlane = n * C + Math.floor(o / (O / groups)) * channels;
    for (let c = 0; c < channels; c++) {
      for (let kh = 0; kh < KH; kh++) {
        const h = tapPosition(rows, oh, kh);
        if (h < 0) continue;
        for (let kw = 0; kw < KW; kw++) {
          const w = tapPosition(columns, ow, kw);
          if (w >= 0) visit(iy, ((firstPlane + c) * H + h) * W + w, ((o * channels + c) * KH + kh) * KW + kw);
        }
      }
    }
  }
}

/** Output channel of element iy of y. */
function channelOf(iy: number, [, channels, OH, OW]: Four): number {
  return Math.floor(iy / (OH * OW)) % channels;
}

export function conv2d(x: Numbers, w: Numbers, bias: Numbers | null, geometry: Conv2dGeometry): Float64Array {
  const y = new Float64Array(sizeOf(geometry.y));
  forEachTap(geometry, (iy, ix, iw) => {
    y[iy]! += x[ix]! * w[iw]!;
  });
  return bias ? y.map((sum, iy) => sum + bias[channelOf(iy, geometry.y)]!) : y;
}

export function conv2dInputGrad(dy: Numbers, w: Numbers, geometry: Conv2dGeometry): Float64Array {
  const dx = new Float64Array(sizeOf(geometry.x));
  forEachTap(geometry, (iy, ix, iw) => {
    dx[ix]! += dy[iy]! * w[iw]!;
  });
  return dx;
}

export function conv2dWeightGrad(x: Numbers, dy: Numbers, geometry: Conv2dGeometry): Float64Array {
  const dw = new Float64Array(sizeOf(geometry.weight));
  forEachTap(geometry, (iy, ix, iw) => {
    dw[iw]! += x[ix]! * dy[iy]!;
  });
  return dw;
}

export function conv2dBiasGrad(dy: Numbers, geometry: Conv2dGeometry): Float64Array {
  const db = new Float64Array(geometry.y[1]);
  for (let iy = 0; iy < dy.length; iy++) db[channelOf(iy, geometry.y)]! += dy[iy]!;
  return db;
}
