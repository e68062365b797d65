// A captured list of op calls, lowered, placed and written: one call into wasm replays it.
import { checkCanary, paintCanary } from '../runtime/canary.ts';
import type { Command } from '../runtime/command.ts';
import { engine } from '../runtime/engine.ts';
import { CaptureError } from '../runtime/errors.ts';
import { blockBytes } from '../runtime/heap.ts';
import { COMMAND_BYTES, patch, programBytes, type Use, usesOf, writeProgram } from '../runtime/program.ts';
import { Storage } from '../runtime/storage.ts';
import { activeRecorder, CommandList, checkReadable, runError } from '../tensor/apply.ts';
import { elementBytes } from '../tensor/dtype.ts';
import { discard, materialise, track } from '../tensor/lifetime.ts';
import type { OpCall } from '../tensor/op.ts';
import { Tensor } from '../tensor/tensor.ts';
import { enter, leave, type Tenant } from './arena.ts';
import { lifetimes, type Placement, place, placedBytes } from './planner.ts';
import { type CallCommands, hoistConstants, type Prepared } from './prepare.ts';

/** One command of a plan. */
export interface PlannedCommand {
  readonly op: string;
  /** Path of the module that called the op. */
  readonly module: string;
  readonly kernel: string;
  readonly tiles: number;
}

/** What a program takes and does, known before it runs. */
export interface Plan {
  /**
   * Bytes of linear memory that are in use while it runs: intermediates, program, packed weights, inputs and outputs, every
   * parameter, gradient and optimiser buffer it names, and the engine's own (staging, scratch memory per thread).
   */
  readonly peakBytes: number;
  /** Bytes of the intermediates. */
  readonly arenaBytes: number;
  /** Bytes of parameters and other persistent buffers that it names. */
  readonly persistentBytes: number;
  /** Multiply-adds of one run, in convolutions and matrix products. */
  readonly macs: number;
  /** The commands in order. */
  readonly commands: readonly PlannedCommand[];
}

/** Options of `Program`. */
export interface ProgramOptions {
  /** Computes what depends on parameters only (packed weights) once per version of them. For inference. */
  readonly hoist?: boolean;
  /** Takes no memory until it first runs, so that its plan can be looked at before. */
  readonly deferred?: boolean;
}

/** A replayable program over fixed shapes. */
export class Program implements Tenant {
  readonly arenaBytes: number;
  /** Persistent storages it names. While it exists they cannot be disposed. */
  readonly pinned: readonly Storage[];
  readonly #owner: readonly CallCommands[];
  readonly #commands: readonly Command[];
  readonly #inputs: readonly Tensor[];
  readonly #outputs: readonly Tensor[];
  readonly #scratch: number;
  readonly #prepared: Prepared | null;
  readonly #written: readonly Storage[];
  /** Per input, whether a command writes to it. */
  readonly #changed: readonly boolean[];
  readonly #placement: Placement;
  readonly #macs: number;
  #uses: ReadonlyMap<Storage, readonly Use[]> = new Map();
  #address = 0;
  #loaded = false;
  readonly #engine = engine();

