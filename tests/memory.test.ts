// Memory: what is released when, and that nothing grows.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import * as F from '../ts/functional.ts';
import { lenet } from '../ts/models/lenet.ts';
import { engine } from '../ts/runtime/engine.ts';
import { blockBytes, Heap } from '../ts/runtime/heap.ts';
import { fit } from '../ts/train/fit.ts';
import {
  captureStep,
  compile,
  full,
  init,
  keep,
  memoryStatistics,
  nn,
  noGrad,
  OutOfMemoryError,
  ones,
  optim,
  randn,
  scope,
  shutdown,
  tensor,
  zeros,
} from './feathermap.ts';

afterEach(shutdown);

describe('the heap', () => {
  const memory = (bytes: number) => {
    const buffer = new ArrayBuffer(bytes);
    return { ensure() {}, u32: new Uint32Array(buffer), u8: new Uint8Array(buffer) };
  };

  it('hands out aligned blocks with slack and uses freed ones again', () => {
    const heap = new Heap(memory(1 << 16), 1000, false);
    const a = heap.allocate(100);
    const b = heap.allocate(100);
    expect([a % 64, b % 64, b - a >= 164]).toEqual([0, 0, true]);
    heap.free(a);
    expect(heap.allocate(90)).toBe(a);
    expect(heap.statistics.blocks).toBe(2);
  });

  it('merges freed neighbours among the large blocks', () => {
    const heap = new Heap(memory(0), 64, false);
    const blocks = [1, 2, 3].map(() => heap.allocate(2 << 20));
    for (const block of [0, 2, 1]) heap.free(blocks[block]!);
    expect(heap.allocate(6 << 20)).toBe(blocks[0]);
  });

  it('rounds up to four classes per power of two', () => {
    for (const bytes of [1, 64, 65, 1000, 5000, 100_000, 1 << 20, 5 << 20]) {
      expect(blockBytes(bytes) % 64).toBe(0);
      expect(blockBytes(bytes)).toBeGreaterThanOrEqual(bytes + 64);
      expect(blockBytes(bytes)).toBeLessThanOrEqual(Math.max(192, (bytes + 128) * 1.25 + 65536 * Number(bytes > 1e6)));
    }
  });

  it('sees in debug mode who wrote behind the end of a buffer', () => {
    const place = memory(1 << 16);
    const heap = new Heap(place, 1024, true);
    const address = heap.allocate(10);
    place.u8[address + 10] = 1;
    expect(() => heap.checkCanaries()).toThrow(`a kernel wrote byte 10 of a buffer of 10 bytes at ${address}`);
  });
});

const model = () => new nn.Sequential(new nn.Conv2d(1, 2, 3), new nn.ReLU(), new nn.Flatten(), new nn.Linear(8, 3));

describe('a training loop', () => {
  beforeEach(() => init({ threads: 1 }));

  it('written by hand runs 10,000 steps without growing after the second', () => {
    const net = model();
    const optimizer = new optim.SGD(net.parameters(), { lr: 0.01, momentum: 0.9 });
    const after: number[] = [];
    let reserved = 0;
    for (let i = 0; i < 10_000; i++) {
      const x = randn([2, 1, 4, 4]);
      const y = tensor([i % 3, (i + 1) % 3], { dtype: 'i32' });
      optimizer.zeroGrad();
      const output = net.forward(x);
      const loss = F.crossEntropy(output, y);
      loss.backward();
      optimizer.step();
      output.argmax({ dim: 1 }).eq(y).sum().item();
      expect(loss.item()).toBeGreaterThan(0);
      if (i >= 1) after.push(memoryStatistics().allocatedBytes);
      if (i === 2) reserved = memoryStatistics().memoryBytes;
    }
    expect(new Set(after).size).toBe(1);
    expect(memoryStatistics().memoryBytes).toBe(reserved);
  });

  it('with fit runs 10,000 steps without growing after the second', async () => {
    const net = model();
    const optimizer = new optim.Adam(net.parameters(), { lr: 0.001 });
    const batch = [randn([2, 1, 4, 4]), tensor([0, 1], { dtype: 'i32' })] as const;
    const after = new Set<number>();
    let steps = 0;
    const onBatch = () => {
      if (++steps > 2) after.add(memoryStatistics().allocatedBytes);
    };
    await fit(net, { train: new Array(1000).fill(batch), loss: F.crossEntropy, optimizer, epochs: 10, onBatch });
    expect(steps).toBe(10_000);
    expect(after.size).toBe(1);
  });

  it('with captureStep runs 10,000 steps without growing after the second, at the bytes the plan says', () => {
    const net = model();
    const optimizer = new optim.SGD(net.parameters(), { lr: 0.01 });
    const step = captureStep((x, y) => F.crossEntropy(net.forward(x), y), { optimizer });
    const x = randn([2, 1, 4, 4]);
    const y = tensor([0, 1], { dtype: 'i32' });
    const after = new Set<number>();
    for (let i = 0; i < 10_000; i++) {
      const loss = step(x, y);
      if (i > 1) after.add(memoryStatistics().allocatedBytes);
      loss.dispose();
    }
    expect(after.size).toBe(1);
  });

  it('leaves loss and outputs readable for one step, then says why they are gone', () => {
    const w = tensor([1, 2], { requiresGrad: true });
    const step = () => {
      const squares = w.mul(w);
      squares.sum().backward();
      return squares;
    };
    const first = step();
    expect([...first.data()]).toEqual([1, 4]);
    const kept = keep(step());
    step();
    expect(() => first.data()).toThrow(
      'data: this Tensor([2], f32, requiresGrad) was released when the next backward() ended, since nothing had used it in that step; keep(tensor) makes it stay, item() or data() takes its value out',
    );
    step();
    expect([...kept.data()]).toEqual([1, 4]);
  });

  it('spares what was made before it, and what two models alternate over', () => {
    const a = tensor([3], { requiresGrad: true });
    const b = tensor([5], { requiresGrad: true });
    const prepared = tensor([1, 2]).mul(2);
    const losses: number[] = [];
    for (let i = 0; i < 5; i++) {
      const first = a.mul(2).sum();
      first.backward();
      const second = b.mul(3).sum();
      second.backward();
      losses.push(first.item(), second.item());
    }
    expect([...prepared.data()]).toEqual([2, 4]);
    expect(losses.slice(-2)).toEqual([6, 15]);
  });
});

