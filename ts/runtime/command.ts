// The vocabulary between ops and wasm: a command is a kernel, its argument record and its tile grid.
import type { Storage } from './storage.ts';

/** What a kernel does with the memory behind an address. */
export type Access = 'read' | 'write' | 'update';

/** Type of a record field, as assembly/record.ts names it. */
export type FieldType = 'i32' | 'u32' | 'f32' | 'i64' | 'u64' | 'f64' | 'Input' | 'Output' | 'Update' | 'Table';

/** A kernel of the wasm module: its number and the layout of its record. Generated from assembly/ by assembly/build/bindings.mjs. */
export interface Kernel<Args> {
  readonly id: number;
  readonly name: string;
  /** Size of the record. */
  readonly bytes: number;
  /** The fields of the record, 'y Output 0,n i32 4'. A text: arrays for all kernels would take 1 ms of every start. */
  readonly layout: string;
  /** Only for the type checker: ties the kernel to its record. */
  readonly args?: Args;
}

/** A field of a record: its name, type and byte offset. */
export type Field = readonly [field: string, type: FieldType, offset: number];

/** Layouts that have been read, by kernel. */
const layouts: Field[][] = [];

/** The fields of a kernel's record, in order. */
export function fieldsOf({ id, layout }: Kernel<unknown>): readonly Field[] {
  layouts[id] ??= layout.split(',').map((entry) => {
    const [field, type, offset] = entry.split(' ');
    return [field!, type as FieldType, Number(offset)];
  });
  return layouts[id];
}

/** i32 words that lie in the program beside the record: dimensions, strides, taps, or addresses of further buffers. */
export class Table {
  readonly words: readonly (number | TableAddress)[];
  constructor(words: readonly (number | TableAddress)[]) {
    this.words = words;
  }
}

/** An address inside a table, with what the kernel does there. */
export interface TableAddress {
  readonly location: Location;
  readonly access: Access;
}

/** A place in memory that a command names: a range of a storage, a table, or nowhere (address 0). */
export interface Location {
  readonly storage: Storage | Table | null;
  readonly byteOffset: number;
  readonly bytes: number;
}

/** Address 0: an operand that is absent. */
export const NOWHERE: Location = { storage: null, byteOffset: 0, bytes: 0 };

/** How a command is cut into tiles and what it needs. */
export interface Grid {
  /** Number of tiles; follows from the geometry alone. */
  readonly tiles: number;
  /** Estimated time on one thread in nanoseconds: decides whether threads share the command. */
  readonly work: number;
  /** Bytes of scratch memory per thread. */
  readonly scratch?: number;
  /** Operands that the result may lie over: each of their elements is read by the computation of the one that overwrites it alone. */
  readonly inPlace?: readonly string[];
}

/** A command before it is written to linear memory. */
export interface Command {
  readonly kernel: Kernel<unknown>;
  readonly args: Readonly<Record<string, number | Location>>;
  readonly grid: Grid;
}

/** What the `lower` of an op talks to. */
export interface Emitter {
  /** Appends a command. It starts when the one before is finished. */
  command<Args>(kernel: Kernel<Args>, args: Args, grid: Grid): void;
  /** A table that lies beside the records. */
  table(words: readonly (number | TableAddress)[]): Location;
  /** Memory that lives from its first to its last use among the commands of this op call. */
  temporary(bytes: number): Location;
}
