// Places the buffers of a program in one arena, by lifetime: greedy by size, largest first, each at the lowest address
// where it does not meet a buffer that is alive at the same time.
// Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", arXiv:2001.03288.
import type { Command, Location } from '../runtime/command.ts';
import { ALIGNMENT, roundUp, SLACK } from '../runtime/heap.ts';
import { usesOf } from '../runtime/program.ts';
import type { Storage } from '../runtime/storage.ts';

/** From the first to the last command that uses a storage. */
export interface Lifetime {
  readonly storage: Storage;
  first: number;
  last: number;
  /** Storages of the same size that lie in the same place, one after the other. */
  readonly also?: readonly Storage[];
}

/** Where everything lies. */
export interface Placement {
  /** Byte offset in the arena. */
  readonly offsets: ReadonlyMap<Storage, number>;
  /** Bytes of the arena. */
  readonly bytes: number;
}

/** Lifetimes of the storages that `belongs` picks, in order of first use. */
export function lifetimes(commands: readonly Command[], belongs: (storage: Storage) => boolean): Lifetime[] {
  const found = new Map<Storage, Lifetime>();
  commands.forEach((command, index) => {
    for (const { storage } of usesOf(command)) {
      if (!belongs(storage)) continue;
      const lifetime = found.get(storage);
      if (lifetime) lifetime.last = index;
      else found.set(storage, { storage, first: index, last: index });
    }
  });
  return [...found.values()];
}

/** Lets results take the place of operands that nobody reads again, where their commands allow it. */
export function shareInPlace(list: readonly Lifetime[], commands: readonly Command[]): Lifetime[] {
  const groups = new Map(list.map((lifetime) => [lifetime.storage, lifetime]));
  commands.forEach((command, index) => {
    const uses = [...usesOf(command)];
    const written = uses.filter(({ access }) => access !== 'read');
    for (const field of command.grid.inPlace ?? []) {
      const operand = command.args[field] as Location;
      const [from, to] = [operand, written[0]!.location].map(({ storage }) => groups.get(storage as Storage));
      const once = uses.filter(({ storage }) => storage === operand.storage).length === 1 && written.length === 1;
      if (!from || !to || !once || from.last !== index || to.first !== index) continue;
      if (from.storage.bytes !== to.storage.bytes || operand.byteOffset || written[0]!.location.byteOffset) continue;
      const also = [...(from.also ?? []), to.storage, ...(to.also ?? [])];
      const merged = { storage: from.storage, first: from.first, last: to.last, also };
      for (const storage of [merged.storage, ...also]) groups.set(storage, merged);
    }
  });
  return [...new Set(groups.values())];
}

/** Bytes that a buffer of `bytes` takes in the arena, slack included. */
export function placedBytes(bytes: number): number {
  return roundUp(bytes + SLACK, ALIGNMENT);
}

/** Places the storages. With `separate` nothing shares memory, so that canaries between the buffers mean something. */
export function place(list: readonly Lifetime[], separate = false): Placement {
  const order = [...list].sort((a, b) => b.storage.bytes - a.storage.bytes);
  const placed: { first: number; last: number; start: number; end: number }[] = [];
  const offsets = new Map<Storage, number>();
  let bytes = 0;
  for (const { storage, first, last, also = [] } of order) {
    const size = placedBytes(storage.bytes);
    const neighbours = separate ? placed : placed.filter((other) => other.first <= last && first <= other.last);
    const start = lowestGap(neighbours, size);
    placed.push({ first, last, start, end: start + size });
    for (const each of [storage, ...also]) offsets.set(each, start);
    bytes = Math.max(bytes, start + size);
  }
  return { offsets, bytes };
}

function lowestGap(neighbours: readonly { start: number; end: number }[], size: number): number {
  let start = 0;
  for (const other of [...neighbours].sort((a, b) => a.start - b.start)) {
    if (other.start - start >= size) break;
    start = Math.max(start, other.end);
  }
  return start;
}
