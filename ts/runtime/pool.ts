// Worker threads. A worker instantiates the same module on the same memory and spends its life inside wasm (assembly/run.ts);
// this file starts, watches and ends it. Nothing waits for a worker to come up: the calling thread computes alone until then.
import { CONTROL_BYTES, EPOCH, STOP } from '../generated/kernels.ts';
import { workerSource } from '../generated/worker.ts';
import type { LinearMemory } from './memory.ts';
import { nodeProcess } from './node.ts';

/** What a new worker is told. */
export interface WorkerOrder {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  control: number;
  lane: number;
}

/** The few things the pool needs of a worker on any platform. */
interface WorkerHandle {
  /** Lets the worker keep the process alive again, so that one can wait for its end. */
  ref(): void;
  terminate(): unknown;
  ended: Promise<void>;
}

/** Whether workers share memory here: in Node. Deno and Bun have worker_threads too, but these workers are not tested there. */
export function supportsThreads(): boolean {
  if (typeof SharedArrayBuffer === 'undefined') return false;
  if ((globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated === false) return false;
  const versions = nodeProcess()?.versions;
  return versions !== undefined && !versions.deno && !versions.bun;
}

/** Threads that `threads: 'auto'` means: the logical processors, 8 at most. */
export function automaticThreads(): number {
  const processors =
    nodeProcess()?.getBuiltinModule('node:os').availableParallelism() ?? globalThis.navigator?.hardwareConcurrency ?? 1;
  return Math.max(1, Math.min(8, processors));
}

/** `onEnd` is called when it fails or ends: by itself it never does. */
function startWorker(order: WorkerOrder, onEnd: () => void): WorkerHandle {
  const { Worker } = nodeProcess()!.getBuiltinModule('node:worker_threads');
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(workerSource)}`), { workerData: order });
  worker.unref();
  const ended = new Promise<void>((resolve) => {
    worker.on('error', onEnd);
    worker.on('exit', () => {
      onEnd();
      resolve();
    });
  });
  return { ref: () => worker.ref(), terminate: () => worker.terminate(), ended };
}

/** How long `stop` waits before it ends a worker by force. */
const GRACE_MILLISECONDS = 2000;

/** The workers of an engine, lanes 1 to `lanes - 1`; lane 0 is the thread that calls. A pool has a control block of its own. */
export class WorkerPool {
  /** True once the workers can no longer be relied on: the engine then lets go of them all before the next run. */
  broken = false;
  /** What the runtime threw when it was to start a worker: it has no thread left, or does not permit any. Null if all were started. */
  readonly failure: Error | null = null;
  readonly #workers: WorkerHandle[] = [];
  readonly #memory: LinearMemory;
  readonly #control: number;

  constructor(module: WebAssembly.Module, memory: LinearMemory, control: number, lanes: number) {
    this.#memory = memory;
    this.#control = control;
    const onEnd = (): void => {
      this.broken = true;
    };
    try {
      for (let lane = 1; lane < lanes; lane++)
        this.#workers.push(startWorker({ module, memory: memory.memory, control, lane }, onEnd));
    } catch (error) {
      this.broken = true;
      this.failure = error instanceof Error ? error : new Error(String(error));
    }
  }

  /** Asks the workers to leave and waits until they have; one that hangs is ended by force. */
  async stop(): Promise<void> {
    for (const worker of this.#workers) worker.ref();
    this.#leave();
    const timer = setTimeout(() => this.kill(), GRACE_MILLISECONDS);
    await this.#ended();
    clearTimeout(timer);
  }

  /** Ends the workers wherever they are; resolves when the last is gone. */
  kill(): Promise<void> {
    this.#leave();
    for (const worker of this.#workers) worker.terminate();
    return this.#ended();
  }

  async #ended(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.ended));
  }

  /** Sets the word that workers look at, and wakes those that sleep. */
  #leave(): void {
    const words = this.#memory.i32;
    Atomics.store(words, (this.#control + STOP) >>> 2, 1);
    const epoch = (this.#control + EPOCH) >>> 2;
    Atomics.add(words, epoch, 1);
    Atomics.notify(words, epoch);
  }
}

/** Bytes the control block takes. */
export const controlBytes: number = CONTROL_BYTES;
