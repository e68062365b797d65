// The engine: one memory, one module, one heap, one pool of workers. `init` makes it, `shutdown` ends it.
import {
  COMMAND,
  DETAIL,
  EXTENT,
  HEARTBEAT,
  INDEX_OUT_OF_RANGE,
  LANE_BYTES,
  LANE_STATE,
  LANES,
  MAX_LANES,
  SCRATCH,
  SCRATCH_STRIDE,
  TIMEOUT,
  WIDE,
  WORKER_FAILED,
} from '../generated/kernels.ts';
import type { Command } from './command.ts';
import { WorkerError } from './errors.ts';
import { blockBytes, Heap, type HeapStatistics, roundUp } from './heap.ts';
import { LinearMemory } from './memory.ts';
import { automaticThreads, controlBytes, supportsThreads, WorkerPool } from './pool.ts';
import { programBytes, writeProgram } from './program.ts';
import { stopPairing, type Trial, tryPairing } from './simd256.ts';
import type { Storage } from './storage.ts';
import {
  type Build,
  instantiateKernels,
  type KernelExports,
  kernelBytes,
  loadModule,
  supportsRelaxed,
  type WasmSource,
} from './wasm.ts';

/** Options of `init`. */
export interface InitOptions {
  /**
   * Threads, the calling one included; `'auto'` takes the processors, 8 at most. Workers start with the first program that has 0.2 ms of
   * work to share. One thread runs alone where the runtime has no workers that share memory (all but Node), or refuses to start them:
   * `engineInfo().threadsFallback` says why. Default `'auto'`.
   */
  threads?: number | 'auto' | undefined;
  /** Pins the plain SIMD build, which gives the same bits on every engine and machine. Default false. */
  deterministic?: boolean | undefined;
  /** Which kernels: `'auto'` is relaxed where the runtime accepts it. Default `'auto'`. */
  build?: 'auto' | Build | undefined;
  /**
   * Lets V8 pair 128-bit operations into 256-bit ones: Node 24 or later on x64. It sets a flag of V8 that is experimental and holds
   * for the whole process. Checked at start (0.2 s); where results or speed are not there, the ordinary kernels run, and
   * `engineInfo()` says why. Default false.
   */
  experimentalSimd256?: boolean | undefined;
  /**
   * Lets 3 x 3 and 5 x 5 convolutions be computed by Winograd's algorithm where that is faster: half the time or less, and rounding errors up
   * to ten times larger (about 3e-6 of the largest output). `false` keeps sums of exact products exact. Default true.
   */
  winograd?: boolean | undefined;
  /** The module, where it may not be compiled from bytes (edge workers) or is served from a file. It must match `build` and `threads`. */
  wasm?: WasmSource | undefined;
  /** Most bytes of linear memory; default 4 GB. */
  maxMemory?: number | undefined;
  /** Puts canaries behind every buffer and NaN into fresh memory, and checks them after every run. Slow. Default false. */
  debug?: boolean | undefined;
  /** Milliseconds after which a worker that holds work without moving counts as lost. Default 10,000. */
  workerTimeout?: number | undefined;
}

/** Room for the program of one op call; more only for tables over very many tensors. */
const STAGING_BYTES = 65536;

const OPTIONS = [
  'threads',
  'deterministic',
  'build',
  'experimentalSimd256',
  'winograd',
  'wasm',
  'maxMemory',
  'debug',
  'workerTimeout',
];

/** Counters of linear memory, in bytes. */
export interface MemoryStatistics extends HeapStatistics {
  /** What the WebAssembly memory has grown to. */
  memoryBytes: number;
}

/** Why a run ended early; `command` is its index in the program. */
export interface RunFailure {
  code: number;
  command: number;
  detail: number;
  extent: number;
}

