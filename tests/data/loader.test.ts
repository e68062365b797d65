import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TensorDataset } from '../../ts/data/arrays.ts';
import { ImageDataset } from '../../ts/data/images.ts';
import { DataLoader, type DataLoaderOptions } from '../../ts/data/loader.ts';
import { init, memoryStatistics, shutdown } from '../../ts/runtime/engine.ts';
import { tensor } from '../../ts/tensor/create.ts';
import { keep } from '../../ts/tensor/lifetime.ts';
import { data } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';

beforeAll(() => init({ threads: 1, debug: true }));
afterAll(shutdown);

const rows = 10;
const images = new ImageDataset(
  Uint8Array.from({ length: rows * 4 }, (_, i) => i),
  Uint8Array.from({ length: rows }, (_, i) => i % 3),
  [rows, 1, 2, 2],
  ['a', 'b', 'c'],
);

/** Row numbers of a pass, told from the first pixel of each image. */
function seenRows(loader: DataLoader): number[] {
  const seen: number[] = [];
  for (const [x] of loader) {
    data(x).forEach((value, i) => {
      if (i % 4 === 0) seen.push(Math.round(value * 255) / 4);
    });
  }
  return seen;
}

describe('DataLoader', () => {
  test('makes f32 images and i32 labels', () => {
    const shapes: string[] = [];
    for (const [x, y] of new DataLoader(images, { batchSize: 4 })) {
      expect([x.dtype, y.dtype]).toEqual(['f32', 'i32']);
      shapes.push(`${x.shape}; ${y.shape}`);
      expect(data(y)[0]).toBe((shapes.length - 1) % 3);
    }
    expect(shapes).toEqual(['4,1,2,2; 4', '4,1,2,2; 4', '2,1,2,2; 2']);
    expect(new DataLoader(images, { batchSize: 4 }).length).toBe(3);
    expect(new DataLoader(images, { batchSize: 4, dropLast: true }).length).toBe(2);
    expect(new DataLoader(images).length).toBe(10);
  });

  test('each pass has its own order, set by seed and epoch', () => {
    const loader = new DataLoader(images, { batchSize: 3, shuffle: true, seed: 5 });
    const passes = [seenRows(loader), seenRows(loader), seenRows(loader)];
    expect(loader.epoch).toBe(3);
    for (const pass of passes) expect([...pass].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(new Set(passes.map(String)).size).toBe(3);
    const resumed = new DataLoader(images, { batchSize: 3, shuffle: true, seed: 5 });
    resumed.epoch = 2;
    expect(seenRows(resumed)).toEqual(passes[2]);
    expect(Array.from(new DataLoader(images, { shuffle: true, seed: 5 }).batches(1), (batch) => batch[0])).toEqual(
      passes[1],
    );
  });

  test('releases a batch when the next is made, unless it is kept', () => {
    let previous: Tensor | null = null;
    let kept: Tensor | null = null;
    for (const [x, y] of new DataLoader(images, { batchSize: 4 })) {
      if (previous !== null && previous !== kept) {
        const gone = previous;
        expect(() => data(gone)).toThrow(/released when the loader made its next batch; keep\(tensor\) makes it stay/);
      }
      kept ??= keep(y);
      previous = x;
    }
    expect(Array.from(data(kept as unknown as Tensor))).toEqual([0, 1, 2, 0]);
    expect(() => data(previous as unknown as Tensor)).toThrow('released when the loader');
  });

  test('leaves no memory behind, also after a break', () => {
    const loader = new DataLoader(images, { batchSize: 4 });
    const before = memoryStatistics().allocatedBytes;
    for (let pass = 0; pass < 3; pass++) {
      for (const [x] of loader) expect(x.shape[0]).toBeGreaterThan(0);
      for (const [x] of loader) {
        expect(x.shape[0]).toBe(4);
        break;
      }
    }
    expect(memoryStatistics().allocatedBytes).toBe(before);
  });

  test('transform changes the samples before they become a tensor', () => {
    const transform = (samples: Float32Array, shape: readonly number[]): void => {
      samples.forEach((value, i) => {
        samples[i] = Math.round(value * 255) + 100 * (shape[0] as number);
      });
    };
    const [x] = new DataLoader(images, { transform }).load([1, 0]);
    expect(Array.from(data(x))).toEqual([204, 205, 206, 207, 200, 201, 202, 203]);
  });

  test.each<[object, new (message?: string) => Error, string]>([
    [{ batch_size: 3 }, TypeError, "DataLoader: unknown option 'batch_size'"],
    [{ batchSize: 0 }, RangeError, 'DataLoader: batchSize 0 is not an integer from 1 to 2147483647'],
    [{ batchSize: '4' }, TypeError, 'DataLoader: batchSize must be a number, got string'],
    [{ batchSize: Number.NaN }, RangeError, 'DataLoader: batchSize NaN is not an integer'],
    [{ seed: -1 }, RangeError, 'DataLoader: seed -1 is not an integer from 0 to 4294967295'],
    [{ shuffle: 1 }, TypeError, 'DataLoader: shuffle must be a boolean, got number'],
    [{ transform: {} }, TypeError, 'DataLoader: transform must be a function, got object'],
  ])('refuses %j', (options, kind, message) => {
    const make = (): DataLoader => new DataLoader(images, options as DataLoaderOptions);
    expect(make).toThrow(kind);
    expect(make).toThrow(message);
  });

  test('refuses what is no data set', () => {
    expect(() => new DataLoader(Promise.resolve(images) as unknown as ImageDataset)).toThrow(
      'DataLoader: the first argument must be a data set, such as await mnist() or a TensorDataset',
    );
  });
});

describe('TensorDataset', () => {
  test('takes tensors and arrays; labels come out as i32, values as f32', () => {
    const samples = tensor([
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
    const [x, y] = new DataLoader(new TensorDataset(samples, { data: Uint8Array.of(7, 8, 9), shape: [3] })).load([
      2, 0,
    ]);
    expect([x.shape, Array.from(data(x))]).toEqual([
      [2, 2],
      [5, 6, 1, 2],
    ]);
    expect([y.dtype, y.shape, Array.from(data(y))]).toEqual(['i32', [2], [9, 7]]);
    const [, values] = new DataLoader(new TensorDataset(samples, tensor([[0.5], [1.5], [2.5]]))).load([1]);
    expect([values.dtype, values.shape, Array.from(data(values))]).toEqual(['f32', [1, 1], [1.5]]);
  });

  test('refuses what does not fit', () => {
    const x = { data: new Float32Array(6), shape: [3, 2] };
    const labels = (n: number) => ({ data: new Int32Array(n), shape: [n] });
    expect(() => new TensorDataset(x, labels(2))).toThrow(
      'TensorDataset: samples [3,2] and targets [2] differ in their number of rows',
    );
    expect(() => new TensorDataset({ ...x, shape: [3, 3] }, labels(3))).toThrow(
      'TensorDataset: samples have 6 elements, shape [3,3] needs 9',
    );
    expect(() => new TensorDataset(x, { data: new Int32Array(1), shape: [] })).toThrow(
      'TensorDataset: targets of shape [] have no axis of rows',
    );
    expect(() => new TensorDataset({ data: [1] as unknown as Float32Array, shape: [1] }, labels(1))).toThrow(
      'TensorDataset: samples must be a Tensor or { data: typed array, shape }',
    );
    expect(() => new TensorDataset(x, undefined as never)).toThrow(
      'TensorDataset: targets must be a Tensor or { data: typed array, shape }',
    );
    expect(() => new TensorDataset({ data: new Float32Array(2) } as never, labels(1))).toThrow(
      'TensorDataset: samples must be a Tensor or { data: typed array, shape }',
    );
    expect(() => new TensorDataset(tensor(Int32Array.of(1)), labels(1))).toThrow('TensorDataset: samples must be f32');
  });
});
