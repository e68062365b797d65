// Reads the golden numbers that generate.py wrote: what PyTorch answers to the cases of tests/cases.
import { readFileSync } from 'node:fs';
import index from './golden.json' with { type: 'json' };

/** One tensor; rounded from float64. */
export interface Golden {
  shape: number[];
  data: Float32Array;
}

const bytes = readFileSync(new URL('./golden.bin', import.meta.url));
const tensors = index.tensors as Record<string, number[]>;
const lists = index.lists as Record<string, number[]>;

/** The tensor of this full name, 'conv2d/3x3/y'; undefined if PyTorch was not asked. */
function find(name: string): Golden | undefined {
  const entry = Object.hasOwn(tensors, name) ? tensors[name] : undefined;
  if (entry === undefined) return undefined;
  const [start, ...shape] = entry as [number, ...number[]];
  const size = shape.reduce((product, extent) => product * extent, 1);
  const data = new Float32Array(size);
  for (let i = 0; i < size; i++) data[i] = bytes.readFloatLE(4 * (start + i));
  return { shape, data };
}

/** The tensor of this full name, 'optim/Adam'. Throws if there is none. */
export function goldenTensor(name: string): Golden {
  const tensor = find(name);
  if (!tensor) throw new RangeError(`golden: no tensor '${name}'; run tests/golden/generate.py if the case is new`);
  return tensor;
}

/** Plain float64 numbers: losses and learning rates. Throws if there is none of this name. */
export function goldenList(name: string): readonly number[] {
  const list = Object.hasOwn(lists, name) ? lists[name] : undefined;
  if (!list) throw new RangeError(`golden: no list '${name}'; run tests/golden/generate.py if the case is new`);
  return list;
}

/** Output and gradients of a case of a section ('conv2d', 'pool', ...); a gradient that does not exist is left out. */
export interface GoldenCase {
  y: Golden;
  dx?: Golden;
  dw?: Golden;
  da?: Golden;
  db?: Golden;
  dtarget?: Golden;
}

export function golden(section: string, name: string): GoldenCase {
  const found: GoldenCase = { y: goldenTensor(`${section}/${name}/y`) };
  for (const key of ['dx', 'dw', 'da', 'db', 'dtarget'] as const) {
    const tensor = find(`${section}/${name}/${key}`);
    if (tensor) found[key] = tensor;
  }
  return found;
}
