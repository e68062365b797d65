// Workers that come late, sleep, trap, stall or are ended by others.
import { spawnSync } from 'node:child_process';
import workerThreads, { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { faulty } from '../ts/generated/kernels.ts';
import { engine } from '../ts/runtime/engine.ts';
import { allocateTensor } from '../ts/tensor/create.ts';
import { locationOf } from '../ts/tensor/tensor.ts';
import { conv2d, data, full, init, rand, shutdown, WorkerError } from './feathermap.ts';

const started: Worker[] = [];
workerThreads.Worker = class extends Worker {
  constructor(...order: ConstructorParameters<typeof Worker>) {
    super(...order);
    started.push(this);
  }
};

afterEach(async () => {
  await shutdown();
  started.length = 0;
});

const settle = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A command that workers are woken for; `fault` says what they do with their first tile. */
function runFaulty(fault: 0 | 1 | 2): void {
  const count = allocateTensor([1], 'i32');
  const args = { count: locationOf(count), fault };
  engine().execute([{ kernel: faulty, args, grid: { tiles: 400, work: 1e9 } }]);
}

describe('workers', () => {
  it('start with the first run that has work for them', async () => {
    await init({ threads: 3 });
    full([1000], 3).add(1).data();
    expect(started.length).toBe(0);
    runFaulty(0);
    runFaulty(0);
    expect(started.length).toBe(2);
  });

  it('that are ended between two runs are replaced, and kernels keep their scratch memory', async () => {
    await init({ threads: 2, debug: true });
    const [x, w] = [rand([8, 32, 28, 28]), rand([32, 32, 3, 3])];
    const before = conv2d(x, w).data();
    await started[0]!.terminate();
    expect(conv2d(x, w).data()).toEqual(before);
    expect(started.length).toBe(2);
  });

  it('compute the same whether they are there or not', async () => {
    await init({ threads: 3 });
    const before = full([300, 1000], 3).data();
    await settle(300);
    expect(full([300, 1000], 3).data()).toEqual(before);
  });

  it.each([
    [1, /^worker [12] of 3 died in the middle of a run; the next run starts new ones$/],
    [2, /^worker [12] of 3 has not moved for too long; the next run starts new ones$/],
  ] as const)('with fault %i end the run with an error, and the next run works', async (fault, message) => {
    await init({ threads: 3, workerTimeout: 2000 });
    await settle(300);
    let error: unknown;
    // A worker that has not come up yet takes no tile, so it may need many runs on a busy machine.
    for (let i = 0; i < 1000 && !error; i++) {
      try {
        runFaulty(fault);
        await settle(20);
      } catch (caught) {
        error = caught;
      }
    }
    expect(error).toBeInstanceOf(WorkerError);
    expect((error as Error).message).toMatch(message);
    await settle(300);
    runFaulty(0);
    expect(full([1000, 1000], 2).sum().item()).toBe(2e6);
  });

  it('do not keep a process alive', () => {
    const program =
      "import { init, ones } from 'feathermap'; await init({ threads: 2 }); console.log(ones([4]).sum().item());";
    const { stdout, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
      timeout: 600_000, // instead of waiting for ever
    });
    expect([stdout.trim(), status]).toEqual(['4', 0]);
  });

  it('are gone after shutdown, which can be followed by another init', async () => {
    await init({ threads: 2 });
    await shutdown();
    await init({ threads: 1 });
    expect(engine().threads).toBe(1);
    expect([...data(full([2], 1))]).toEqual([1, 1]);
  });
});