/** The running engine. Everything above reaches memory and kernels through it. */
export class Engine {
  readonly build: Build;
  /** Whether results may depend on nothing but the program: no choice is made by timing. */
  readonly deterministic: boolean;
  /** Whether vectors are paired into 256 bits, and why not if that was asked for. */
  readonly simd256: Simd256;
  readonly memory: LinearMemory;
  readonly heap: Heap;
  readonly debug: boolean;
  /** Whether Winograd's algorithm may be chosen. */
  readonly winograd: boolean;
  readonly #kernels: KernelExports;
  readonly #module: WebAssembly.Module;
  readonly #workerTimeout: number;
  #threads: number;
  #threadsFallback: string | null;
  #control = 0;
  #pool: WorkerPool | null = null;
  #staging = 0;
  #stagingBytes = 0;
  #scratch = 0;
  #scratchStride = 0;

  constructor(settings: EngineSettings, module: WebAssembly.Module, memory: LinearMemory, kernels: KernelExports) {
    this.build = settings.build;
    this.deterministic = settings.deterministic;
    this.simd256 = settings.simd256;
    this.debug = settings.debug;
    this.winograd = settings.winograd;
    this.memory = memory;
    this.#kernels = kernels;
    this.#module = module;
    this.#workerTimeout = settings.workerTimeout;
    this.#threads = settings.threads;
    this.#threadsFallback = supportsThreads() ? null : 'this runtime has no workers that share memory';
    const control = roundUp(Math.max(1024, kernels.heapBase() >>> 0), 64);
    memory.ensure(control + controlBytes);
    this.heap = new Heap(memory, control + controlBytes, settings.debug);
    this.#useControl(control);
    this.#stage(STAGING_BYTES);
  }

  /** Threads that compute, the calling one included. */
  get threads(): number {
    return this.#threads;
  }

  /** Why there can be one thread alone, else null. */
  get threadsFallback(): string | null {
    return this.#threadsFallback;
  }

