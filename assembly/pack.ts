// B[k, n] -> panels of eight columns, the form in which every matrix product reads its right operand:
//
//   panel p = [ bias[8p .. 8p+7] | B[0, 8p .. 8p+7] | B[1, 8p .. 8p+7] | ... ],   columns beyond n are zero.
//
// B is any tensor in which k = (tap, channel) and n have strides, so one kernel serves B, B transposed, convolution weights in any
// layout and order of taps, and weights turned around for the input gradient.
import { Input, Output, Table } from './record';

/** Bytes of a panel: the bias and k rows of eight floats. */
// @ts-ignore: decorator
@inline
export function panelBytes(k: i32): usize {
  return <usize>(k + 1) << 5;
}

@unmanaged
export class PackArgs {
  panels: Output;
  b: Input;
  /** n floats per matrix; address 0: the panels begin with zeros. */
  bias: Input;
  /** Element offset of each tap. */
  taps: Table;
  tapCount: i32;
  /** Channels per tap: k = tap * channels + channel. */
  channels: i32;
  n: i32;
  strideChannel: i32;
  strideN: i32;
  /** Elements from one matrix (batch, group) to the next. */
  strideMatrix: i32;
  panelsPerTile: i32;
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
  const size = panelBytes(args.tapCount * args.channels);
  const panels = args.panels + <usize>(matrix * ((args.n + 7) >> 3)) * size;
  const source = args.b + (<usize>(matrix * args.strideMatrix) << 2);
  const bias = args.bias + (<usize>(matrix * args.n) << 2);
  for (let panel = first; panel < last; panel++) {
    const columns = min(8, args.n - 8 * panel);
    packHead(panels + <usize>panel * size, bias + (<usize>panel << 5), args.bias ? columns : 0);
    packPanel(args, panels + <usize>panel * size + 32, source + (<usize>(8 * panel * args.strideN) << 2), columns);
  }
}

/** The panel's first eight floats: `count` of the bias, then zeros. */
function packHead(to: usize, bias: usize, count: i32): void {
  for (let i = 0; i < 8; i++) store<f32>(to + (<usize>i << 2), i < count ? load<f32>(bias + (<usize>i << 2)) : 0);
}

function packPanel(args: PackArgs, to: usize, from: usize, columns: i32): void {
  const channels = args.channels;
  const strideChannel = <usize>args.strideChannel << 2;
  const strideN = <usize>args.strideN << 2;
  for (let tap = 0; tap < args.tapCount; tap++) {
    const source = from + (<usize>load<i32>(args.taps + (<usize>tap << 2)) << 2);
    if (columns == 8 && args.strideN == 1) copyEight(to, source, channels, strideChannel);
    else if (columns == 8 && args.strideChannel == 1) transposeBlock(to, 32, source, strideN, 8, channels);
    else gatherColumns(to, source, channels, columns, strideChannel, strideN);
    to += <usize>channels << 5;
  }
}

/** Eight neighbouring floats of every channel. */
function copyEight(to: usize, from: usize, channels: i32, stride: usize): void {
  for (let c = 0; c < channels; c++) {
    v128.store(to, v128.load(from));
    v128.store(to, v128.load(from, 16), 16);
    to += 32;
    from += stride;
  }
}

/** Any strides, and the last panel, whose missing columns become zeros. */
function gatherColumns(to: usize, from: usize, channels: i32, columns: i32, strideChannel: usize, strideN: usize): void {
  for (let c = 0; c < channels; c++) {
    let source = from;
    let n = 0;
    for (; n < columns; n++) {
      store<f32>(to + (<usize>n << 2), load<f32>(source));
      source += strideN;
    }
    for (; n < 8; n++) store<f32>(to + (<usize>n << 2), 0);
    to += 32;
    from += strideChannel;
  }
}

/** Writes to[column][row] = from[row][column] for rows x columns floats; strides in bytes. */
export function transposeBlock(to: usize, toStride: usize, from: usize, fromStride: usize, rows: i32, columns: i32): void {
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    transposeColumns(to, toStride, from, fromStride, rows);
    to += 4 * toStride;
    from += 16;
  }
  for (; column < columns; column++) {
    let source = from;
    for (let row = 0; row < rows; row++) {
      store<f32>(to + (<usize>row << 2), load<f32>(source));
      source += fromStride;
    }
    to += toStride;
    from += 4;
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