  constructor(
    calls: readonly OpCall[],
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    { hoist = false, deferred = false }: ProgramOptions = {},
  ) {
    const lowered = calls.map(lower);
    const ends = endsOf(inputs, outputs);
    const { prepared, rest } = hoist ? hoistConstants(lowered, ends) : { prepared: null, rest: lowered };
    this.#owner = rest.flatMap((call) => call.commands.map(() => call));
    this.#commands = rest.flatMap((call) => call.commands);
    this.#inputs = inputs;
    this.#outputs = outputs;
    this.#scratch = Math.max(0, ...this.#commands.map(({ grid }) => grid.scratch ?? 0));
    this.#prepared = prepared;
    const named = namedStorages(this.#commands);
    this.pinned = [...named.keys()].filter((storage) => storage.state === 'live' || storage.state === 'lazy');
    this.#written = this.pinned.filter((storage) => named.get(storage));
    this.#changed = inputs.map(({ storage }) => named.get(storage) ?? false);
    const inArena = (storage: Storage): boolean => storage.state === 'planned' && !ends.has(storage);
    this.#placement = place(lifetimes(this.#commands, inArena), engine().debug);
    this.arenaBytes = this.#placement.bytes;
    this.#macs = rest.reduce((sum, { macs }) => sum + macs, 0);
    for (const storage of this.pinned) storage.pins++;
    if (deferred) return;
    try {
      this.#load();
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Takes memory and writes the program. If memory runs out, what was taken goes back. */
  #load(): void {
    if (engine() !== this.#engine) return;
    try {
      for (const storage of this.pinned) materialise(storage);
      this.#prepared?.write();
      this.#address = engine().heap.allocate(programBytes(this.#commands));
      enter(this);
      this.#uses = groupBy(writeProgram(engine().memory, this.#address, this.#commands));
      this.#loaded = true;
    } catch (error) {
      this.#unload();
      throw error;
    }
  }

  moved(address: number): void {
    for (const [storage, offset] of this.#placement.offsets) {
      storage.address = address + offset;
      this.#bind(storage, storage.address);
    }
  }

  /** Whether it has given its memory back. */
  get disposed(): boolean {
    return this.#loaded && this.#address === 0;
  }

  /** What it takes and does. */
  get plan(): Plan {
    return planOf([this]);
  }

  /** Bytes besides the arena and what it pins. */
  get ownBytes(): number {
    const ends = [...endsOf(this.#inputs, this.#outputs)].filter((storage) => storage.state === 'planned');
    return blocks(ends) + blockBytes(programBytes(this.#commands)) + (this.#prepared?.bytes ?? 0);
  }

  get scratchBytes(): number {
    return this.#scratch;
  }

  get macs(): number {
    return this.#macs;
  }

  /** The commands, named. */
  describe(): PlannedCommand[] {
    return this.#owner.map(({ call }, i) => {
      const { kernel, grid } = this.#commands[i]!;
      return { op: call.op.name, module: call.module, kernel: kernel.name, tiles: grid.tiles };
    });
  }

  /** Runs on these inputs, whose specs are those of the capture, and returns fresh outputs. */
  run(inputs: readonly Tensor[]): Tensor[] {
    if (!this.#loaded) this.#load();
    if (!this.#address) throw new Error('run: this program was disposed, or made before shutdown()');
    if (activeRecorder())
      throw new CaptureError('run: a compiled model or captured step cannot run inside a step that is being captured');
    for (const input of inputs) {
      checkReadable('run', input);
      materialise(input.storage);
    }
    this.#prepared?.refresh();
    engine().reserveScratch(this.#scratch);
    const fresh: Storage[] = [];
    try {
      const outputs = this.#bindEnds(inputs, fresh);
      this.#eachGap(paintCanary);
      const failure = engine().run(this.#address, this.#commands.length);
      this.#eachGap(checkCanary);
      if (failure) {
        const { call } = this.#owner[failure.command]!;
        throw runError(failure, call.op.name, call.module);
      }
      return outputs;
    } catch (error) {
      for (const storage of fresh) discard(storage, 'never written: its run failed');
      throw error;
    } finally {
      for (const storage of this.#written) storage.version++;
      inputs.forEach(({ storage }, i) => {
        if (this.#changed[i]) storage.version++;
      });
    }
  }

  /** Runs once, command by command, and returns the milliseconds each took. */
  profile(inputs: readonly Tensor[]): number[] {
    if (!this.#loaded) this.#load();
    this.#prepared?.refresh();
    this.#bindEnds(inputs, []);
    engine().reserveScratch(this.#scratch);
    return this.#commands.map((_, i) => {
      const start = performance.now();
      engine().run(this.#address + i * COMMAND_BYTES, 1);
      return performance.now() - start;
    });
  }

  #bind(storage: Storage, address: number): void {
    const uses = this.#uses.get(storage);
    if (uses) patch(engine().memory, this.#address, uses, address);
  }

  /** Visits the room behind each intermediate. Only with `debug`, where none shares its place with another. */
  #eachGap(visit: (bytes: Uint8Array, start: number, end: number, size: number) => void): void {
    if (!engine().debug) return;
    for (const { address, bytes } of this.#placement.offsets.keys())
      visit(engine().memory.u8, address + bytes, address + placedBytes(bytes), bytes);
  }

  /** Points the program at these inputs and at fresh outputs. An output that is an input or a parameter is handed back as it is. */
  #bindEnds(inputs: readonly Tensor[], fresh: Storage[]): Tensor[] {
    const bound = new Map<Storage, Storage>();
    const shifts = new Map<Storage, number>();
    this.#inputs.forEach(({ storage }, i) => {
      const { storage: actual, offset, dtype } = inputs[i]!;
      bound.set(storage, actual);
      shifts.set(storage, offset);
      this.#bind(storage, actual.address + offset * elementBytes(dtype));
    });
    return this.#outputs.map(({ storage, shape, dtype, strides, offset }) => {
      const target = storage.state === 'planned' ? (bound.get(storage) ?? this.#fresh(storage, bound, fresh)) : storage;
      const shift = shifts.get(storage) ?? 0;
      return new Tensor({ storage: target, shape, dtype, strides, offset: offset + shift });
    });
  }

  #fresh(storage: Storage, bound: Map<Storage, Storage>, fresh: Storage[]): Storage {
    const target = new Storage(storage.bytes);
    target.computed = true;
    engine().allocate(target);
    track(target);
    fresh.push(target);
    bound.set(storage, target);
    this.#bind(storage, target.address);
    return target;
  }

  lost(): void {
    this.#prepared?.lost();
    this.#address = 0;
    (this as { pinned: readonly Storage[] }).pinned = [];
  }

  /** Gives its memory back and unpins what it named. */
  dispose(): void {
    this.#unload();
    this.#loaded = true;
    for (const storage of this.pinned) storage.pins--;
    (this as { pinned: readonly Storage[] }).pinned = [];
  }

  #unload(): void {
    leave(this);
    this.#prepared?.dispose();
    if (this.#address) engine().heap.free(this.#address);
    this.#address = 0;
  }
}

/** The plan of programs that run one after the other. */
export function planOf(programs: readonly Program[]): Plan {
  const persistentBytes = blocks(new Set(programs.flatMap(({ pinned }) => pinned)));
  const arenaBytes = Math.max(0, ...programs.map((program) => program.arenaBytes));
  const scratch = Math.max(0, ...programs.map((program) => program.scratchBytes));
  const own = programs.reduce((sum, program) => sum + program.ownBytes, 0);
  const arena = arenaBytes ? blockBytes(arenaBytes) : 0;
  return {
    peakBytes: persistentBytes + own + arena + engine().overheadBytes(scratch),
    arenaBytes,
    persistentBytes,
    macs: programs.reduce((sum, program) => sum + program.macs, 0),
    commands: programs.flatMap((program) => program.describe()),
  };
}

function blocks(storages: Iterable<Storage>): number {
  let sum = 0;
  for (const { bytes } of storages) sum += blockBytes(bytes);
  return sum;
}

function endsOf(inputs: readonly Tensor[], outputs: readonly Tensor[]): Set<Storage> {
  return new Set([...inputs, ...outputs].map((tensor) => tensor.storage));
}

/** Asks an op for its commands. */
function lower(call: OpCall): CallCommands {
  const list = new CommandList();
  call.op.lower(list, call.geometry, call.inputs, call.outputs);
  const macs = (call.geometry as { macs?: number } | null)?.macs ?? 0;
  return { call, commands: list.commands, macs };
}

/** All storages that commands name, and whether any command writes them. */
function namedStorages(commands: readonly Command[]): Map<Storage, boolean> {
  const named = new Map<Storage, boolean>();
  for (const command of commands)
    for (const { storage, access } of usesOf(command))
      named.set(storage, (named.get(storage) ?? false) || access !== 'read');
  return named;
}

function groupBy(uses: readonly Use[]): Map<Storage, Use[]> {
  const groups = new Map<Storage, Use[]>();
  for (const use of uses) {
    const group = groups.get(use.storage);
    if (group) group.push(use);
    else groups.set(use.storage, [use]);
  }
  return groups;
}
