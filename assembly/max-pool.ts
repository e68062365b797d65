// Max pooling. A tile is a block of output rows (forward), or of channels of one image (maxPool2dGrad, which scatters), so that no
// two tiles write the same element.
import { WindowsArgs, firstInner, firstTap, group, lastInner, lastTap } from './pool-windows';
import { Input, Output } from './record';
import { select, storeLanes } from './vector';


@unmanaged
export class PoolArgs extends WindowsArgs {
  DH: i32;
  DW: i32;
  /** Output rows per tile, counted over all images. */
  block: i32;
}

/** PoolArgs and where the indices go. */
@unmanaged
export class PoolIndicesArgs extends PoolArgs {
  /** i32, as y: h W + w of the maximum in its input plane, -1 where a window holds no element. */
  indices: Output;
}


@unmanaged
export class MaxPoolGradArgs {
  dx: Output;
  dy: Input;
  indices: Input;
  N: i32;
  C: i32;
  /** Elements of an input plane and of an output plane. */
  inputs: i32;
  outputs: i32;
  /** Channels per tile. */
  block: i32;
}


@unmanaged
export class MaxPoolPickArgs {
  y: Output;
  x: Input;
  indices: Input;
  N: i32;
  C: i32;
  inputs: i32;
  outputs: i32;
  /** Output pixels per tile, counted over all images. */
  block: i32;
}

/** Max pooling without indices. NaN wins. */
export function maxPool2d(args: PoolArgs, first: i32, last: i32, lane: i32): void {
  maxRows(args, 0, first, last);
}

/** Max pooling with indices: the first of equal values, the last of several NaN, as PyTorch's `value > max || isnan(value)`. */
export function maxPool2dIndices(args: PoolIndicesArgs, first: i32, last: i32, lane: i32): void {
  maxRows(changetype<PoolArgs>(args), args.indices, first, last);
}

function maxRows(args: PoolArgs, indices: usize, first: i32, last: i32): void {
  const rowBytes = (<usize>(args.OW * args.C)) << 2;
  const end = min(args.N * args.OH, last * args.block);
  const plain = args.KH == 2 && args.KW == 2 && args.DH == 1 && args.DW == 1;
  for (let row = first * args.block; row < end; row++) {
    const n = row / args.OH;
    const h = (row - n * args.OH) * args.SH - args.PT;
    const image = args.x + ((<usize>(n * args.H * args.W * args.C)) << 2);
    const y = args.y + <usize>row * rowBytes;
    const at = indices ? indices + <usize>row * rowBytes : 0;
    if (plain && h >= 0 && h + 2 <= args.H) maxRow2x2(args, y, at, image, h);
    else maxRow(args, y, at, image, h, 0, args.OW);
  }
}

/** Windows ow .. end - 1 of one output row whose windows start at input row `h`. */
function maxRow(args: PoolArgs, y: usize, indices: usize, image: usize, h: i32, ow: i32, end: i32): void {
  const C = args.C;
  const pixel = (<usize>C) << 2;
  const tapDown = args.DH * args.W;
  const kh0 = firstTap(h, args.DH);
  const down = lastTap(h, args.DH, args.KH, args.H) - kh0;
  y += <usize>ow * pixel;
  if (indices) indices += <usize>ow * pixel;
  for (; ow < end; ow++, y += pixel) {
    const w = ow * args.SW - args.PL;
    const kw0 = firstTap(w, args.DW);
    const across = lastTap(w, args.DW, args.KW, args.W) - kw0;
    if (down <= 0 || across <= 0) {
      emptyWindow(y, indices, C);
    } else {
      const corner = (h + kh0 * args.DH) * args.W + w + kw0 * args.DW;
      const x = image + <usize>corner * pixel;
      if (indices) indexWindow(y, indices, x, C, corner, down, across, tapDown, args.DW);
      else maxWindow(y, x, C, down, across, <usize>tapDown * pixel, <usize>args.DW * pixel);
    }
    if (indices) indices += pixel;
  }
}

/** A window without elements, which only dilation beyond the input can make: -inf, index -1. */
function emptyWindow(y: usize, indices: usize, C: i32): void {
  for (let c = 0; c < C; c++) {
    store<f32>(y + ((<usize>c) << 2), -Infinity);
    if (indices) store<i32>(indices + ((<usize>c) << 2), -1);
  }
}

