// A dilated convolution of step 1 as ordinary ones. Outputs whose rows and columns leave the same remainder modulo the dilation read
// sources that leave one remainder too, so each pair of remainders is an ordinary convolution of every dilation-th row and column:
//
//   output rows  0 . 2 . 4 .   read rows  0 . 2 . 4 . 6   with dilation 2,   output rows  . 1 . 3 . 5   read rows  . 1 . 3 . 5 . 7
//
// Source: Wang and Ji, "Smoothed Dilated Convolutions for Improved Dense Prediction", arXiv:1808.08931, section 2.
import type { Operand } from '../tensor/op.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Four } from './conv2d-geometry.ts';
import { part } from './loops.ts';

/** An axis of a convolution of step 1. */
export interface DilatedAxis {
  readonly dilation: number;
  /** Padding before the source. */
  readonly before: number;
}

/** An ordinary convolution of step 1 on views; `top` and `left` are the padding before them. */
export interface Piece {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly residual: Operand;
  readonly top: number;
  readonly left: number;
}

/** Every dilation-th element of an axis: where they begin in the source and in the output, how many they are, and the padding before. */
interface Remainder {
  readonly from: number;
  readonly size: number;
  readonly to: number;
  readonly outputs: number;
  readonly before: number;
}

function remainders(size: number, outputs: number, { dilation, before }: DilatedAxis): Remainder[] {
  return Array.from({ length: Math.min(dilation, outputs) }, (_, to) => {
    const first = to - before;
    const from = ((first % dilation) + dilation) % dilation;
    return {
      from,
      size: Math.max(0, Math.ceil((size - from) / dilation)),
      to,
      outputs: Math.ceil((outputs - to) / dilation),
      before: (from - first) / dilation,
    };
  });
}

/** Whether all remainders look alike, so that those of one image can count as images. */
function areAlike(size: number, outputs: number, { dilation, before }: DilatedAxis): boolean {
  return [size, outputs, before].every((each) => each % dilation === 0);
}

/** Shapes of the outputs of the pieces of a convolution from shape x to shape y: how many pieces there are, and the largest. */
export function pieceShape(x: Four, y: Four, rows: DilatedAxis, columns: DilatedAxis): { count: number; shape: Four } {
  const [images, n, height, width] = y;
  const across = Math.min(columns.dilation, width);
  const down = Math.min(rows.dilation, height);
  const size = [Math.ceil(height / rows.dilation), Math.ceil(width / columns.dilation)] as const;
  const together = images === 1 && areAlike(x[3], width, columns);
  return { count: together ? down : down * across, shape: [together ? across : images, n, ...size] };
}

/** The pieces that together are the convolution of x to y. Without dilation it is one. */
export function pieces(
  { x, y, residual }: Pick<Piece, 'x' | 'y' | 'residual'>,
  rows: DilatedAxis,
  columns: DilatedAxis,
): Piece[] {
  if (rows.dilation === 1 && columns.dilation === 1)
    return [{ x, y, residual, top: rows.before, left: columns.before }];
  const [images, , height, width] = x.shape as Four;
  const [, , outputRows, outputColumns] = y.shape as Four;
  const together = images === 1 && areAlike(width, outputColumns, columns);
  const across = remainders(width, outputColumns, columns);
  const view = (tensor: Tensor, row: number, size: number, column: Remainder, inSource: boolean): Tensor => {
    const [image, channel, down, right] = tensor.strides as Four;
    const [start, extent] = inSource ? [column.from, column.size] : [column.to, column.outputs];
    const shape = [together ? across.length : images, tensor.shape[1]!, size, extent];
    const strides = [together ? right : image, channel, down * rows.dilation, right * columns.dilation];
    return part(tensor, shape, strides, row * down + start * right);
  };
  return remainders(height, outputRows, rows).flatMap((row) =>
    (together ? across.slice(0, 1) : across).map((column) => ({
      x: view(x, row.from, row.size, column, true),
      y: view(y, row.to, row.outputs, column, false),
      residual: residual && view(residual, row.to, row.outputs, column, false),
      top: row.before,
      left: column.before,
    })),
  );
}
