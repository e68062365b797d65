// Constants: buffers that follow from parameters alone, such as packed weights. They are computed once per version of the parameters
// and shared: two programs over one model (batch 1 and batch 8) that pack a weight alike have it in memory once.
//
//   parameters --> transient constants (folded vectors) --> held constants (packed weights) --> programs
//
// A held constant is one that a program reads; it has memory as long as there is such a program. A transient one is read by other
// constants alone; it has memory only while one of those is computed.
import type { Command, Location } from '../runtime/command.ts';
import { fieldsOf, Table } from '../runtime/command.ts';
import { engine, whenShutDown } from '../runtime/engine.ts';
import { usesOf } from '../runtime/program.ts';
import type { Storage } from '../runtime/storage.ts';
import { runError } from '../tensor/apply.ts';
import { discard, materialise, retire } from '../tensor/lifetime.ts';

/** The constants that there are, by what they compute. */
let known = new Map<string, Constant>();

/** One or more buffers, and the commands that fill them. */
export class Constant {
  static #count = 0;
  readonly id: number = Constant.#count++;
  readonly storages: readonly Storage[];
  /** Parameters that it follows from, also by way of other constants. */
  readonly roots: readonly Storage[];
  readonly #key: string;
  readonly #commands: readonly Command[];
  readonly #parts: readonly Constant[];
  readonly #sources: readonly Storage[];
  /** Programs and constants that need it. */
  #users = 0;
  /** Programs among them. */
  #holders = 0;
  /** Versions of the roots it was computed from, null while it holds nothing. */
  #versions: readonly number[] | null = null;

