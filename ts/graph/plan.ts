// What a program takes and does, as people read it: call by call, with the algorithm, the memory, the work and the time of each.

import { engine } from '../runtime/engine.ts';
import { blockBytes } from '../runtime/heap.ts';
import { usesOf } from '../runtime/program.ts';
import type { Storage } from '../runtime/storage.ts';
import type { OpCall } from '../tensor/op.ts';
import { blocksOf, type CallCommands, type Program } from './program.ts';
import { table } from './table.ts';

/** One command of a plan. */
export interface PlannedCommand {
  readonly op: string;
  /** Path of the module that called the op. */
  readonly module: string;
  readonly kernel: string;
  readonly tiles: number;
}

/** One op call of a plan. */
export interface PlannedLayer {
  /** Path of the module that called the op. */
  readonly module: string;
  readonly op: string;
  /** How it is computed, where there is a choice. */
  readonly algorithm: string;
  /** What was fused into it: `scale` (a BatchNorm folded into the weights), `residual`, `clamp`. */
  readonly fused: readonly string[];
  /** Why another algorithm was not taken, '' if there is nothing to say. */
  readonly note: string;
  /** Shape of its first operand and of its result. */
  readonly input: readonly number[];
  readonly output: readonly number[];
  /** Bytes of memory that it reads and writes: operands, packed weights, results. */
  readonly bytes: number;
  /** Multiply-adds, as a direct computation would do them. */
  readonly macs: number;
  /** Milliseconds of the fastest run, once the program has been profiled. */
  readonly milliseconds: number | null;
  /** `macs` in that time, over what all threads could do at most: above 1 an algorithm saves work. Null where there are none. */
  readonly shareOfPeak: number | null;
}

/** What a program takes and does, known before it runs. `String(plan)` is a table. */
export interface Plan {
  /**
   * Bytes of linear memory that are in use while it runs: intermediates, program, packed weights, inputs and outputs, every
   * parameter, gradient and optimiser buffer it names, and the engine's own (staging, scratch memory per thread).
   */
  readonly peakBytes: number;
  /** Bytes of the intermediates. */
  readonly arenaBytes: number;
  /** Bytes of parameters, packed weights and other persistent buffers that it names. */
  readonly persistentBytes: number;
  /** Multiply-adds of one run, in convolutions and matrix products. */
  readonly macs: number;
  /** The op calls in order. */
  readonly layers: readonly PlannedLayer[];
  /** The commands in order. */
  readonly commands: readonly PlannedCommand[];
  toString(): string;
}

/** How long the calls of a program took, and what the machine can do. */
export interface Timing {
  /** Milliseconds per call. */
  readonly milliseconds: readonly number[];
  /** Multiply-adds per millisecond, of all threads together. */
  readonly peak: number;
}

/** What is known besides the programs. */
export interface PlanDetails {
  /** Of all calls. */
  readonly timing?: Timing | undefined;
  readonly notes?: ReadonlyMap<OpCall, string> | undefined;
}

/** The plan of programs that run one after the other. */
export function planOf(programs: readonly Program[], { timing, notes }: PlanDetails = {}): Plan {
  const persistentBytes = blocksOf(new Set(programs.flatMap(({ pinned }) => pinned)));
  const arenaBytes = Math.max(0, ...programs.map((program) => program.arenaBytes));
  const scratch = Math.max(0, ...programs.map((program) => program.scratchBytes));
  const own = programs.reduce((sum, program) => sum + program.ownBytes, 0);
  const arena = arenaBytes ? blockBytes(arenaBytes) : 0;
  const calls = programs.flatMap((program) => program.calls).filter(({ commands }) => commands.length);
  const layers = calls.map((each, i) => {
    const time = timing && { ...timing, milliseconds: timing.milliseconds[i]! };
    return { ...layerOf(each, time), note: notes?.get(each.call) ?? '' };
  });
  const plan = {
    peakBytes: persistentBytes + own + arena + engine().overheadBytes(scratch),
    arenaBytes,
    persistentBytes,
    macs: layers.reduce((sum, { macs }) => sum + macs, 0),
    layers,
    commands: calls.flatMap(commandsOf),
  };
  return Object.defineProperty(plan, 'toString', { value: () => show(plan) });
}

