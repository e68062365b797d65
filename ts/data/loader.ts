import { checkOptions, tensor } from '../tensor/create.ts';
import { release } from '../tensor/lifetime.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Dataset, elementCount } from './dataset.ts';
import { batchCount, batchRows, type OrderOptions } from './order.ts';

/** How a loader walks over its data set. */
export interface DataLoaderOptions {
  /** Rows per batch; default 1. */
  readonly batchSize?: number;
  /** A new order in every pass; default false. */
  readonly shuffle?: boolean;
  /** With the epoch it decides the order; an integer from 0 to 2^32 - 1, default 0. */
  readonly seed?: number;
  /** Leaves out a last batch that is shorter than the others; default false. */
  readonly dropLast?: boolean;
  /** Changes the samples of a batch in place, before they become a tensor; `shape` is `[B, ...]`. */
  readonly transform?: (samples: Float32Array, shape: readonly number[]) => void;
}

const OPTIONS = ['batchSize', 'shuffle', 'seed', 'dropLast', 'transform'];
const RELEASED = 'released when the loader made its next batch; keep(tensor) makes it stay';

/**
 * Walks over a data set in batches: `x` is f32 `[B, ...sample]`, `y` is i32 `[B]` for class labels.
 *
 * Each pass over the loader is an epoch with an order of its own, which depends on `seed` and `epoch` alone; set `epoch` to
 * go on where a checkpoint stopped. The loop releases what it made: a batch lives until the next one is asked for, or
 * until the loop ends, unless `keep` was called on it. Like PyTorch's `torch.utils.data.DataLoader`.
 *
 * @throws {TypeError} for an unknown option or a value of the wrong kind; {RangeError} for one out of range.
 *
 * @example
 * ```ts
 * import { init } from 'feathermap';
 * import { DataLoader, mnist } from 'feathermap/data';
 * await init();
 * const test = new DataLoader(await mnist({ train: false }), { batchSize: 256 });
 * let seen = 0;
 * for (const [x, y] of test) {
 *   if (x.shape[0] !== y.shape[0]) throw new Error('one label per image');
 *   seen += y.shape[0];
 * }
 * if (test.length !== 40 || seen !== 10_000) throw new Error('39 x 256 + 16');
 * ```
 */
export class DataLoader {
  readonly dataset: Dataset;
  readonly batchSize: number;
  /** Number of the next pass: raised when a pass begins, settable. */
  epoch = 0;
  readonly #order: OrderOptions;
  readonly #transform: DataLoaderOptions['transform'];

  constructor(dataset: Dataset, options: DataLoaderOptions = {}) {
    checkArguments(dataset, options);
    const { batchSize = 1, shuffle = false, seed = 0, dropLast = false, transform } = options;
    this.dataset = dataset;
    this.batchSize = batchSize;
    this.#order = { length: dataset.length, batchSize, shuffle, seed, dropLast };
    this.#transform = transform;
  }

  /** Number of batches of a pass. */
  get length(): number {
    return batchCount(this.#order);
  }

  /** The row numbers of each batch of a pass, by default the next one; makes no tensors and leaves `epoch` alone. */
  batches(epoch: number = this.epoch): Generator<Int32Array, void, undefined> {
    return batchRows(this.#order, epoch);
  }

  /** The batch of any rows, as tensors `[x, y]` that belong to the caller. */
  load(rows: ArrayLike<number>): [x: Tensor, y: Tensor] {
    const { sampleShape, targetShape, targetDtype } = this.dataset;
    const xShape = [rows.length, ...sampleShape];
    const yShape = [rows.length, ...targetShape];
    const samples = new Float32Array(elementCount(xShape));
    const targets = new (targetDtype === 'i32' ? Int32Array : Float32Array)(elementCount(yShape));
    this.dataset.copySamples(rows, samples);
    this.dataset.copyTargets(rows, targets);
    this.#transform?.(samples, xShape);
    return [tensor(samples, { shape: xShape }), tensor(targets, { shape: yShape, dtype: targetDtype })];
  }

  *[Symbol.iterator](): Generator<[x: Tensor, y: Tensor], void, undefined> {
    for (const rows of this.batches(this.epoch++)) {
      const batch = this.load(rows);
      try {
        yield batch;
      } finally {
        for (const { storage } of batch) release(storage, RELEASED);
      }
    }
  }
}

function checkArguments(dataset: Dataset, options: DataLoaderOptions): void {
  if (typeof dataset?.copySamples !== 'function') {
    throw new TypeError('DataLoader: the first argument must be a data set, such as await mnist() or a TensorDataset');
  }
  checkOptions('DataLoader', options, OPTIONS);
  checkInteger('batchSize', options.batchSize ?? 1, 1, 0x7fffffff);
  checkInteger('seed', options.seed ?? 0, 0, 0xffffffff);
  checkKind('shuffle', options.shuffle, 'boolean');
  checkKind('dropLast', options.dropLast, 'boolean');
  checkKind('transform', options.transform, 'function');
}

function checkInteger(name: string, value: number, lowest: number, highest: number): void {
  if (typeof value !== 'number') throw new TypeError(`DataLoader: ${name} must be a number, got ${typeof value}`);
  if (!Number.isInteger(value) || value < lowest || value > highest) {
    throw new RangeError(`DataLoader: ${name} ${value} is not an integer from ${lowest} to ${highest}`);
  }
}

function checkKind(name: string, value: unknown, kind: 'boolean' | 'function'): void {
  if (value !== undefined && typeof value !== kind) {
    throw new TypeError(`DataLoader: ${name} must be a ${kind}, got ${typeof value}`);
  }
}
