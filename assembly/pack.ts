// B[k, n] -> panels of eight columns, the form in which every matrix product reads its right operand:
//
//   panel p = [ bias[8p .. 8p+7] | B[0, 8p .. 8p+7] | B[1, 8p .. 8p+7] | ... ],   columns beyond n are zero.
//
// A scale multiplies the columns of B (not the bias): BatchNorm folded into a convolution.
//
// B is any tensor in which k = (tap, channel) and n have strides, so one kernel serves B, B transposed, convolution weights in any
// layout and order of taps, and weights turned around for the input gradient.
import { Input, Output, Table } from './record';
import { laneMask, storePair } from './vector';

/** Bytes of a panel: the bias and k rows of eight floats. */
// @ts-ignore: decorator
@inline
export function panelBytes(k: i32): usize {
  return (<usize>(k + 1)) << 5;
}


@unmanaged
export class PackArgs {
  panels: Output;
  b: Input;
  /** n floats per matrix; address 0: the panels begin with zeros. */
  bias: Input;
  /** n floats per matrix; address 0: ones. */
  scale: Input;
  /** As in PanelSource. */
  taps: Table;
  tapCount: i32;
  channels: i32;
  strideChannel: i32;
  strideN: i32;
  n: i32;
  /** Elements from one matrix (batch, group) to the next. */
  strideMatrix: i32;
  panelsPerTile: i32;
}

/** Where the elements of a panel lie; records that have these fields hand them on. */
@unmanaged
export class PanelSource {
  /** Element offset of each tap. */
  taps: Table;
  tapCount: i32;
  /** Channels per tap: k = tap * channels + channel. */
  channels: i32;
  strideChannel: i32;
  strideN: i32;
}

/** Tiles: matrices x ceil(panels of a matrix / panelsPerTile). */
export function pack(args: PackArgs, first: i32, last: i32, lane: i32): void {
  const panels = (args.n + 7) >> 3;
  const tiles = (panels + args.panelsPerTile - 1) / args.panelsPerTile;
  for (let tile = first; tile < last; tile++) {
    const start = (tile % tiles) * args.panelsPerTile;
    packPanels(args, tile / tiles, start, min(start + args.panelsPerTile, panels));
  }
}

function packPanels(args: PackArgs, matrix: i32, first: i32, last: i32): void {
  const layout = changetype<PanelSource>(changetype<usize>(args) + offsetof<PackArgs>('taps'));
  const size = panelBytes(args.tapCount * args.channels);
  const panels = args.panels + <usize>(matrix * ((args.n + 7) >> 3)) * size;
  const source = args.b + ((<usize>(matrix * args.strideMatrix)) << 2);
  const bias = args.bias + ((<usize>(matrix * args.n)) << 2);
  for (let panel = first; panel < last; panel++) {
    packHead(panels + <usize>panel * size, bias + ((<usize>panel) << 5), args.bias ? min(8, args.n - 8 * panel) : 0);
  }
  let panel = first;
  if (args.strideN == 1) {
    for (; panel + 4 <= last && 8 * panel + 32 <= args.n; panel += 4) {
      packFourPanels(layout, panels + <usize>panel * size + 32, size, source + ((<usize>panel) << 5));
    }
  }
  for (; panel < last; panel++) {
    const from = source + ((<usize>(8 * panel * args.strideN)) << 2);
    packPanel(layout, panels + <usize>panel * size + 32, from, min(8, args.n - 8 * panel));
  }
  if (args.scale) {
    const scale = args.scale + ((<usize>(matrix * args.n)) << 2);
    for (let panel = first; panel < last; panel++) {
      scalePanel(panels + <usize>panel * size, size, scale + ((<usize>panel) << 5), min(8, args.n - 8 * panel));
    }
  }
}

/** Multiplies the panel's rows by `count` (at most 8) factors, one per column. */
export function scalePanel(panel: usize, size: usize, factors: usize, count: i32): void {
  const f0 = v128.and(v128.load(factors), laneMask(count));
  const f1 = v128.and(v128.load(factors, 16), laneMask(count - 4));
  const end = panel + size;
  for (let row = panel + 32; row < end; row += 32) {
    storePair(row, f32x4.mul(v128.load(row), f0), f32x4.mul(v128.load(row, 16), f1));
  }
}

/** The panel's first eight floats: `count` of the bias, then zeros. */
function packHead(to: usize, bias: usize, count: i32): void {
  for (let i = 0; i < 8; i++) store<f32>(to + ((<usize>i) << 2), i < count ? load<f32>(bias + ((<usize>i) << 2)) : 0);
}

