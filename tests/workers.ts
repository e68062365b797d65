// What tests need of workers: they start late, and the answers are the same without them.
import { faulty } from '../ts/generated/kernels.ts';
import { engine } from '../ts/runtime/engine.ts';
import { allocateTensor } from '../ts/tensor/create.ts';
import { dispose } from '../ts/tensor/dispose.ts';
import { locationOf } from '../ts/tensor/tensor.ts';

/** A command that workers are started and woken for; `fault` says what they do with their first tile (assembly/faults.ts), 0 that they work. */
export function runFaulty(fault: 0 | 1 | 2): void {
  const count = allocateTensor([1], 'i32');
  const args = { count: locationOf(count), fault };
  try {
    engine().execute([{ kernel: faulty, args, grid: { tiles: 400, work: 1e9 } }]);
  } finally {
    dispose(count);
  }
}

export const settle = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Shares of work that the workers have finished together. */
export const workerShares = (): number =>
  engine()
    .workerShares()
    .reduce((sum, shares) => sum + shares, 0);

/** Gives the engine work until each of its workers has finished a share of it. */
export async function awaitWorkers(): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    runFaulty(0);
    if (engine().workerShares().every(Boolean)) return;
    await settle(20);
  }
  throw new Error(`workers have finished ${engine().workerShares()} shares`);
}
