// Tensors for human eyes: nested arrays, and what a console shows.
import { data } from './read.ts';
import type { Tensor } from './tensor.ts';

/** Numbers in nested arrays, as deep as the tensor has dimensions. */
export type Nested = number | Nested[];

/** Elements that are shown of a dimension before the middle is left out. */
const SHOWN = 6;

/**
 * The elements as nested arrays; a plain number for shape []. Source: torch.Tensor.tolist.
 *
 * @throws Error if the tensor has no value (released, or inside a captured step)
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * await init();
 * if (JSON.stringify(tensor([[1, 2], [3, 4]]).tolist()) !== '[[1,2],[3,4]]') throw new Error('wrong');
 * ```
 */
export function tolist(tensor: Tensor): Nested {
  const values = data(tensor);
  let next = 0;
  const level = (depth: number): Nested => {
    if (depth === tensor.shape.length) return values[next++]!;
    return Array.from({ length: tensor.shape[depth]! }, () => level(depth + 1));
  };
  return level(0);
}

function brief(values: Nested, indent: string): string {
  if (!Array.isArray(values)) return String(Number(values.toPrecision(5)));
  const short = values.length > SHOWN ? [...values.slice(0, SHOWN / 2), null, ...values.slice(-SHOWN / 2)] : values;
  const parts = short.map((entry) => (entry === null ? '...' : brief(entry, `${indent} `)));
  return `[${parts.join(Array.isArray(values[0]) ? `,\n${indent} ` : ', ')}]`;
}

/** What a console shows: kind, shape and the values, the middle of long dimensions left out. */
export function inspect(tensor: Tensor): string {
  if (tensor.storage.state !== 'live') return `${tensor} (${tensor.storage.releasedBy || 'no values yet'})`;
  return `${tensor}\n${brief(tolist(tensor), '')}`;
}
