// A captured list of op calls, lowered, placed and written: one call into wasm replays it.
import { patch, programBytes, type Use, usesOf, writeProgram } from '../runtime/program.ts';
import type { Command } from '../runtime/command.ts';
import { engine } from '../runtime/engine.ts';
import { blockBytes } from '../runtime/heap.ts';
import { Storage } from '../runtime/storage.ts';
import { checkReadable, CommandList, runError } from '../tensor/apply.ts';
import { materialise, track } from '../tensor/lifetime.ts';
import type { OpCall } from '../tensor/op.ts';
import { Tensor } from '../tensor/tensor.ts';
import { type Placement, lifetimes, place } from './planner.ts';
import { type CallCommands, hoistConstants, Prepared } from './prepare.ts';

/** What a program will take and do, known before it runs. */
export interface Plan {
  /**
   * Bytes of linear memory in use while it runs: arena, program, packed weights, inputs and outputs, scratch memory, and every
   * parameter, gradient and optimiser buffer that it names.
   */
  readonly peakBytes: number;
  /** Bytes of the intermediates. */
  readonly arenaBytes: number;
  /** Bytes of parameters and other persistent buffers that it names. */
  readonly persistentBytes: number;
  /** Multiply-adds of one run. */
  readonly macs: number;
  /** The commands in order: op, module, kernel. */
  readonly commands: readonly { op: string; module: string; kernel: string }[];
}

/** Options of `Program`. */
export interface ProgramOptions {
  /** Computes what depends on parameters only (packed weights) once per version of them. For inference. */
  readonly hoist?: boolean;
}

/** A replayable program over fixed shapes. */
export class Program {
  readonly plan: Plan;
  readonly #calls: readonly CallCommands[];
  readonly #owner: readonly CallCommands[];
  readonly #inputs: readonly Tensor[];
  readonly #outputs: readonly Tensor[];
  readonly #count: number;
  readonly #scratch: number;
  readonly #prepared: Prepared | null;
  readonly #pinned: readonly Storage[];
  readonly #written: readonly Storage[];
  readonly #uses: ReadonlyMap<Storage, readonly Use[]>;
  #address = 0;
  #arena = 0;

  constructor(
    calls: readonly OpCall[],
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    { hoist = false }: ProgramOptions = {},
  ) {
    const lowered = calls.map(lower);
    const fixed = new Set([...inputs, ...outputs].map((tensor) => tensor.storage));
    const { prepared, rest } = hoist ? hoistConstants(lowered, fixed) : { prepared: null, rest: lowered };
    const owner = rest.flatMap((call) => call.commands.map(() => call));
    const commands = rest.flatMap((call) => call.commands);
    this.#calls = rest;
    this.#owner = owner;
    this.#inputs = inputs;
    this.#outputs = outputs;
    this.#count = commands.length;
    this.#scratch = Math.max(0, ...commands.map(({ grid }) => grid.scratch ?? 0));
    this.#prepared = prepared;
    const named = namedStorages(commands);
    this.#pinned = [...named.keys()].filter((storage) => storage.state === 'live' || storage.state === 'lazy');
    this.#written = this.#pinned.filter((storage) => named.get(storage));
    const placement = place(
      lifetimes(commands, (storage) => storage.state === 'planned' && !fixed.has(storage)),
      engine().debug,
    );
    this.plan = this.#makePlan(commands, placement, fixed);
    this.#uses = this.#write(commands, placement);
  }

  #makePlan(commands: readonly Command[], placement: Placement, fixed: ReadonlySet<Storage>): Plan {
    const blocks = (list: Iterable<Storage>): number => {
      let sum = 0;
      for (const { bytes } of list) sum += blockBytes(bytes);
      return sum;
    };
    const persistentBytes = blocks(new Set([...this.#pinned, ...(this.#prepared?.sources ?? [])]));
    const ends = [...fixed].filter((storage) => storage.state === 'planned');
    const program = blockBytes(programBytes(commands)) + (this.#prepared?.bytes ?? 0);
    const arena = placement.bytes ? blockBytes(placement.bytes) : 0;
    return {
      peakBytes: persistentBytes + blocks(ends) + program + arena + engine().overheadBytes(this.#scratch),
      arenaBytes: placement.bytes,
      persistentBytes,
      macs: this.#calls.reduce((sum, { macs }) => sum + macs, 0),
      commands: this.#owner.map(({ call }, i) => ({
        op: call.op.name,
        module: call.module,
        kernel: commands[i]!.kernel.name,
      })),
    };
  }

  #write(commands: readonly Command[], placement: Placement): ReadonlyMap<Storage, readonly Use[]> {
    const { heap, memory } = engine();
    for (const storage of this.#pinned) materialise(storage);
    this.#prepared?.write();
    this.#arena = placement.bytes ? heap.allocate(placement.bytes) : 0;
    this.#address = heap.allocate(programBytes(commands));
    for (const [storage, offset] of placement.offsets) storage.address = this.#arena + offset;
    const uses = writeProgram(memory, this.#address, commands);
    for (const storage of this.#pinned) storage.pins++;
    return groupBy(uses);
  }

  /** Runs on these inputs, whose specs are those of the capture, and returns fresh outputs. */
  run(inputs: readonly Tensor[]): Tensor[] {
    if (!this.#address) throw new Error('run: this program was disposed');
    for (const input of inputs) {
      checkReadable('run', input);
      materialise(input.storage);
    }
    for (const storage of this.#pinned)
      if (storage.state === 'released') throw new Error(`run: a buffer of this program was ${storage.releasedBy}`);
    this.#prepared?.refresh();
    this.#inputs.forEach((input, i) => {
      this.#bind(input.storage, inputs[i]!.storage.address + byteOffset(inputs[i]!));
    });
    const outputs = this.#bindOutputs(inputs);
    engine().reserveScratch(this.#scratch);
    const failure = engine().run(this.#address, this.#count);
    for (const storage of this.#written) storage.version++;
    if (failure) {
      const { call } = this.#owner[failure.command]!;
      throw runError(failure, call.op.name, call.module);
    }
    return outputs;
  }

  #bind(storage: Storage, address: number): void {
    patch(engine().memory, this.#address, this.#uses.get(storage) ?? [], address);
  }

  /** Fresh memory for each planned output; an output that is an input or a parameter is handed back as it is. */
  #bindOutputs(inputs: readonly Tensor[]): Tensor[] {
    const fresh = new Map<Storage, Storage>();
    this.#inputs.forEach((input, i) => {
      fresh.set(input.storage, inputs[i]!.storage);
    });
    return this.#outputs.map(({ storage, shape, dtype, strides, offset }) => {
      let target = storage.state === 'planned' ? fresh.get(storage) : storage;
      if (!target) {
        target = new Storage(storage.bytes);
        target.computed = true;
        engine().allocate(target);
        track(target);
        fresh.set(storage, target);
        this.#bind(storage, target.address);
      }
      return new Tensor({ storage: target, shape, dtype, strides, offset });
    });
  }

  /** Gives back its memory and unpins what it named. */
  dispose(): void {
    if (!this.#address) return;
    const { heap } = engine();
    heap.free(this.#address);
    if (this.#arena) heap.free(this.#arena);
    this.#prepared?.dispose();
    this.#address = this.#arena = 0;
    for (const storage of this.#pinned) storage.pins--;
  }
}

function byteOffset(tensor: Tensor): number {
  return tensor.offset * (tensor.dtype === 'u8' ? 1 : 4);
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
