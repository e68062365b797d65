// Emits the weight gradient of a 3 x 3 or 5 x 5 convolution with step 1 in the Winograd domain (assembly/winograd-grad.ts).
import * as kernels from '../generated/kernels.ts';
import type { Emitter } from '../runtime/command.ts';
import { locationOf } from '../tensor/tensor.ts';
import type { Conv2dGeometry, Four, WeightGradOperands } from './conv2d-geometry.ts';
import { withChannelsInside } from './conv2d-phases.ts';
import { emitSumPartials, partialsOf } from './conv2d-weight-grad.ts';
import { planeBytes, type Side, transformedRow, winogradSides } from './conv2d-winograd.ts';
import { evenBlock, MAC_NANOSECONDS } from './product.ts';

/** Tiles per block, and channels on either side: what is transformed and what is summed lies in the second-level cache. */
const BLOCK = 48;
const CHANNELS = 64;
/** Kernel tiles that should be there for several threads, and tiles that a split has at least. */
const WANTED_TILES = 8;
const LEAST_SPLIT = 4 * BLOCK;

/** How the gradient is cut. */
function gradientBlocks(tiles: number, channels: number, n: number) {
  const cc = evenBlock(channels, CHANNELS, 8);
  const nc = evenBlock(n, CHANNELS, 8);
  const parts = Math.ceil(channels / cc) * Math.ceil(n / nc);
  const splits = Math.max(1, Math.min(Math.ceil(WANTED_TILES / parts), Math.floor(tiles / LEAST_SPLIT)));
  const splitTiles = Math.max(1, Math.ceil(tiles / splits));
  return {
    cc,
    nc,
    parts,
    splits: Math.max(1, Math.ceil(tiles / splitTiles)),
    splitTiles,
    block: evenBlock(splitTiles, BLOCK, 1),
  };
}

/** Side of the tiles of dy: 4 for 3 x 3 taps, 2 for 5 x 5; null where Winograd's algorithm does not give the weight gradient. */
export function winogradWeightGradSide(geometry: Pick<Conv2dGeometry, 'rows' | 'columns' | 'groups'>): Side | null {
  const { rows, columns } = geometry;
  const [side] = winogradSides(geometry);
  return side && rows.dilation === 1 && columns.dilation === 1 ? side : null;
}

/** Emits F(3x3, 4x4) or F(5x5, 2x2). */
export function emitWinogradWeightGrad(
  emit: Emitter,
  geometry: Conv2dGeometry,
  { dw, x: source, dy }: WeightGradOperands,
): void {
  const x = withChannelsInside(emit, source);
  const { y, rows, columns } = geometry;
  const side = winogradWeightGradSide(geometry)!;
  const [images, n] = y;
  const channels = x.shape[1]!;
  const [xImage, , xRow, xColumn] = x.strides as Four;
  const tiles = images * Math.ceil(rows.outputs / side) * Math.ceil(columns.outputs / side);
  const { parts, splits, ...blocks } = gradientBlocks(tiles, channels, n);
  const { block, cc, nc } = blocks;
  const transformed = planeBytes(block, transformedRow(cc)) + planeBytes(block, transformedRow(nc));
  const partials = partialsOf(emit, dw, splits);
  emit.command(
    kernels.winogradWeightGrad,
    {
      dw: partials,
      x: locationOf(x),
      dy: locationOf(dy),
      height: x.shape[2]!,
      width: x.shape[3]!,
      channels,
      xImage,
      xRow,
      xColumn,
      top: rows.before,
      left: columns.before,
      rows: rows.outputs,
      columns: columns.outputs,
      n,
      dyImage: rows.outputs * columns.outputs * n,
      dyRow: columns.outputs * n,
      dyColumn: n,
      dyTop: 0,
      dyLeft: 0,
      images,
      side,
      ...blocks,
    },
    {
      tiles: splits * parts,
      work: 1.6 * 36 * tiles * channels * n * MAC_NANOSECONDS,
      scratch: kernels.WINOGRAD_HEAD + 36 * (transformed + planeBytes(nc, transformedRow(cc))),
    },
  );
  emitSumPartials(emit, dw, partials, splits);
}
