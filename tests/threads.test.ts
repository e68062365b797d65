// Workers that come late, sleep, trap, stall or are ended by others.
import { spawnSync } from 'node:child_process';
import workerThreads, { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { engine } from '../ts/runtime/engine.ts';
import { controlBytes } from '../ts/runtime/pool.ts';
import { conv2d, data, engineInfo, full, init, rand, shutdown, WorkerError } from './feathermap.ts';
import { awaitWorkers, runFaulty, settle, workerShares } from './workers.ts';

const started: Worker[] = [];
/** Workers that the runtime starts before it throws. */
let permitted = Number.POSITIVE_INFINITY;
workerThreads.Worker = class extends Worker {
  constructor(...order: ConstructorParameters<typeof Worker>) {
    if (started.length >= permitted) throw new Error('no thread left');
    super(...order);
    started.push(this);
  }
};

afterEach(async () => {
  await shutdown();
  started.length = 0;
  permitted = Number.POSITIVE_INFINITY;
});

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
    const [x, w] = [rand([8, 32, 28, 28]), rand([32, 32, 3, 3])];
    const before = conv2d(x, w).data();
    await awaitWorkers();
    const shares = workerShares();
    for (let i = 0; i < 1000 && workerShares() === shares; i++) expect(conv2d(x, w).data()).toEqual(before);
    expect(workerShares()).toBeGreaterThan(shares);
  });

  it.each([0, 1])('that the runtime refuses to start after %i are done without', async (count) => {
    permitted = count;
    await init({ threads: 3, debug: true });
    expect(engineInfo()).toMatchObject({ threads: 3, threadsFallback: null });
    const [x, w] = [rand([8, 32, 28, 28]), rand([32, 32, 3, 3])];
    const y = conv2d(x, w).data();
    expect(engineInfo()).toMatchObject({
      threads: 1,
      threadsFallback: 'workers could not be started: no thread left',
    });
    await Promise.all(started.map((worker) => new Promise((resolve) => worker.once('exit', resolve))));
    runFaulty(0);
    expect(conv2d(x, w).data()).toEqual(y);
    expect(started.length).toBe(count);
    await shutdown();
    await init({ threads: 1 });
    expect(conv2d(full([8, 32, 28, 28], 1), full([32, 32, 3, 3], 1)).shape).toEqual([8, 32, 26, 26]);
  });

  it('that the permission model forbids are done without', () => {
    const flag = process.allowedNodeEnvironmentFlags.has('--permission') ? '--permission' : '--experimental-permission';
    const program = `import { engineInfo, init, ones } from 'feathermap'; await init({ threads: 2 });
      const x = ones([1024, 1024]); console.log(x.matmul(x).mean().item(), JSON.stringify(engineInfo()));`;
    const { stdout, stderr } = spawnSync(
      process.execPath,
      [flag, '--allow-fs-read=*', '--input-type=module', '-e', program],
      { encoding: 'utf8', timeout: 600_000 },
    );
    expect(stderr.replace(/.*ExperimentalWarning.*\n.*\n/, '')).toBe('');
    expect(stdout).toMatch(/^1024 .*"threads":1,"threadsFallback":"workers could not be started: .*restricted/);
  });

  it.each([
    ['the control block', (bytes: number) => bytes === controlBytes],
    ['scratch memory', (bytes: number) => bytes > controlBytes],
  ])('that are lost when memory is too short for %s are replaced once it suffices', async (_, tooLarge) => {
    await init({ threads: 2, debug: true });
    const [x, w] = [rand([8, 32, 28, 28]), rand([32, 32, 3, 3])];
    const before = conv2d(x, w).data();
    await started[0]!.terminate();
    const { heap } = engine();
    const { blocks } = heap.statistics;
    const allocate = heap.allocate.bind(heap);
    const short = vi.spyOn(heap, 'allocate').mockImplementation((bytes) => {
      if (tooLarge(bytes)) throw new RangeError('out of memory');
      return allocate(bytes);
    });
    for (let i = 0; i < 2; i++) expect(() => runFaulty(0)).toThrow('out of memory');
    expect(heap.statistics.blocks).toBe(blocks);
    short.mockRestore();
    expect(conv2d(x, w).data()).toEqual(before);
    expect(started.length).toBe(2);
  });

  it('that are replaced leave no memory behind', async () => {
    await init({ threads: 2 });
    conv2d(rand([8, 32, 28, 28]), rand([32, 32, 3, 3])).dispose();
    const blocks: number[] = [];
    for (let i = 0; i < 4; i++) {
      await started[i]!.terminate();
      runFaulty(0);
      await settle(20);
      blocks.push(engine().statistics().blocks);
    }
    expect(started.length).toBe(5);
    expect(new Set(blocks.slice(1)).size).toBe(1);
  });

  it.each([
    [1, /^worker [12] of 3 died in the middle of a run; the next run starts new ones$/],
    [2, /^worker [12] of 3 has not moved for too long; the next run starts new ones$/],
  ] as const)('with fault %i end the run with an error, and the next run works', async (fault, message) => {
    await init({ threads: 3, workerTimeout: 2000 });
    await awaitWorkers();
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
      "import { init, ones } from 'feathermap'; await init({ threads: 2 }); const x = ones([1024, 1024]); console.log(x.matmul(x).mean().item());";
    const { stdout, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
      timeout: 600_000, // instead of waiting for ever
    });
    expect([stdout.trim(), status]).toEqual(['1024', 0]);
  });

  it('are gone after shutdown, which can be followed by another init', async () => {
    await init({ threads: 2 });
    await awaitWorkers();
    await shutdown();
    expect(started.map((worker) => worker.threadId)).toEqual([-1]);
    await init({ threads: 1 });
    expect(engine().threads).toBe(1);
    expect([...data(full([2], 1))]).toEqual([1, 1]);
  });
});