/** Lanes where x replaces best: where it is larger, or NaN. */
// @ts-ignore: decorator
@inline
function takes(x: v128, best: v128): v128 {
  return v128.or(f32x4.gt(x, best), f32x4.ne(x, x));
}

/** Maximum over down x across taps, for all channels of one pixel. */
function maxWindow(y: usize, x: usize, C: i32, down: i32, across: i32, tapDown: usize, tapAcross: usize): void {
  let c = 0;
  for (; c + 8 <= C; c += 8, x += 32, y += 32) {
    let best0 = v128.load(x);
    let best1 = v128.load(x, 16);
    let line = x;
    for (let kh = 0; kh < down; kh++, line += tapDown) {
      let tap = line;
      for (let kw = 0; kw < across; kw++, tap += tapAcross) {
        const x0 = v128.load(tap);
        const x1 = v128.load(tap, 16);
        best0 = select(takes(x0, best0), x0, best0);
        best1 = select(takes(x1, best1), x1, best1);
      }
    }
    v128.store(y, best0);
    v128.store(y, best1, 16);
  }
  for (let rest = C - c; rest > 0; rest -= 4, x += 16, y += 16) {
    const back: usize = rest < 4 && C >= 4 ? (<usize>(4 - rest)) << 2 : 0;
    let line = x - back;
    let best = v128.load(line);
    for (let kh = 0; kh < down; kh++, line += tapDown) {
      let tap = line;
      for (let kw = 0; kw < across; kw++, tap += tapAcross) {
        const value = v128.load(tap);
        best = select(takes(value, best), value, best);
      }
    }
    storeLanes(y - back, best, C);
  }
}

/** The same with the index of each maximum; `corner` is the index of the first tap. */
function indexWindow(
  y: usize,
  indices: usize,
  x: usize,
  C: i32,
  corner: i32,
  down: i32,
  across: i32,
  tapDown: i32,
  tapAcross: i32,
): void {
  const pixel = (<usize>C) << 2;
  for (let c = 0; c < C; c += 4) {
    const at = group(c, C);
    let best = v128.load(x + at);
    let index = i32x4.splat(corner);
    for (let kh = 0; kh < down; kh++) {
      let here = corner + kh * tapDown;
      let tap = x + at + <usize>(kh * tapDown) * pixel;
      for (let kw = 0; kw < across; kw++, here += tapAcross, tap += <usize>tapAcross * pixel) {
        const value = v128.load(tap);
        const mask = takes(value, best);
        best = select(mask, value, best);
        index = select(mask, i32x4.splat(here), index);
      }
    }
    storeLanes(y + at, best, C);
    storeLanes(indices + at, index, C);
  }
}

/** One output row of 2 x 2 windows: the ones inside the input without loops over taps, the ones at the edges as maxRow does. */
function maxRow2x2(args: PoolArgs, y: usize, indices: usize, image: usize, h: i32): void {
  const pixel = (<usize>args.C) << 2;
  const inner0 = firstInner(args.PL, args.SW, args.OW);
  const inner1 = lastInner(args.PL, 2, args.SW, args.W, args.OW, inner0);
  if (inner0 > 0) maxRow(args, y, indices, image, h, 0, inner0);
  const corner = h * args.W + inner0 * args.SW - args.PL;
  const x = image + <usize>corner * pixel;
  const at = <usize>inner0 * pixel;
  if (indices) indices2x2(y + at, indices + at, x, inner1 - inner0, args.C, args.W, args.SW, corner);
  else max2x2(y + at, x, inner1 - inner0, args.C, <usize>args.W * pixel, <usize>args.SW * pixel);
  if (inner1 < args.OW) maxRow(args, y, indices, image, h, inner1, args.OW);
}