  constructor(key: string, commands: readonly Command[], storages: readonly Storage[], parts: readonly Constant[]) {
    this.storages = storages;
    this.#key = key;
    this.#commands = commands;
    this.#parts = parts;
    const made = new Set([...storages, ...parts.flatMap((part) => part.storages)]);
    const used = new Set(commands.flatMap((command) => [...usesOf(command)].map(({ storage }) => storage)));
    this.#sources = [...used].filter((storage) => !made.has(storage));
    this.roots = [...new Set([...this.#sources, ...parts.flatMap((part) => part.roots)])];
    // To programs it is what a parameter is: there before they run, and not theirs to place.
    for (const storage of storages) {
      storage.state = 'lazy';
      storage.persistent = true;
    }
    for (const part of parts) part.#users++;
    known.set(key, this);
  }

  /** Bytes of its buffers. */
  get bytes(): number {
    return this.storages.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** A program reads it from now on. */
  hold(): void {
    this.#users++;
    this.#holders++;
  }

  /** A program that held it is gone. */
  release(): void {
    this.#holders--;
    this.#drop();
  }

  #drop(): void {
    if (--this.#users) return;
    known.delete(this.#key);
    for (const storage of this.storages) discard(storage, 'released with the last program that used it');
    for (const part of this.#parts) part.#drop();
  }

  /** Computes it if it never was, or a parameter has changed since. */
  refresh(): void {
    if (this.#isCurrent()) return;
    const transient: Constant[] = [];
    try {
      this.#compute(transient);
    } finally {
      for (const constant of transient) constant.#forget();
    }
  }

  #isCurrent(): boolean {
    const versions = this.#versions;
    if (!versions) return false;
    for (let i = 0; i < versions.length; i++) if (versions[i] !== this.roots[i]!.version) return false;
    return true;
  }

  #compute(transient: Constant[]): void {
    if (this.#isCurrent()) return;
    for (const part of this.#parts) part.#compute(transient);
    if (!this.#holders) transient.push(this);
    for (const storage of [...this.#sources, ...this.storages]) materialise(storage);
    const failure = engine().execute(this.#commands);
    if (failure) throw runError(failure, 'compile', '');
    this.#versions = this.roots.map(({ version }) => version);
  }

  #forget(): void {
    this.#versions = null;
    for (const storage of this.storages) retire(storage);
  }
}

whenShutDown(() => {
  known = new Map();
});

/** Splits commands into constants and the rest, which reads them. `fixed` are inputs and outputs: they change from run to run. */
export function hoistConstants(
  commands: readonly Command[],
  fixed: ReadonlySet<Storage>,
): { constants: Constant[]; rest: Map<Command, Command> } {
  const constant = constantCommands(commands, fixed);
  const finder = new ConstantFinder(commands.filter((command) => constant.has(command)));
  const rest = new Map<Command, Command>();
  for (const command of commands) if (!constant.has(command)) rest.set(command, finder.replace(command));
  return { constants: [...finder.used], rest };
}

/** Commands whose every operand is a parameter that this program leaves alone, or the result of such commands. */
function constantCommands(commands: readonly Command[], fixed: ReadonlySet<Storage>): Set<Command> {
  const constant = new Set(commands);
  const writers = writersOf(commands);
  const settled = settledStorages(commands, writers);
  const varies = (command: Command): boolean => {
    for (const { storage, access } of usesOf(command)) {
      if (fixed.has(storage)) return true;
      if (access !== 'read' && (storage.state !== 'planned' || !settled.has(storage))) return true;
      if (writers.get(storage)?.some((writer) => !constant.has(writer))) return true;
    }
    return false;
  };
  for (let before = -1; before !== constant.size; ) {
    before = constant.size;
    for (const command of constant) if (varies(command)) constant.delete(command);
  }
  return constant;
}

function writersOf(commands: readonly Command[]): Map<Storage, Command[]> {
  const writers = new Map<Storage, Command[]>();
  for (const command of commands)
    for (const { storage, access } of usesOf(command)) {
      if (access === 'read') continue;
      const list = writers.get(storage) ?? [];
      if (list.at(-1) !== command) writers.set(storage, [...list, command]);
    }
  return writers;
}

/** Storages that nobody reads before they are written for the last time. */
function settledStorages(
  commands: readonly Command[],
  writers: ReadonlyMap<Storage, readonly Command[]>,
): Set<Storage> {
  const settled = new Set<Storage>();
  const writing = new Map([...writers].map(([storage, list]) => [storage, new Set(list)]));
  for (const command of commands)
    for (const { storage, access } of usesOf(command)) {
      const left = writing.get(storage);
      if (!left) continue;
      if (access !== 'read') left.delete(command);
      else if (left.size && !left.has(command)) writing.delete(storage);
      if (!left.size && writing.has(storage)) settled.add(storage);
    }
  return settled;
}

/** Finds the constant behind a storage: one that is known, or a new one. */
class ConstantFinder {
  /** The constants that commands outside read. */
  readonly used = new Set<Constant>();
  /** Commands that write a storage, or another one together with it. */
  readonly #makers = new Map<Storage, readonly Command[]>();
  readonly #found = new Map<Storage, Constant>();
  /** Where the buffers of known constants really are. */
  readonly #places = new Map<Storage, Storage>();

  constructor(commands: readonly Command[]) {
    const groups = new Map<Storage, Set<Command>>();
    for (const command of commands) {
      const group = new Set([command]);
      for (const storage of written(command)) for (const other of groups.get(storage) ?? []) group.add(other);
      for (const member of group) for (const storage of written(member)) groups.set(storage, group);
    }
    for (const [storage, group] of groups)
      this.#makers.set(
        storage,
        commands.filter((command) => group.has(command)),
      );
  }

  /** A command that reads constants, as it reads the known ones. */
  replace(command: Command): Command {
    for (const { storage } of usesOf(command)) {
      const constant = this.#constantOf(storage);
      if (constant) this.used.add(constant);
    }
    return relocated(command, this.#places);
  }

  #constantOf(storage: Storage): Constant | null {
    const commands = this.#makers.get(storage);
    if (!commands) return null;
    const found = this.#found.get(storage);
    if (found) return found;
    const own = [...new Set(commands.flatMap(written))];
    const parts = new Set<Constant>();
    for (const command of commands)
      for (const { storage: read } of usesOf(command)) {
        const part = own.includes(read) ? null : this.#constantOf(read);
        if (part) parts.add(part);
      }
    const placed = commands.map((command) => relocated(command, this.#places));
    const key = placed.map((command) => keyOf(command, own, parts)).join(';');
    const constant = known.get(key) ?? new Constant(key, placed, own, [...parts]);
    own.forEach((storage, i) => {
      this.#found.set(storage, constant);
      if (constant.storages[i] !== storage) this.#places.set(storage, constant.storages[i]!);
    });
    return constant;
  }
}

/** Storages that a command writes. */
function written(command: Command): Storage[] {
  return [...usesOf(command)].filter(({ access }) => access !== 'read').map(({ storage }) => storage);
}

/** A command whose operands lie elsewhere. */
function relocated(command: Command, places: ReadonlyMap<Storage, Storage>): Command {
  if (![...usesOf(command)].some(({ storage }) => places.has(storage))) return command;
  const moved = (location: Location): Location => {
    const { storage } = location;
    if (storage instanceof Table)
      return { ...location, storage: new Table(storage.words.map((word) => movedWord(word))) };
    return storage && places.has(storage) ? { ...location, storage: places.get(storage)! } : location;
  };
  const movedWord = (word: Table['words'][number]): Table['words'][number] =>
    typeof word === 'object' ? { ...word, location: moved(word.location) } : word;
  const args = Object.entries(command.args).map(([name, value]) => [
    name,
    typeof value === 'object' ? moved(value) : value,
  ]);
  return { ...command, args: Object.fromEntries(args) };
}

/** What a command computes, as a text that is the same for every program: constants and parameters by number, own buffers by position. */
function keyOf(command: Command, own: readonly Storage[], parts: ReadonlySet<Constant>): string {
  const name = (storage: Storage): string => {
    if (own.includes(storage)) return `own${own.indexOf(storage)}`;
    for (const part of parts)
      if (part.storages.includes(storage)) return `c${part.id}.${part.storages.indexOf(storage)}`;
    return `s${storage.id}`;
  };
  const place = ({ storage, byteOffset, bytes }: Location): string => {
    if (!storage) return '-';
    if (!(storage instanceof Table)) return `${name(storage)}+${byteOffset}:${bytes}`;
    return `[${storage.words.map((word) => (typeof word === 'object' ? place(word.location) : word)).join()}]`;
  };
  const values = fieldsOf(command.kernel).map(([field]) => {
    const value = command.args[field]!;
    return typeof value === 'object' ? place(value) : value;
  });
  return `${command.kernel.name}(${values.join()})`;
}
