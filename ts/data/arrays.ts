import { data as read } from '../tensor/read.ts';
import { Tensor } from '../tensor/tensor.ts';
import { copyRows, type Dataset, elementCount } from './dataset.ts';

/** Rows in an array: `shape[0]` of them. */
export interface Rows<T extends Float32Array | Int32Array | Uint8Array> {
  readonly data: T;
  readonly shape: readonly number[];
}

/**
 * A data set made of two tensors or arrays whose first axis counts the rows. Targets are class labels (i32 or u8) or
 * values (f32). Tensors are read once, when the set is made; arrays are used as they are, not copied.
 *
 * Like PyTorch's `torch.utils.data.TensorDataset` with two tensors.
 *
 * @throws {RangeError} if the numbers of rows differ or an array does not fit its shape; {TypeError} for other types.
 *
 * @example
 * ```ts
 * import { TensorDataset } from 'feathermap/data';
 * const xor = new TensorDataset(
 *   { data: Float32Array.of(0, 0, 0, 1, 1, 0, 1, 1), shape: [4, 2] },
 *   { data: Int32Array.of(0, 1, 1, 0), shape: [4] },
 * );
 * if (xor.length !== 4 || xor.sampleShape[0] !== 2) throw new Error('four rows of two');
 * ```
 */
export class TensorDataset implements Dataset {
  readonly length: number;
  readonly sampleShape: readonly number[];
  readonly targetShape: readonly number[];
  readonly targetDtype: 'i32' | 'f32';
  readonly #samples: Float32Array;
  readonly #targets: Float32Array | Int32Array | Uint8Array;

  constructor(samples: Tensor | Rows<Float32Array>, targets: Tensor | Rows<Float32Array | Int32Array | Uint8Array>) {
    const x = rowsOf('samples', samples);
    const y = rowsOf('targets', targets);
    if (!(x.data instanceof Float32Array)) throw new TypeError('TensorDataset: samples must be f32');
    if (x.shape[0] !== y.shape[0]) {
      throw new RangeError(
        `TensorDataset: samples [${x.shape}] and targets [${y.shape}] differ in their number of rows`,
      );
    }
    this.length = x.shape[0] as number;
    this.sampleShape = x.shape.slice(1);
    this.targetShape = y.shape.slice(1);
    this.targetDtype = y.data instanceof Float32Array ? 'f32' : 'i32';
    this.#samples = x.data;
    this.#targets = y.data;
  }

  copySamples(rows: ArrayLike<number>, x: Float32Array): void {
    copyRows(this.#samples, elementCount(this.sampleShape), rows, x);
  }

  copyTargets(rows: ArrayLike<number>, y: Int32Array | Float32Array): void {
    copyRows(this.#targets, elementCount(this.targetShape), rows, y);
  }
}

type AnyArray = Float32Array | Int32Array | Uint8Array;

function rowsOf(name: string, source: Tensor | Rows<AnyArray>): Rows<AnyArray> {
  const { data, shape } = source instanceof Tensor ? { data: read(source), shape: source.shape } : (source ?? {});
  const numeric = data instanceof Float32Array || data instanceof Int32Array || data instanceof Uint8Array;
  if (!numeric || !Array.isArray(shape)) {
    throw new TypeError(`TensorDataset: ${name} must be a Tensor or { data: typed array, shape }`);
  }
  if (shape.length === 0) throw new RangeError(`TensorDataset: ${name} of shape [] have no axis of rows`);
  if (data.length !== elementCount(shape)) {
    throw new RangeError(
      `TensorDataset: ${name} have ${data.length} elements, shape [${shape}] needs ${elementCount(shape)}`,
    );
  }
  return { data, shape };
}