function max2x2(y: usize, x: usize, count: i32, C: i32, down: usize, step: usize): void {
  const pixel = (<usize>C) << 2;
  for (; count > 0; count--, x += step, y += pixel) {
    for (let c = 0; c < C; c += 4) {
      const at = group(c, C);
      const a = x + at;
      const b = a + down;
      let best = v128.load(a);
      let value = v128.load(a + pixel);
      best = select(takes(value, best), value, best);
      value = v128.load(b);
      best = select(takes(value, best), value, best);
      value = v128.load(b + pixel);
      best = select(takes(value, best), value, best);
      storeLanes(y + at, best, C);
    }
  }
}

function indices2x2(y: usize, indices: usize, x: usize, count: i32, C: i32, W: i32, SW: i32, corner: i32): void {
  const pixel = (<usize>C) << 2;
  const down = <usize>W * pixel;
  const step = <usize>SW * pixel;
  for (; count > 0; count--, x += step, y += pixel, indices += pixel, corner += SW) {
    for (let c = 0; c < C; c += 4) {
      const at = group(c, C);
      const a = x + at;
      const b = a + down;
      let best = v128.load(a);
      let index = i32x4.splat(corner);
      let value = v128.load(a + pixel);
      let mask = takes(value, best);
      best = select(mask, value, best);
      index = select(mask, i32x4.splat(corner + 1), index);
      value = v128.load(b);
      mask = takes(value, best);
      best = select(mask, value, best);
      index = select(mask, i32x4.splat(corner + W), index);
      value = v128.load(b + pixel);
      mask = takes(value, best);
      best = select(mask, value, best);
      index = select(mask, i32x4.splat(corner + W + 1), index);
      storeLanes(y + at, best, C);
      storeLanes(indices + at, index, C);
    }
  }
}

/** dx = 0, then dx[index] += dy in the order of the outputs. Tile: one image, one block of channels. */
export function maxPool2dGrad(args: MaxPoolGradArgs, first: i32, last: i32, lane: i32): void {
  const C = args.C;
  const across = (C + args.block - 1) / args.block;
  for (let tile = first; tile < last; tile++) {
    const n = tile / across;
    const c = (tile - n * across) * args.block;
    const count = min(args.block, C - c);
    const dx = args.dx + ((<usize>(n * args.inputs * C + c)) << 2);
    const at = (<usize>(n * args.outputs * C + c)) << 2;
    if (count == C) memory.fill(dx, 0, (<usize>(args.inputs * C)) << 2);
    else clearColumns(dx, args.inputs, (<usize>C) << 2, (<usize>count) << 2);
    for (let o = 0; o < args.outputs; o++) {
      const offset = at + ((<usize>(o * C)) << 2);
      scatter(dx, args.dy + offset, args.indices + offset, count, C, args.inputs);
    }
  }
}

function clearColumns(dx: usize, rows: i32, stride: usize, bytes: usize): void {
  for (; rows > 0; rows--, dx += stride) memory.fill(dx, 0, bytes);
}

/** One output pixel. Indices outside the plane get nothing. */
function scatter(dx: usize, dy: usize, indices: usize, count: i32, C: i32, inputs: i32): void {
  for (let c = 0; c < count; c++, dx += 4, dy += 4, indices += 4) {
    const index = load<i32>(indices);
    if (<u32>index >= <u32>inputs) continue;
    const target = dx + ((<usize>(index * C)) << 2);
    store<f32>(target, load<f32>(target) + load<f32>(dy));
  }
}

/** y = x[index], 0 for an index outside the plane: what maxPool2dGrad scatters, gathered. */
export function maxPool2dPick(args: MaxPoolPickArgs, first: i32, last: i32, lane: i32): void {
  const pixel = (<usize>args.C) << 2;
  const end = min(args.N * args.outputs, last * args.block);
  for (let o = first * args.block; o < end; o++) {
    const at = <usize>o * pixel;
    const x = args.x + <usize>((o / args.outputs) * args.inputs) * pixel;
    pick(args.y + at, x, args.indices + at, args.C, args.inputs);
  }
}

function pick(y: usize, x: usize, indices: usize, C: i32, inputs: i32): void {
  const pixel = (<usize>C) << 2;
  for (let c = 0; c < C; c++, y += 4, x += 4, indices += 4) {
    const index = load<i32>(indices);
    store<f32>(y, <u32>index < <u32>inputs ? load<f32>(x + <usize>index * pixel) : 0);
  }
}
