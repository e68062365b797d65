// Weights of Winograd convolution: u[xi] = (G w G^T)[xi] for every pair of channels, as panels of eight output channels like those of
// `pack` (a head of zeros, then k rows of eight). Taps and channels have strides, so that turned weights serve the input gradient.
import { Input, Output, Table } from './record';
import { scratch } from './control';
import { zero } from './patches';
import {
  BLOCK_BYTES,
  BLOCK_COLUMN,
  WINOGRAD_CHUNK,
  columnsOfWeight3to4,
  columnsOfWeight3to6,
  columnsOfWeight5to6,
  rowsOfWeight3to4,
  rowsOfWeight3to6,
  rowsOfWeight5to6,
} from './generated/winograd-transforms';
import { PanelSource, packPanel, panelBytes, scalePanel } from './pack';


@unmanaged
export class WinogradWeightArgs {
  /** [alpha^2] matrices of ceil(n / 8) panels, uPlane floats apart. */
  u: Output;
  w: Input;
  /** n factors of the output channels, or address 0. */
  scale: Input;
  /** The r x r taps, 9 or 25; as in PanelSource. */
  taps: Table;
  tapCount: i32;
  channels: i32;
  strideChannel: i32;
  strideN: i32;
  n: i32;
  uPlane: i32;
  alpha: i32;
}

/** Tiles: ceil(n / 8). Scratch per lane: the block between the passes (WINOGRAD_BLOCK bytes), then tapCount x channels x 8 floats. */
export function winogradWeight(args: WinogradWeightArgs, first: i32, last: i32, lane: i32): void {
  const block = scratch(lane);
  const gathered = block + BLOCK_BYTES;
  const source = changetype<PanelSource>(changetype<usize>(args) + offsetof<WinogradWeightArgs>('taps'));
  for (let panel = first; panel < last; panel++) {
    const columns = min(8, args.n - 8 * panel);
    packPanel(source, gathered, args.w + ((<usize>(8 * panel * args.strideN)) << 2), columns);
    if (args.scale) {
      // Without the head that panels have.
      const size = (<usize>(args.tapCount * args.channels)) << 5;
      scalePanel(gathered - 32, size + 32, args.scale + ((<usize>panel) << 5), columns);
    }
    transformPanel(args, gathered, args.u + <usize>panel * panelBytes(args.channels), block);
  }
}

/** Bytes of the block between the passes. */
export const WINOGRAD_BLOCK: i32 = 4608;

/** The taps of one panel to its place in every matrix. */
function transformPanel(args: WinogradWeightArgs, from: usize, to: usize, block: usize): void {
  const tap = (<usize>args.channels) << 5;
  const plane = (<usize>args.uPlane) << 2;
  for (let xi = 0; xi < args.alpha * args.alpha; xi++) zero(to + <usize>xi * plane, 8);
  to += 32;
  // Rows of eight follow one another on both sides: four of them are a chunk.
  for (let c = 0; c < args.channels; c += WINOGRAD_CHUNK >> 3) {
    const rows = min(WINOGRAD_CHUNK >> 3, args.channels - c);
    if (args.tapCount == 25) {
      columnsOfWeight5to6(from, tap, block, rows);
      rowsOfWeight5to6(block, to, plane, rows);
    } else if (args.alpha == 6) {
      columnsOfWeight3to6(from, tap, block, rows);
      rowsOfWeight3to6(block, to, plane, rows);
    } else {
      columnsOfWeight3to4(from, tap, block, rows);
      rowsOfWeight3to4(block, to, plane, rows);
    }
    from += BLOCK_COLUMN;
    to += BLOCK_COLUMN;
  }
}
