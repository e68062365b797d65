// Patches of a convolution, cut from a channels-last source:
//
//   patch[(image, i, j), (tap, c)] = x[image, i * stepY + dy(tap), j * stepX + dx(tap), c], zero outside the source
//
// Taps that are neighbours in a row of the source form a *run*: with contiguous channels its patch floats are one copy.
import { storePair } from './vector';

export const RUN_WORDS: i32 = 3;
/** Scratch for a row of the source with zeros around it, and the longest run that is cut from it. */
export const LINE_FLOATS: i32 = 1024;
const LINE_RUN: i32 = 128;

/** Where patches are cut from; conv2d and conv2dWeightGrad have these fields in common and hand them on. */
@unmanaged
export class Source {
  height: i32;
  width: i32;
  xImage: i32;
  xRow: i32;
  xColumn: i32;
  stepY: i32;
  stepX: i32;
  groups: i32;
  channels: i32;
}

/**
 * Writes patch[m, k] for m0 <= m < m0 + count and k0 <= k < k1 to `to`, rows `stride` bytes apart. Copies go four floats at a time
 * and may run over the end of a row by up to three.
 */
export function gatherPatches(
  source: Source,
  x: usize,
  runs: usize,
  runCount: i32,
  rows: i32,
  columns: i32,
  m0: i32,
  count: i32,
  k0: i32,
  k1: i32,
  to: usize,
  stride: usize,
  line: usize,
): void {
  let m = m0;
  while (m < m0 + count) {
    const j = m % columns;
    const row = m / columns;
    const pixels = min(columns - j, m0 + count - m);
    const image = x + ((<usize>((row / rows) * source.xImage)) << 2);
    gatherRow(source, image, runs, runCount, (row % rows) * source.stepY, j, pixels, k0, k1, to, stride, line);
    to += <usize>pixels * stride;
    m += pixels;
  }
}

/** The patches of `pixels` neighbours in one output row, run by run; `y` is the source row of a tap with dy = 0. */
function gatherRow(
  source: Source,
  image: usize,
  runs: usize,
  runCount: i32,
  y: i32,
  j: i32,
  pixels: i32,
  k0: i32,
  k1: i32,
  to: usize,
  stride: usize,
  line: usize,
): void {
  let start = 0;
  for (let r = 0; r < runCount; r++) {
    const run = runs + <usize>(r * RUN_WORDS) * 4;
    const taps = load<i32>(run, 8);
    const length = taps * source.channels;
    const first = max(k0 - start, 0);
    const last = min(k1 - start, length);
    if (first < last) {
      const row = y + load<i32>(run);
      const target = to + ((<usize>(start + first - k0)) << 2);
      if (row < 0 || row >= source.height) {
        zeroPixels(target, stride, pixels, last - first);
      } else {
        const from = image + ((<usize>(row * source.xRow)) << 2);
        gatherRun(source, from, load<i32>(run, 4), taps, first, last, j, pixels, target, stride, line);
      }
    }
    start += length;
  }
}

/**
 * The floats first .. last - 1 of one run, for `pixels` neighbours. Pixels whose whole run lies inside the row are plain copies.
 * Short runs that leave it are cut from a copy of the row with zeros around it.
 */
function gatherRun(
  source: Source,
  row: usize,
  dx: i32,
  taps: i32,
  first: i32,
  last: i32,
  j: i32,
  pixels: i32,
  to: usize,
  stride: usize,
  line: usize,
): void {
  const step = source.stepX;
  const x = j * step + dx;
  const span = (pixels - 1) * step + taps;
  const pixelBytes = (<usize>source.xColumn) << 2;
  const length = last - first;
  if (x >= 0 && x + span <= source.width) {
    copyPixels(
      to,
      stride,
      row + <usize>x * pixelBytes + ((<usize>first) << 2),
      <usize>step * pixelBytes,
      pixels,
      length,
    );
  } else if (source.xColumn == source.channels && span * source.channels <= LINE_FLOATS && length <= LINE_RUN) {
    gatherEdge(source, row, x, 0, span * source.channels, line);
    copyPixels(to, stride, line + ((<usize>first) << 2), <usize>step * pixelBytes, pixels, length);
  } else {
    gatherRagged(source, row, dx, taps, first, last, j, pixels, to, stride);
  }
}

/** Long runs: pixels at the edges one by one, those between them as copies. */
function gatherRagged(
  source: Source,
  row: usize,
  dx: i32,
  taps: i32,
  first: i32,
  last: i32,
  j: i32,
  pixels: i32,
  to: usize,
  stride: usize,
): void {
  const step = source.stepX;
  const end = j + pixels;
  const inside = min(end, max(j, dx < 0 ? (step - 1 - dx) / step : 0));
  const room = source.width - taps - dx;
  const outside = min(end, max(inside, room < 0 ? 0 : room / step + 1));
  for (; j < inside; j++) {
    gatherEdge(source, row, j * step + dx, first, last, to);
    to += stride;
  }
  if (j < outside) {
    const from = row + ((<usize>((j * step + dx) * source.xColumn + first)) << 2);
    copyPixels(to, stride, from, (<usize>(step * source.xColumn)) << 2, outside - j, last - first);
    to += <usize>(outside - j) * stride;
    j = outside;
  }
  for (; j < end; j++) {
    gatherEdge(source, row, j * step + dx, first, last, to);
    to += stride;
  }
}

/** The floats first .. last - 1 counted from source column x, where some of them may lie outside the row: zeros, copy, zeros. */
function gatherEdge(source: Source, row: usize, x: i32, first: i32, last: i32, to: usize): void {
  const low = min(max(first, -x * source.channels), last);
  const high = max(low, min(last, (source.width - x) * source.channels));
  zero(to, low - first);
  copy(to + ((<usize>(low - first)) << 2), row + ((<usize>(x * source.xColumn + low)) << 2), high - low);
  zero(to + ((<usize>(high - first)) << 2), last - high);
}

function copyPixels(to: usize, toStride: usize, from: usize, fromStride: usize, pixels: i32, count: i32): void {
  if (count <= 4) {
    for (let i = 0; i < pixels; i++) {
      v128.store(to, v128.load(from));
      to += toStride;
      from += fromStride;
    }
  } else if (count <= 8) {
    for (let i = 0; i < pixels; i++) {
      storePair(to, v128.load(from), v128.load(from, 16));
      to += toStride;
      from += fromStride;
    }
  } else {
    for (let i = 0; i < pixels; i++) {
      copy(to, from, count);
      to += toStride;
      from += fromStride;
    }
  }
}

function zeroPixels(to: usize, stride: usize, pixels: i32, count: i32): void {
  for (let i = 0; i < pixels; i++) {
    zero(to, count);
    to += stride;
  }
}

/** Copies `count` floats, rounded up to four. */
export function copy(to: usize, from: usize, count: i32): void {
  for (; count > 12; count -= 16) {
    storePair(to, v128.load(from), v128.load(from, 16));
    storePair(to + 32, v128.load(from, 32), v128.load(from, 48));
    to += 64;
    from += 64;
  }
  for (; count > 0; count -= 4) {
    v128.store(to, v128.load(from));
    to += 16;
    from += 16;
  }
}

/** Writes `count` zeros, rounded up to four. */
export function zero(to: usize, count: i32): void {
  const none = i32x4.splat(0);
  for (; count > 0; count -= 4) {
    v128.store(to, none);
    to += 16;
  }
}
