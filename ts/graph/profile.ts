// Where the time of a program goes: each command timed inside wasm, over several runs.
import * as kernels from '../generated/kernels.ts';
import { engine, whenShutDown } from '../runtime/engine.ts';
import { CommandList } from '../tensor/apply.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Plan, PlannedLayer, Timing } from './plan.ts';
import type { Program } from './program.ts';

/** Events that trace viewers show: chrome://tracing, ui.perfetto.dev. Written to a file by `JSON.stringify`. */
export interface Trace {
  readonly traceEvents: readonly TraceEvent[];
  readonly displayTimeUnit: 'ms';
}

/** One event in the Trace Event Format; times are microseconds. */
export interface TraceEvent {
  readonly name: string;
  readonly ph: 'X' | 'M';
  readonly pid: number;
  readonly tid: number;
  readonly cat?: string;
  readonly ts?: number;
  readonly dur?: number;
  readonly args: Readonly<Record<string, unknown>>;
}

/** Where the time went. `String(profile)` is the plan's table, with times. */
export interface Profile {
  /** The plan, with milliseconds and shares of the peak. */
  readonly plan: Plan;
  readonly layers: readonly PlannedLayer[];
  /** Milliseconds of all calls together, each at its fastest. */
  readonly milliseconds: number;
  /** What a loop of multiply-adds reaches on this machine with this build and all threads, in GFLOP/s. */
  readonly peakGflops: number;
  /** The calls, each at its fastest, in the Trace Event Format. */
  trace(): Trace;
  toString(): string;
}

/** Runs a program `runs` times, `before` before each, and takes the fastest of each call; `describe` makes the plan with these times. */
export function profileOf(
  program: Program,
  inputs: readonly Tensor[],
  runs: number,
  describe: (timing: Timing) => Plan,
  before: () => void = () => {},
): Profile {
  const rounds = Array.from({ length: runs }, () => {
    before();
    return callTimes(program, program.time(inputs));
  });
  const milliseconds = rounds[0]!.map((_, call) => Math.min(...rounds.map((times) => times[call]!)));
  const timing = { milliseconds, peak: peakRate() };
  const plan = describe(timing);
  const profile: Profile = {
    plan,
    layers: plan.layers,
    milliseconds: milliseconds.reduce((sum, time) => sum + time, 0),
    peakGflops: (2 * timing.peak) / 1e6,
    trace: () => traceOf(plan.layers),
  };
  return Object.defineProperty(profile, 'toString', { value: () => String(plan) });
}

/** Milliseconds per call, from the moments at which commands started. */
function callTimes(program: Program, moments: Float64Array): number[] {
  let command = 0;
  const times: number[] = [];
  for (const { commands } of program.calls) {
    if (!commands.length) continue;
    const start = moments[command]!;
    command += commands.length;
    times.push(moments[command]! - start);
  }
  return times;
}

/** Calls one after the other. Source: Trace Event Format, docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. */
function traceOf(layers: readonly PlannedLayer[]): Trace {
  let now = 0;
  const name = (what: string, value: string): TraceEvent => ({
    name: what,
    ph: 'M',
    pid: 1,
    tid: 1,
    args: { name: value },
  });
  const events = layers.map((layer): TraceEvent => {
    const { module, op, milliseconds, ...args } = layer;
    const dur = 1000 * milliseconds!;
    const event = {
      name: module || op,
      cat: op,
      ph: 'X' as const,
      pid: 1,
      tid: 1,
      ts: now,
      dur,
      args: { op, ...args },
    };
    now += dur;
    return event;
  });
  return {
    traceEvents: [name('process_name', 'feathermap'), name('thread_name', 'program'), ...events],
    displayTimeUnit: 'ms',
  };
}

/** Multiply-adds per millisecond of all threads, once it was measured. */
let measured: number | null = null;
const LANES = 4;
/** Vector multiply-adds of one measurement, about 0.3 ms, and how many of those there are: V8 takes a while to optimise the loop. */
const ROUNDS = 5000;
const MEASUREMENTS = 100;

function peakRate(): number {
  if (measured !== null) return measured;
  const list = new CommandList();
  const result = list.temporary(16);
  list.command(kernels.peak, { y: result, rounds: ROUNDS, factor: 0.5 }, { tiles: 1, work: 0 });
  const [storage] = list.temporaries;
  engine().allocate(storage!);
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < MEASUREMENTS; i++) {
    const start = performance.now();
    engine().execute(list.commands);
    const time = performance.now() - start;
    if (time > 0) best = Math.min(best, time);
  }
  engine().heap.free(storage!.address);
  measured = ((ROUNDS * kernels.PEAK_ROUND * LANES) / best) * engine().threads;
  return measured;
}

whenShutDown(() => {
  measured = null;
});