/** `columns` (1 to 8) columns at `from`, all of k. */
export function packPanel(args: PanelSource, to: usize, from: usize, columns: i32): void {
  const channels = args.channels;
  const strideChannel = (<usize>args.strideChannel) << 2;
  const strideN = (<usize>args.strideN) << 2;
  for (let tap = 0; tap < args.tapCount; tap++) {
    const source = from + ((<usize>load<i32>(args.taps + ((<usize>tap) << 2))) << 2);
    let c = 0;
    if (columns == 8 && args.strideN == 1) {
      copyEight(to, source, channels, strideChannel);
      c = channels;
    } else if (columns == 8 && args.strideChannel == 1) {
      c = channels & ~3;
      transposeBlock(to, 32, source, strideN, 8, c);
    }
    gatherColumns(
      to + ((<usize>c) << 5),
      source + <usize>c * strideChannel,
      channels - c,
      columns,
      strideChannel,
      strideN,
    );
    to += (<usize>channels) << 5;
  }
}

/** Eight neighbouring floats of every channel. */
function copyEight(to: usize, from: usize, channels: i32, stride: usize): void {
  for (let c = 0; c < channels; c++) {
    storePair(to, v128.load(from), v128.load(from, 16));
    to += 32;
    from += stride;
  }
}

/** Four panels at once where n is innermost: whole cache lines of every channel, and a quarter of the page walks. */
function packFourPanels(args: PanelSource, to: usize, size: usize, from: usize): void {
  const stride = (<usize>args.strideChannel) << 2;
  for (let tap = 0; tap < args.tapCount; tap++) {
    const source = from + ((<usize>load<i32>(args.taps + ((<usize>tap) << 2))) << 2);
    copyThirtyTwo(to, size, source, args.channels, stride);
    to += (<usize>args.channels) << 5;
  }
}

function copyThirtyTwo(to0: usize, size: usize, from: usize, channels: i32, stride: usize): void {
  let to1 = to0 + size;
  let to2 = to1 + size;
  let to3 = to2 + size;
  for (let c = 0; c < channels; c++) {
    storePair(to0, v128.load(from), v128.load(from, 16));
    storePair(to1, v128.load(from, 32), v128.load(from, 48));
    storePair(to2, v128.load(from, 64), v128.load(from, 80));
    storePair(to3, v128.load(from, 96), v128.load(from, 112));
    to0 += 32;
    to1 += 32;
    to2 += 32;
    to3 += 32;
    from += stride;
  }
}

/** Any strides, and the last panel, whose missing columns become zeros. */
function gatherColumns(
  to: usize,
  from: usize,
  channels: i32,
  columns: i32,
  strideChannel: usize,
  strideN: usize,
): void {
  for (let c = 0; c < channels; c++) {
    let source = from;
    let n = 0;
    for (; n < columns; n++) {
      store<f32>(to + ((<usize>n) << 2), load<f32>(source));
      source += strideN;
    }
    for (; n < 8; n++) store<f32>(to + ((<usize>n) << 2), 0);
    to += 32;
    from += strideChannel;
  }
}

/**
 * Writes to[column][row] = from[row][column] for rows x columns floats; strides in bytes. Columns go by four: up to three more are
 * read and written.
 */
export function transposeBlock(
  to: usize,
  toStride: usize,
  from: usize,
  fromStride: usize,
  rows: i32,
  columns: i32,
): void {
  for (let column = 0; column < columns; column += 4) {
    transposeColumns(to, toStride, from, fromStride, rows);
    to += 4 * toStride;
    from += 16;
  }
}

/** Four columns of `from` become four rows of `to`. */
function transposeColumns(to: usize, toStride: usize, from: usize, fromStride: usize, rows: i32): void {
  let row = 0;
  for (; row + 4 <= rows; row += 4) {
    const r0 = v128.load(from);
    const r1 = v128.load(from + fromStride);
    const r2 = v128.load(from + 2 * fromStride);
    const r3 = v128.load(from + 3 * fromStride);
    const t0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
    const t1 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    const t2 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    const t3 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(to, v128.shuffle<f32>(t0, t1, 0, 1, 4, 5));
    v128.store(to + toStride, v128.shuffle<f32>(t0, t1, 2, 3, 6, 7));
    v128.store(to + 2 * toStride, v128.shuffle<f32>(t2, t3, 0, 1, 4, 5));
    v128.store(to + 3 * toStride, v128.shuffle<f32>(t2, t3, 2, 3, 6, 7));
    from += 4 * fromStride;
    to += 16;
  }
  for (; row < rows; row++) {
    const r = v128.load(from);
    v128.store32_lane(to, r, 0);
    v128.store32_lane(to + toStride, r, 1);
    v128.store32_lane(to + 2 * toStride, r, 2);
    v128.store32_lane(to + 3 * toStride, r, 3);
    from += fromStride;
    to += 4;
  }
}