describe('what was made before', () => {
  beforeEach(() => init({ threads: 1 }));

  it('the first step stays, whichever function made it', () => {
    const net = model();
    const optimizer = new optim.SGD(net.parameters(), { lr: 0.01 });
    const batches = [0, 1, 2, 3].map(() => [randn([2, 1, 4, 4]).div(2), tensor([0, 1], { dtype: 'i32' })] as const);
    const before = net.parameters()[0]!.clone();
    for (let epoch = 0; epoch < 3; epoch++)
      for (const [x, y] of batches) {
        optimizer.zeroGrad();
        F.crossEntropy(net.forward(x), y).backward();
        optimizer.step();
      }
    expect(before.data().length).toBe(18);
  });

  it('stays while every step uses it, however many parameters come and go', () => {
    const x = randn([8, 3]);
    const y = randn([8, 1]);
    let w = zeros([3, 1], { requiresGrad: true });
    const losses: number[] = [];
    for (let i = 0; i < 60; i++) {
      const loss = F.mseLoss(x.matmul(w), y);
      loss.backward();
      losses.push(loss.item());
      const gradient = w.grad!;
      w = noGrad(() => w.sub(gradient.mul(0.1)));
      w.requiresGrad = true;
    }
    expect(losses.at(-1)).toBeLessThan(losses[0]!);
  });
});

describe('scope, keep and dispose', () => {
  beforeEach(() => init({ threads: 1 }));

  it('release what was made inside, except what is returned or kept', () => {
    const before = memoryStatistics().blocks;
    let outside = zeros([1]);
    const { kept, list } = scope(() => {
      outside = ones([4]).add(1);
      return { kept: outside.mul(2), list: [ones([2]), 'text', null] };
    });
    expect([...kept.data()]).toEqual([4, 4, 4, 4]);
    expect(memoryStatistics().blocks).toBe(before + 3);
    expect(() => outside.add(1)).toThrow(
      'released at the end of the scope (or noGrad forward) that made it; return it from there or keep() it',
    );
    expect(list.length).toBe(3);
  });

  it('refuse a promise, and lose nothing over it', () => {
    let inside = zeros([1]);
    expect(() =>
      scope(async () => {
        inside = ones([2]);
      }),
    ).toThrow(
      'scope: the callback returned a promise; a scope ends when its callback returns, so it must be synchronous',
    );
    expect([...inside.data()]).toEqual([1, 1]);
    expect(() => noGrad(async () => {})).toThrow('noGrad: the callback returned a promise');
  });

  it('release also when the callback throws', () => {
    const before = memoryStatistics().blocks;
    expect(() =>
      scope(() => {
        ones([3]);
        throw new Error('mine');
      }),
    ).toThrow('mine');
    expect(memoryStatistics().blocks).toBe(before);
  });

  it('a module call without gradients keeps only its result', () => {
    const net = lenet();
    noGrad(() => net.forward(zeros([2, 1, 28, 28])));
    const before = memoryStatistics().blocks;
    const y = noGrad(() => net.forward(zeros([2, 1, 28, 28])));
    expect(memoryStatistics().blocks - before).toBe(2);
    expect(y.shape).toEqual([2, 10]);
  });

  it('dispose says so to late readers, and refuses what a program uses', () => {
    const x = ones([2]);
    x.dispose();
    x.dispose();
    expect(() => x.add(1)).toThrow('add: this Tensor([2], f32) was disposed');
    const w = tensor([1, 2], { requiresGrad: true });
    const step = captureStep(() => w.mul(w).sum());
    step();
    expect(() => w.dispose()).toThrow(
      'dispose: Tensor([2], f32, requiresGrad) is used by 1 captured program; dispose those first',
    );
    step.dispose();
    w.dispose();
  });

  it('using disposes at the end of the block', () => {
    const x = ones([2]);
    x[Symbol.dispose]();
    expect(() => x.data()).toThrow('was disposed');
  });
});