function commandsOf({ call, commands }: CallCommands): PlannedCommand[] {
  const { op, module } = call;
  return commands.map(({ kernel, grid }) => ({ op: op.name, module, kernel: kernel.name, tiles: grid.tiles }));
}

function layerOf(
  { call, commands }: CallCommands,
  timing: { milliseconds: number; peak: number } | undefined,
): Omit<PlannedLayer, 'note'> {
  const { op, module, inputs, outputs } = call;
  const { macs = 0, algorithm = '' } = (call.geometry ?? {}) as { macs?: number; algorithm?: string };
  const milliseconds = timing?.milliseconds ?? null;
  const extents = new Map<Storage, number>();
  for (const command of commands)
    for (const { storage, location } of usesOf(command))
      extents.set(storage, Math.max(extents.get(storage) ?? 0, location.bytes));
  return {
    module,
    op: op.name,
    algorithm,
    fused: fusedInto(call),
    input: inputs[0]?.shape ?? [],
    output: outputs[0]?.shape ?? [],
    bytes: [...extents.values()].reduce((sum, bytes) => sum + bytes, 0),
    macs,
    milliseconds,
    shareOfPeak: timing && macs ? macs / timing.milliseconds / timing.peak : null,
  };
}

/** Names of what passes have fused into a call. */
function fusedInto({ op, inputs, geometry }: OpCall): string[] {
  const [, , , residual, scale] = op.name === 'conv2d' ? inputs : [];
  const { lo = Number.NEGATIVE_INFINITY, hi = Number.POSITIVE_INFINITY } = (geometry ?? {}) as Record<string, number>;
  const clamps = op.name !== 'clamp' && op.name !== 'hardtanh' && (lo > Number.NEGATIVE_INFINITY || hi < Infinity);
  return [scale ? 'scale' : '', residual ? 'residual' : '', clamps ? 'clamp' : ''].filter(Boolean);
}

const MEGA = 1e6;

/** The plan as a table, one line per op call, and the sums below. */
function show({ layers, macs, peakBytes, arenaBytes, persistentBytes }: Plan): string {
  const timed = layers.some(({ milliseconds }) => milliseconds !== null);
  const number = (value: number | null, digits: number): string => (value === null ? '' : value.toFixed(digits));
  const rows = layers.map((layer) => [
    layer.module,
    [layer.op, ...layer.fused].join('+'),
    layer.algorithm,
    layer.input.join('x'),
    layer.output.join('x'),
    number(layer.bytes / MEGA, 2),
    layer.macs ? number(layer.macs / MEGA, 1) : '',
    ...(timed
      ? [number(layer.milliseconds, 3), layer.shareOfPeak ? `${number(100 * layer.shareOfPeak, 0)} %` : '']
      : []),
  ]);
  const total = layers.reduce((sum, { milliseconds }) => sum + (milliseconds ?? 0), 0);
  const sums = ['', '', '', '', 'all', '', number(macs / MEGA, 1), ...(timed ? [number(total, 3), ''] : [])];
  const heads = ['module', 'op', 'algorithm', 'input', 'output', 'MB', 'MMACs', ...(timed ? ['ms', 'peak'] : [])];
  const memory = [persistentBytes, arenaBytes, peakBytes].map((bytes) => number(bytes / MEGA, 2));
  const notes = layers.filter(({ note }) => note).map(({ module, note }) => `${module}: ${note}\n`);
  return `${table(heads, [...rows, sums], 5)}\nmemory: weights ${memory[0]} MB, intermediates ${memory[1]} MB, peak ${memory[2]} MB\n${notes.join('')}`;
}
