// A worker thread's whole program; built into one string (ts/generated/worker.ts) and started from it.
// It catches everything and marks itself failed in the control block, where the waiting thread sees it.
import { BUSY, FAILED, LANE_BYTES, LANE_STATE } from '../generated/kernels.ts';
import type { WorkerOrder } from './pool.ts';
import { instantiateKernels } from './wasm.ts';

async function main({ module, memory, control, lane }: WorkerOrder): Promise<void> {
  try {
    const kernels = await instantiateKernels(module, memory);
    kernels.initialise(control);
    kernels.work(lane);
  } catch (error) {
    const words = new Int32Array(memory.buffer);
    Atomics.store(words, (control + LANE_STATE + lane * LANE_BYTES + BUSY) >>> 2, 0);
    Atomics.store(words, (control + FAILED) >>> 2, lane);
    throw error;
  }
}

void main(globalThis.process.getBuiltinModule('node:worker_threads').workerData as WorkerOrder);
