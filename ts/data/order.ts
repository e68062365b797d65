// Which rows, in which order: the part of a loader that knows nothing of tensors.

import { multiplyHigh, philox } from './philox.ts';

/** How a pass over `length` rows is cut into batches. */
export interface OrderOptions {
  readonly length: number;
  readonly batchSize: number;
  readonly shuffle: boolean;
  readonly seed: number;
  readonly dropLast: boolean;
}

/** The rows 0 .. length - 1 in the order of pass `epoch`: shuffled (Fisher and Yates) by seed and epoch alone. */
export function permutation(length: number, seed: number, epoch: number): Int32Array {
  const rows = ascending(length);
  const block = new Uint32Array(4);
  for (let last = length - 1; last > 0; last--) {
    if ((last & 3) === 3 || last === length - 1) {
      block.set([last >>> 2, 0, 0, 0]);
      philox(block, seed >>> 0, epoch >>> 0);
    }
    // floor(word * (last + 1) / 2^32) is uniform on 0 .. last up to one part in 2^32 / length.
    const pick = multiplyHigh(block[last & 3] as number, last + 1);
    const moved = rows[last] as number;
    rows[last] = rows[pick] as number;
    rows[pick] = moved;
  }
  return rows;
}

function ascending(length: number): Int32Array {
  const rows = new Int32Array(length);
  for (let row = 0; row < length; row++) rows[row] = row;
  return rows;
}

/** Number of batches of one pass. */
export function batchCount({ length, batchSize, dropLast }: OrderOptions): number {
  return dropLast ? Math.floor(length / batchSize) : Math.ceil(length / batchSize);
}

/** The row numbers of each batch of pass `epoch`, in order. */
export function* batchRows(options: OrderOptions, epoch: number): Generator<Int32Array, void, undefined> {
  const { length, batchSize, shuffle, seed } = options;
  const rows = shuffle ? permutation(length, seed, epoch) : ascending(length);
  const count = batchCount(options);
  for (let batch = 0; batch < count; batch++) {
    yield rows.subarray(batch * batchSize, Math.min((batch + 1) * batchSize, length));
  }
}
