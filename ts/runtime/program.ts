// A program: commands, records and tables written into linear memory, run by one call into wasm.
//
//   address   [ commands: 16 bytes each | records and tables, 8-byte aligned ]
//
// Beside it lies the list of uses: which words of the program are addresses, of which storage, and what the kernel does
// there. The planner reads lifetimes from it, `patch` moves a buffer, and a replay raises the versions of what it wrote.
import { type Access, type Command, type FieldType, fieldsOf, type Location, Table } from './command.ts';
import type { LinearMemory } from './memory.ts';
import type { Storage } from './storage.ts';

/** Bytes of a Command in assembly/run.ts. */
export const COMMAND_BYTES = 16;

/** One address in a program. */
export interface Use {
  /** Byte offset of the address word from the start of the program. */
  readonly at: number;
  /** Index of the command that uses it. */
  readonly command: number;
  readonly storage: Storage;
  readonly byteOffset: number;
  readonly bytes: number;
  readonly access: Access;
}

const ACCESS: Partial<Record<FieldType, Access>> = { Input: 'read', Output: 'write', Update: 'update' };

/** The address uses of a command, without their place in a program. */
export function* usesOf(command: Command): Generator<{ storage: Storage; location: Location; access: Access }> {
  for (const [field, type] of fieldsOf(command.kernel)) {
    const location = command.args[field];
    if (typeof location !== 'object' || !location.storage) continue;
    if (location.storage instanceof Table) {
      for (const word of location.storage.words)
        if (typeof word === 'object' && word.location.storage && !(word.location.storage instanceof Table))
          yield { storage: word.location.storage, location: word.location, access: word.access };
    } else yield { storage: location.storage, location, access: ACCESS[type]! };
  }
}

/** Bytes that a list of commands takes in linear memory. */
export function programBytes(commands: readonly Command[]): number {
  let bytes = commands.length * COMMAND_BYTES;
  for (const { kernel, args } of commands) {
    bytes += align8(kernel.bytes);
    for (const [field] of fieldsOf(kernel)) {
      const value = args[field];
      if (typeof value === 'object' && value.storage instanceof Table) bytes += align8(4 * value.storage.words.length);
    }
  }
  return bytes;
}

/** Writes commands to `address` (16-byte aligned) and returns their uses. All storages have their addresses by now. */
export function writeProgram(memory: LinearMemory, address: number, commands: readonly Command[]): Use[] {
  const writer = new ProgramWriter(memory, address, commands.length);
  commands.forEach((command, index) => {
    writer.command(command, index);
  });
  return writer.uses;
}

function align8(bytes: number): number {
  return (bytes + 7) & ~7;
}

class ProgramWriter {
  readonly uses: Use[] = [];
  readonly #memory: LinearMemory;
  readonly #start: number;
  #next: number;
  #index = 0;

  constructor(memory: LinearMemory, start: number, count: number) {
    this.#memory = memory;
    this.#start = start;
    this.#next = start + count * COMMAND_BYTES;
  }

  command({ kernel, args, grid }: Command, index: number): void {
    this.#index = index;
    const { i32, u32, f32 } = this.#memory;
    const word = (this.#start + index * COMMAND_BYTES) >>> 2;
    const record = this.#take(kernel.bytes);
    i32[word] = kernel.id;
    u32[word + 1] = record;
    i32[word + 2] = grid.tiles;
    f32[word + 3] = grid.work;
    for (const [field, type, offset] of fieldsOf(kernel)) this.#field(record + offset, type, args[field]!);
  }

  #take(bytes: number): number {
    const address = this.#next;
    this.#next += align8(bytes);
    return address;
  }

  #field(at: number, type: FieldType, value: number | Location): void {
    const { i32, u32, f32, f64 } = this.#memory;
    if (typeof value === 'object') this.#address(at, value, ACCESS[type]);
    else if (type === 'f32') f32[at >>> 2] = value;
    else if (type === 'f64') f64[at >>> 3] = value;
    else if (type === 'i64' || type === 'u64') {
      u32[at >>> 2] = value >>> 0;
      i32[(at >>> 2) + 1] = Math.floor(value / 2 ** 32);
    } else i32[at >>> 2] = value;
  }

  #address(at: number, location: Location, access: Access | undefined): void {
    const { storage, byteOffset, bytes } = location;
    let address = 0;
    if (storage instanceof Table) address = this.#table(storage);
    else if (storage) {
      address = storage.address + byteOffset;
      this.uses.push({ at: at - this.#start, command: this.#index, storage, byteOffset, bytes, access: access! });
    }
    this.#memory.u32[at >>> 2] = address;
  }

  #table({ words }: Table): number {
    const address = this.#take(4 * words.length);
    words.forEach((word, i) => {
      const at = address + 4 * i;
      if (typeof word === 'object') this.#address(at, word.location, word.access);
      else this.#memory.i32[at >>> 2] = word;
    });
    return address;
  }
}

/** Points the uses of one storage at a new address. */
export function patch(memory: LinearMemory, program: number, uses: readonly Use[], address: number): void {
  for (const use of uses) memory.u32[(program + use.at) >>> 2] = address + use.byteOffset;
}