describe('out of memory', () => {
  it('is an error that leaves the engine working', async () => {
    await init({ threads: 1, maxMemory: 8 << 20 });
    const x = ones([1000]);
    expect(() => zeros([100, 1000, 1000])).toThrow(OutOfMemoryError);
    expect(() => zeros([100, 1000, 1000])).toThrow(
      /^out of memory: 38\d\.\d MB are needed, the limit is 8\.0 MB \(init option maxMemory\); a smaller batch, dispose\(\) or scope\(\) makes room/,
    );
    expect(x.sum().item()).toBe(1000);
    const before = memoryStatistics().blocks;
    for (let i = 0; i < 50; i++) zeros([100_000]).dispose();
    expect(memoryStatistics().blocks).toBe(before);
  });

  it('in a captured step leaves the parameters as they were', async () => {
    await init({ threads: 1, maxMemory: 4 << 20 });
    const net = lenet();
    const step = captureStep((x, y) => F.crossEntropy(net.forward(x), y), {
      optimizer: new optim.SGD(net.parameters(), { lr: 0.1 }),
    });
    const labels = (n: number) => tensor(new Array(n).fill(1), { dtype: 'i32' });
    const loss = step(zeros([2, 1, 28, 28]), labels(2)).item();
    expect(() => step(zeros([256, 1, 28, 28]), labels(256))).toThrow(OutOfMemoryError);
    expect(step(zeros([2, 1, 28, 28]), labels(2)).item()).toBeLessThan(loss);
  });

  it('in an op leaves its inputs alone', async () => {
    await init({ threads: 1, maxMemory: 8 << 20 });
    const x = ones([1000, 1]);
    const y = ones([1, 100_000]);
    expect(() => x.add(y)).toThrow(OutOfMemoryError);
    expect(x.add(1).sum().item()).toBe(2000);
  });
});

describe('arena', () => {
  it('keeps the other programs working when it cannot shrink', async () => {
    await init({ threads: 1, maxMemory: 16 << 20 });
    const [big, small] = [400_000, 20_000].map((size) =>
      compile(new nn.Sequential(new nn.Sigmoid(), new nn.Tanh(), new nn.Sigmoid()), { input: [size] }),
    );
    const x = zeros([20_000]);
    const expected = small!(x).data();
    const hoard = [];
    try {
      for (;;) hoard.push(zeros([100_000]));
    } catch (error) {
      expect(error).toBeInstanceOf(OutOfMemoryError);
    }
    big!.dispose();
    hoard.pop()!.dispose();
    const witness = full([50_000], 5);
    expect(small!(x).data()).toEqual(expected);
    expect(witness.data().every((value) => value === 5)).toBe(true);
  });
});

describe('plan.peakBytes', () => {
  it.each([1, 2])('is what the heap says, to the byte, on %i threads', async (threads) => {
    await init({ threads });
    const net = lenet();
    const x = keep(zeros([32, 1, 28, 28]));
    const y = keep(tensor(new Array(32).fill(1), { dtype: 'i32' }));
    const step = captureStep((a, b) => F.crossEntropy(net.forward(a), b), {
      optimizer: new optim.SGD(net.parameters(), { lr: 0.1, momentum: 0.9 }),
    });
    step(x, y).dispose();
    const loss = step(x, y);
    expect(memoryStatistics().allocatedBytes).toBe(step.plan!.peakBytes);
    loss.dispose();
    expect(engine().statistics().allocatedBytes).toBeLessThan(step.plan!.peakBytes);
  });
});
