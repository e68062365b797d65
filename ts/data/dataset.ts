// A data set is a number of rows that can be copied out by number. Loaders need nothing else, so anything that has these
// six members can be loaded.

/** Rows of samples and targets. */
export interface Dataset {
  /** Number of rows. */
  readonly length: number;
  /** Shape of one sample, without the batch axis. */
  readonly sampleShape: readonly number[];
  /** Shape of one target: `[]` for a class label. */
  readonly targetShape: readonly number[];
  /** `i32` for class labels, `f32` for values. */
  readonly targetDtype: 'i32' | 'f32';
  /** Copies the samples of `rows` into `x`, one after the other. */
  copySamples(rows: ArrayLike<number>, x: Float32Array): void;
  /** Copies the targets of `rows` into `y`, one after the other. */
  copyTargets(rows: ArrayLike<number>, y: Int32Array | Float32Array): void;
}

/** Number of elements of a shape. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Copies rows of `size` elements each; an Int32Array target takes bytes as well. */
export function copyRows(
  from: Float32Array | Int32Array | Uint8Array,
  size: number,
  rows: ArrayLike<number>,
  to: Float32Array | Int32Array,
): void {
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i] as number;
    to.set(from.subarray(row * size, (row + 1) * size), i * size);
  }
}