  /** Starts a control block at `address`. */
  #useControl(address: number): void {
    const { memory } = this;
    this.#control = address;
    memory.u8.fill(0, address, address + controlBytes);
    memory.i32[(address + LANES) >>> 2] = this.threads;
    memory.f32[(address + TIMEOUT) >>> 2] = this.#workerTimeout;
    this.#word(WIDE, this.simd256.active ? 1 : 0);
    this.#word(SCRATCH, this.#scratch);
    this.#word(SCRATCH_STRIDE, this.#scratchStride);
    this.#kernels.initialise(address);
  }

  /** Gives a storage its memory. */
  allocate(storage: Storage): void {
    storage.address = this.heap.allocate(storage.bytes);
    storage.state = 'live';
    storage.owner = this;
  }

  /** Writes commands to the staging area and runs them: how a single op call is executed. */
  execute(commands: readonly Command[]): RunFailure | null {
    const bytes = programBytes(commands);
    if (bytes > this.#stagingBytes) this.#stage(2 * bytes);
    let scratch = 0;
    for (const { grid } of commands) scratch = Math.max(scratch, grid.scratch ?? 0);
    this.reserveScratch(scratch);
    writeProgram(this.memory, this.#staging, commands);
    return this.run(this.#staging, commands.length);
  }

  /** Makes room for the program of one op call. */
  #stage(bytes: number): void {
    if (this.#staging) this.heap.free(this.#staging);
    this.#staging = this.#stagingBytes = 0;
    this.#staging = this.heap.allocate(bytes);
    this.#stagingBytes = bytes;
  }

  /** Makes sure every thread has `bytes` of scratch memory. */
  reserveScratch(bytes: number): void {
    if (bytes <= this.#scratchStride) return;
    const stride = scratchStride(bytes);
    if (this.#scratch) this.heap.free(this.#scratch);
    this.#scratch = this.#scratchStride = 0;
    const address = this.heap.allocate(stride * this.threads);
    this.#scratch = address;
    this.#scratchStride = stride;
    this.#word(SCRATCH, address);
    this.#word(SCRATCH_STRIDE, stride);
  }

  /** Bytes that the engine itself has in use when it runs a program that needs `scratch` bytes per thread. */
  overheadBytes(scratch: number): number {
    const stride = scratch > this.#scratchStride ? scratchStride(scratch) : this.#scratchStride;
    const lanes = stride ? blockBytes(stride * this.threads) : 0;
    return lanes + blockBytes(this.#stagingBytes);
  }

  /** Runs a program that lies in memory. Throws WorkerError if a worker is lost; other failures are returned to be named. */
  run(program: number, count: number): RunFailure | null {
    this.#startWorkers(program, count);
    return this.#guard(() => this.#kernels.run(program, count));
  }

  /** The same, with the moments, in milliseconds, at which each command started and the last one ended. */
  runTimed(program: number, count: number): { failure: RunFailure | null; times: Float64Array<ArrayBuffer> } {
    const address = this.heap.allocate(8 * (count + 1));
    try {
      this.#startWorkers(program, count);
      const failure = this.#guard(() => this.#kernels.runTimed(program, count, address));
      const first = address >>> 3;
      return { failure, times: new Float64Array(this.memory.f64.subarray(first, first + count + 1)) };
    } finally {
      this.heap.free(address);
    }
  }

  /** Workers that live, if the program is worth them. Starting costs 5 ms, so what is over sooner never has any. */
  #startWorkers(program: number, count: number): void {
    if (this.#pool?.broken) this.#discardPool();
    if (this.threads === 1 || this.#pool || !this.#kernels.worthWorkers(program, count)) return;
    this.#pool = new WorkerPool(this.#module, this.memory, this.#control, this.threads);
    const { failure } = this.#pool;
    if (!failure) return;
    // Those that did start know the control block, so it goes with them.
    this.#threads = 1;
    this.#threadsFallback = `workers could not be started: ${failure.message}`;
    this.#discardPool();
  }

  /** Calls into wasm and says how it went. */
  #guard(call: () => number): RunFailure | null {
    let code: number;
    try {
      code = call();
    } catch (error) {
      this.#discardPool();
      throw error;
    }
    if (this.debug) this.heap.checkCanaries();
    if (code === 0) return null;
    const failure = { code, command: this.#read(COMMAND), detail: this.#read(DETAIL), extent: this.#read(EXTENT) };
    if (code === INDEX_OUT_OF_RANGE) return failure;
    this.#discardPool();
    throw new WorkerError(
      code === WORKER_FAILED
        ? `worker ${failure.detail} of ${failure.extent} died in the middle of a run; the next run starts new ones`
        : `worker ${failure.detail} of ${failure.extent} has not moved for too long; the next run starts new ones`,
    );
  }

  /** Counters of linear memory. */
  statistics(): MemoryStatistics {
    return { ...this.heap.statistics, memoryBytes: this.memory.bytes };
  }

  /** Shares of work that each worker has finished since they were started. */
  workerShares(): number[] {
    return Array.from({ length: this.threads - 1 }, (_, i) =>
      this.#read(LANE_STATE + (i + 1) * LANE_BYTES + HEARTBEAT),
    );
  }

  /** Ends the workers. */
  async stop(): Promise<void> {
    await this.#pool?.stop();
    if (this.simd256.active) stopPairing();
  }

  /**
   * Ends the workers and takes a new control block and new scratch memory. The old ones cannot reach those; what they may still write
   * to is given back only when the last of them has ended. Where memory does not suffice it throws, and the next run tries again.
   */
  #discardPool(): void {
    const pool = this.#pool;
    if (!pool) return;
    pool.broken = true;
    const { heap } = this;
    const old = [this.#control, this.#scratch];
    const control = heap.allocate(controlBytes);
    try {
      if (this.#scratch) this.#scratch = heap.allocate(this.#scratchStride * this.threads);
    } catch (error) {
      heap.free(control);
      throw error;
    }
    const ended = pool.kill();
    this.#pool = null;
    const resume = heap.deferFrees();
    void ended.then(resume);
    // The first control block lies below the heap.
    for (const address of old) if (heap.has(address)) heap.free(address);
    this.#useControl(control);
  }

  #word(field: number, value: number): void {
    this.memory.u32[(this.#control + field) >>> 2] = value;
  }

  #read(field: number): number {
    return this.memory.i32[(this.#control + field) >>> 2]!;
  }
}

/** Bytes between the scratch memories of two threads; an odd number of cache lines, so that they do not share cache sets. */
function scratchStride(bytes: number): number {
  return roundUp(bytes + 64, 4096) + 64;
}

interface Simd256 {
  readonly active: boolean;
  /** Why it is not active although it was asked for. */
  readonly reason: string | null;
}

/** What an engine is made with. */
interface EngineSettings {
  build: Build;
  threads: number;
  deterministic: boolean;
  debug: boolean;
  winograd: boolean;
  workerTimeout: number;
  simd256: Simd256;
}

interface Settings {
  build: Build;
  threads: number;
  deterministic: boolean;
  experimentalSimd256: boolean;
  winograd: boolean;
  maxMemory: number;
  debug: boolean;
  workerTimeout: number;
  wasm: WasmSource | undefined;
}

/** Checks the options and fills in what `'auto'` means here. */
function settingsOf(options: InitOptions): Settings {
  for (const name of Object.keys(options))
    if (!OPTIONS.includes(name)) throw new TypeError(`init: unknown option '${name}', known are ${OPTIONS.join(', ')}`);
  const { threads = 'auto', deterministic = false, build = 'auto', maxMemory = 2 ** 32, debug = false } = options;
  const { experimentalSimd256 = false, winograd = true } = options;
  if (build !== 'auto' && build !== 'simd' && build !== 'relaxed')
    throw new RangeError(`init: build is 'auto', 'simd' or 'relaxed', got '${build}'`);
  if (deterministic && build === 'relaxed')
    throw new RangeError("init: deterministic needs the simd build, but build is 'relaxed'");
  if (experimentalSimd256 && (deterministic || build === 'simd'))
    throw new RangeError('init: experimentalSimd256 needs the relaxed build');
  if (build === 'relaxed' && !supportsRelaxed())
    throw new RangeError('init: this runtime does not accept relaxed SIMD');
  if (threads !== 'auto' && !(Number.isInteger(threads) && threads >= 1 && threads <= MAX_LANES))
    throw new RangeError(`init: threads is 'auto' or a whole number from 1 to ${MAX_LANES}, got ${threads}`);
  if (!(maxMemory >= 2 ** 20))
    throw new RangeError(`init: maxMemory is a number of bytes from 1 MB up, got ${maxMemory}`);
  const { workerTimeout = 10_000 } = options;
  if (!(workerTimeout > 0))
    throw new RangeError(`init: workerTimeout is a number of milliseconds, got ${workerTimeout}`);
  const relaxed = build === 'relaxed' || (build === 'auto' && !deterministic && supportsRelaxed());
  const wanted = threads === 'auto' ? automaticThreads() : threads;
  return {
    build: relaxed ? 'relaxed' : 'simd',
    threads: supportsThreads() ? wanted : 1,
    deterministic,
    experimentalSimd256,
    winograd,
    maxMemory,
    debug,
    workerTimeout,
    wasm: options.wasm,
  };
}

let current: Engine | null = null;
let starting: Promise<void> | null = null;
let settings: Settings | null = null;
const onShutdown: (() => void)[] = [];

/** The running engine; throws if there is none. */
export function engine(): Engine {
  if (!current) throw new Error('feathermap: call `await init()` first');
  return current;
}

/** Registers what a layer above must forget when the engine ends. */
export function whenShutDown(callback: () => void): void {
  onShutdown.push(callback);
}

function sameSettings(a: Settings, b: Settings): boolean {
  return (Object.keys(a) as (keyof Settings)[]).every((key) => a[key] === b[key]);
}

/**
 * Starts the engine: picks the kernels and makes the memory. Workers start with the first run that has work for them.
 * Calling it again with the same options does nothing; with others it throws until `shutdown()`.
 *
 * @throws TypeError for an unknown option, RangeError for a bad value, Error if the engine runs with other options
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * await init({ threads: 1 });
 * console.log(tensor([1, 2, 3]).data());
 * ```
 */
export async function init(options: InitOptions = {}): Promise<void> {
  const wanted = settingsOf(options);
  if (settings) {
    if (!sameSettings(settings, wanted))
      throw new Error('init: the engine runs with other options; call shutdown() first');
    return starting ?? undefined;
  }
  settings = wanted;
  starting = start(wanted);
  try {
    await starting;
  } catch (error) {
    settings = null;
    throw error;
  } finally {
    starting = null;
  }
}

async function start(wanted: Settings): Promise<void> {
  const shared = wanted.threads > 1;
  const trial = wanted.experimentalSimd256 ? await trySimd256(wanted, shared) : { reason: null };
  const simd256 = { active: 'module' in trial, reason: 'reason' in trial ? trial.reason : null };
  const module = 'module' in trial ? trial.module : await loadModule(wanted.build, shared, wanted.wasm);
  const memory = new LinearMemory(wanted.maxMemory, shared);
  current = new Engine({ ...wanted, simd256 }, module, memory, await instantiate(module, memory, wanted));
}

/** Bytes of memory for an engine that only tries something out. */
const TRIAL_BYTES = 2 ** 24;

/** Tries 256-bit mode with engines of their own. */
async function trySimd256(wanted: Settings, shared: boolean): Promise<Trial> {
  if (wanted.build !== 'relaxed')
    return { reason: '256-bit mode needs relaxed SIMD, which this runtime does not accept' };
  if (wanted.wasm) return { reason: '256-bit mode needs the embedded kernels, but a module was given' };
  return tryPairing(await kernelBytes('relaxed', shared), async (module, active) => {
    const memory = new LinearMemory(TRIAL_BYTES, shared);
    const settings = { ...wanted, threads: 1, debug: false, simd256: { active, reason: null } };
    return new Engine(settings, module, memory, await instantiate(module, memory, wanted));
  });
}

/** Instantiates, and names what does not fit when a module of another build was given. */
async function instantiate(module: WebAssembly.Module, memory: LinearMemory, wanted: Settings): Promise<KernelExports> {
  try {
    return await instantiateKernels(module, memory.memory);
  } catch (error) {
    if (!wanted.wasm || !(error instanceof WebAssembly.LinkError)) throw error;
    const file = `${wanted.build}${wanted.threads > 1 ? '-mt' : ''}.wasm`;
    throw new RangeError(
      `init: this wasm does not fit build '${wanted.build}' with threads ${wanted.threads}, which need ${file}: ${error.message}`,
    );
  }
}

/**
 * Ends the engine and its workers. All tensors are gone; `init` may then be called with other options.
 *
 * @example
 * ```ts
 * import { init, shutdown } from 'feathermap';
 * await init({ threads: 2 });
 * await shutdown();
 * await init({ threads: 1 });
 * ```
 */
export async function shutdown(): Promise<void> {
  await starting;
  const ending = current;
  current = null;
  settings = null;
  for (const callback of onShutdown) callback();
  await ending?.stop();
}

/** What the running engine is. */
export interface EngineInfo {
  readonly build: Build;
  /** Threads that compute; workers among them start with the first program that has 0.2 ms of work to share. */
  readonly threads: number;
  /** Why this runtime computes with one thread alone (it has no workers that share memory, or did not start them), else null. */
  readonly threadsFallback: string | null;
  /** Width of the vectors that the kernels compute with. */
  readonly vectorBits: 128 | 256;
  /** Why `experimentalSimd256` was asked for and is not in use, else null. */
  readonly simd256Fallback: string | null;
}

/**
 * Which kernels run, on how many threads and how wide vectors.
 *
 * @example
 * ```ts
 * import { engineInfo, init } from 'feathermap';
 * await init({ experimentalSimd256: true });
 * const { vectorBits, simd256Fallback } = engineInfo();
 * if (vectorBits === 128) console.log(simd256Fallback);
 * ```
 */
export function engineInfo(): EngineInfo {
  const { build, threads, threadsFallback, simd256 } = engine();
  return {
    build,
    threads,
    threadsFallback,
    vectorBits: simd256.active ? 256 : 128,
    simd256Fallback: simd256.reason,
  };
}

/**
 * Counters of linear memory: bytes in use, the most that were, what the heap reserved, what the memory has grown to.
 *
 * @example
 * ```ts
 * import { init, memoryStatistics, zeros } from 'feathermap';
 * await init();
 * const before = memoryStatistics().allocatedBytes;
 * const x = zeros([1024]);
 * if (memoryStatistics().allocatedBytes - before < 4096) throw new Error('where did it go?');
 * x.dispose();
 * ```
 */
export function memoryStatistics(): MemoryStatistics {
  return engine().statistics();
}
