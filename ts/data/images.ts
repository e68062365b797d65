import { copyRows, type Dataset, elementCount } from './dataset.ts';
import { IdxError, readIdx } from './idx.ts';

/** Mean and standard deviation of the pixels after scaling to [0, 1]: one number for all channels, or one per channel. */
export interface Normalization {
  readonly mean: number | readonly number[];
  readonly std: number | readonly number[];
}

/**
 * Labelled images of one size, held as bytes; samples come out as f32, scaled from 0..255 to [0, 1] and, if
 * `normalize` asks for it, then as `(value - mean) / std`.
 *
 * @throws {RangeError} if the arrays do not fit the shape `[N, C, H, W]`, a label has no class or a deviation is not positive.
 *
 * @example
 * ```ts
 * import { ImageDataset } from 'feathermap/data';
 * const set = new ImageDataset(Uint8Array.of(0, 255, 51, 102), Uint8Array.of(1), [1, 1, 2, 2], ['no', 'yes']);
 * const x = new Float32Array(4);
 * set.copySamples([0], x);
 * if (x[1] !== 1 || set.length !== 1) throw new Error('pixels are scaled to [0, 1]');
 * ```
 */
export class ImageDataset implements Dataset {
  readonly images: Uint8Array;
  readonly labels: Uint8Array;
  /** `[N, C, H, W]` */
  readonly shape: readonly [number, number, number, number];
  readonly classes: readonly string[];
  readonly length: number;
  readonly sampleShape: readonly number[];
  readonly targetShape: readonly number[] = [];
  readonly targetDtype = 'i32';
  /** One table of 256 values per channel: what each byte becomes. */
  readonly #tables: readonly Float32Array[];

  constructor(
    images: Uint8Array,
    labels: Uint8Array,
    shape: readonly [number, number, number, number],
    classes: readonly string[],
    options: { readonly normalize?: Normalization } = {},
  ) {
    checkImages(images, labels, shape, classes);
    this.images = images;
    this.labels = labels;
    this.shape = shape;
    this.classes = classes;
    this.length = shape[0];
    this.sampleShape = shape.slice(1);
    this.#tables = Array.from({ length: shape[1] }, (_, channel) => byteTable(channel, shape[1], options.normalize));
  }

  copySamples(rows: ArrayLike<number>, x: Float32Array): void {
    const [, channels, height, width] = this.shape;
    const plane = height * width;
    for (let i = 0; i < rows.length; i++) {
      for (let channel = 0; channel < channels; channel++) {
        const from = ((rows[i] as number) * channels + channel) * plane;
        translate(this.images, from, this.#tables[channel] as Float32Array, x, (i * channels + channel) * plane, plane);
      }
    }
  }

  copyTargets(rows: ArrayLike<number>, y: Int32Array | Float32Array): void {
    copyRows(this.labels, 1, rows, y);
  }
}

function translate(
  bytes: Uint8Array,
  from: number,
  table: Float32Array,
  x: Float32Array,
  to: number,
  count: number,
): void {
  for (let i = 0; i < count; i++) x[to + i] = table[bytes[from + i] as number] as number;
}

function byteTable(channel: number, channels: number, normalize: Normalization | undefined): Float32Array {
  const mean = perChannel('mean', normalize?.mean ?? 0, channel, channels);
  const std = perChannel('std', normalize?.std ?? 1, channel, channels);
  if (!Number.isFinite(mean)) throw new RangeError(`ImageDataset: mean ${mean} is not finite`);
  if (!(std > 0 && std < Infinity)) throw new RangeError(`ImageDataset: std ${std} is not positive`);
  return Float32Array.from({ length: 256 }, (_, byte) => (byte / 255 - mean) / std);
}

function perChannel(name: string, value: number | readonly number[], channel: number, channels: number): number {
  if (typeof value === 'number') return value;
  if (value.length !== channels) {
    throw new RangeError(`ImageDataset: ${name} has ${value.length} values, the images have ${channels} channels`);
  }
  return value[channel] as number;
}

function checkImages(
  images: Uint8Array,
  labels: Uint8Array,
  shape: readonly number[],
  classes: readonly string[],
): void {
  if (images.length !== elementCount(shape)) {
    throw new RangeError(`ImageDataset: ${images.length} image bytes, shape [${shape}] needs ${elementCount(shape)}`);
  }
  if (labels.length !== shape[0]) throw new RangeError(`ImageDataset: ${labels.length} labels, ${shape[0]} images`);
  const bad = labels.findIndex((label) => label >= classes.length);
  if (bad >= 0)
    throw new RangeError(`ImageDataset: label ${labels[bad]} of row ${bad}, there are ${classes.length} classes`);
}

/** The two files of one IDX data set, plain or gzip, and what to call them in errors. */
export interface IdxFiles {
  readonly images: Uint8Array;
  readonly labels: Uint8Array;
  readonly imagesName?: string;
  readonly labelsName?: string;
}

/**
 * Builds a data set from the bytes of an IDX image file (rank 3, u8) and its label file (rank 1, u8), however they were
 * fetched; `mnist` and `fashionMnist` read them from disk.
 *
 * @throws {IdxError} for damaged files, files of another kind, and counts or labels that do not fit.
 * @example
 * ```ts
 * import { imagesFromIdx } from 'feathermap/data';
 * // Two images of 1 x 2 pixels and their labels.
 * const images = Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 10, 20, 30, 40);
 * const labels = Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 2, 1, 0);
 * const set = await imagesFromIdx({ images, labels }, ['cat', 'dog']);
 * if (set.shape.join() !== '2,1,1,2' || set.labels[0] !== 1) throw new Error('wrong');
 * ```
 */
export async function imagesFromIdx(
  files: IdxFiles,
  classes: readonly string[],
  options: { readonly normalize?: Normalization } = {},
): Promise<ImageDataset> {
  const imagesName = files.imagesName ?? 'images';
  const labelsName = files.labelsName ?? 'labels';
  const images = await readBytes(files.images, 3, imagesName);
  const labels = await readBytes(files.labels, 1, labelsName);
  const [count = 0, height = 0, width = 0] = images.shape;
  if (labels.data.length !== count) {
    const message = `${labelsName}: ${labels.data.length} labels at byte 4, but ${imagesName} holds ${count} images`;
    throw new IdxError(message, 4);
  }
  const bad = labels.data.findIndex((label) => label >= classes.length);
  if (bad >= 0) {
    const message = `${labelsName}: label ${labels.data[bad]} at byte ${8 + bad}, there are ${classes.length} classes`;
    throw new IdxError(message, 8 + bad);
  }
  return new ImageDataset(images.data, labels.data, [count, 1, height, width], classes, options);
}

async function readBytes(
  bytes: Uint8Array,
  rank: number,
  name: string,
): Promise<{ shape: readonly number[]; data: Uint8Array }> {
  const { shape, data } = await readIdx(bytes, name);
  if (shape.length !== rank) throw new IdxError(`${name}: ${shape.length} axes at byte 3, expected ${rank}`, 3);
  if (!(data instanceof Uint8Array)) throw new IdxError(`${name}: elements are not unsigned bytes (type at byte 2)`, 2);
  return { shape, data };
}
