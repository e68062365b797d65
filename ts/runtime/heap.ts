// The allocator of linear memory: size classes with free lists up to 1 MB, whole 64 KB pages with coalescing above.
// It runs in TypeScript only; kernels never allocate.

import { checkCanary, paintCanary } from './canary.ts';

/** Cache line: every block starts on one. */
export const ALIGNMENT = 64;
/** Readable bytes behind every buffer, for vector loads that run past the end. */
export const SLACK = 64;

const LARGE = 1 << 20;
const PAGE = 65536;

/** Rounds up to a multiple of a power of two. */
export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

/** Size class of a request: 2^k times 1, 1.25, 1.5 or 1.75, at least one line; above 1 MB whole pages. */
export function blockBytes(bytes: number): number {
  const needed = roundUp(bytes + SLACK, ALIGNMENT);
  if (needed > LARGE) return roundUp(needed, PAGE);
  const power = 2 ** Math.floor(Math.log2(needed));
  return Math.max(128, roundUp(Math.ceil(needed / (power / 4)) * (power / 4), ALIGNMENT));
}

/** What the heap needs of the memory below it. */
export interface HeapMemory {
  /** Makes addresses below `end` usable, or throws OutOfMemoryError. */
  ensure(end: number): void;
  readonly u32: Uint32Array;
  readonly u8: Uint8Array;
}

/** Counters of the heap, in bytes. */
export interface HeapStatistics {
  /** In blocks that are in use. */
  allocatedBytes: number;
  /** Most that were in use at once. */
  peakAllocatedBytes: number;
  /** Blocks in use. */
  blocks: number;
  /** End of the highest block ever used: what the heap has taken from the memory. */
  reservedBytes: number;
}

/** Hands out 64-byte aligned blocks of linear memory from `base` upwards. */
export class Heap {
  readonly statistics: HeapStatistics = { allocatedBytes: 0, peakAllocatedBytes: 0, blocks: 0, reservedBytes: 0 };
  readonly #memory: HeapMemory;
  readonly #debug: boolean;
  readonly #base: number;
  #top: number;
  readonly #free = new Map<number, number[]>();
  /** Free page runs, sorted by address. */
  #runs: { address: number; bytes: number }[] = [];
  #deferrals = 0;
  #waiting: number[] = [];
  readonly #blocks = new Map<number, { bytes: number; requested: number }>();

  constructor(memory: HeapMemory, base: number, debug: boolean) {
    this.#memory = memory;
    this.#base = this.#top = roundUp(base, ALIGNMENT);
    this.#debug = debug;
  }

  /** Address of a block of at least `bytes` bytes with slack behind it. Throws OutOfMemoryError; nothing changes then. */
  allocate(bytes: number): number {
    const size = blockBytes(bytes);
    const address = size > LARGE ? this.#takeRun(size) : this.#takeSmall(size);
    this.#blocks.set(address, { bytes: size, requested: bytes });
    this.#count(size, 1);
    if (this.#debug) this.#paint(address);
    return address;
  }

  /** Whether freed blocks are set aside at the moment. */
  get deferring(): boolean {
    return this.#deferrals > 0;
  }

  /** Until the returned function is called, freed blocks are set aside and not handed out again. */
  deferFrees(): () => void {
    this.#deferrals++;
    return () => {
      if (--this.#deferrals) return;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const address of waiting) this.free(address);
    };
  }

  /** Gives a block back. */
  free(address: number): void {
    const block = this.#blocks.get(address);
    if (!block) throw new Error(`heap: address ${address} is not an allocated block`);
    if (this.#deferrals) {
      this.#waiting.push(address);
      return;
    }
    if (this.#debug) this.#check(address, block);
    this.#blocks.delete(address);
    this.#count(-block.bytes, -1);
    if (block.bytes > LARGE) this.#giveRun(address, block.bytes);
    else this.#freeList(block.bytes).push(address);
  }

  /** Whether `address` starts a block in use. */
  has(address: number): boolean {
    return this.#blocks.has(address);
  }

  /** Throws if a kernel has written behind the end of any block. Only with `debug`. */
  checkCanaries(): void {
    if (!this.#debug) return;
    for (const [address, block] of this.#blocks) this.#check(address, block);
  }

  #freeList(size: number): number[] {
    let list = this.#free.get(size);
    if (!list) this.#free.set(size, (list = []));
    return list;
  }

  /** A freed block of the class, else new memory; when that is at an end, the start of a free run, which would else stay whole. */
  #takeSmall(size: number): number {
    const freed = this.#freeList(size).pop();
    if (freed !== undefined) return freed;
    try {
      return this.#extend(size);
    } catch (error) {
      if (this.#runs.every((run) => run.bytes < size)) throw error;
      return this.#takeRun(size);
    }
  }

  /** Best fit among the free runs, else new memory. */
  #takeRun(size: number): number {
    let best = -1;
    for (let i = 0; i < this.#runs.length; i++) {
      const run = this.#runs[i]!;
      if (run.bytes >= size && (best < 0 || run.bytes < this.#runs[best]!.bytes)) best = i;
    }
    if (best < 0) return this.#extend(size);
    const run = this.#runs[best]!;
    if (run.bytes === size) this.#runs.splice(best, 1);
    else this.#runs[best] = { address: run.address + size, bytes: run.bytes - size };
    return run.address;
  }

  #extend(size: number): number {
    const address = this.#top;
    this.#memory.ensure(address + size);
    this.#top = address + size;
    this.statistics.reservedBytes = this.#top - this.#base;
    return address;
  }

  #giveRun(address: number, bytes: number): void {
    let i = this.#runs.findIndex((run) => run.address > address);
    if (i < 0) i = this.#runs.length;
    this.#runs.splice(i, 0, { address, bytes });
    for (const left of [i, i - 1]) {
      const a = this.#runs[left];
      const b = this.#runs[left + 1];
      if (a && b && a.address + a.bytes === b.address)
        this.#runs.splice(left, 2, { address: a.address, bytes: a.bytes + b.bytes });
    }
  }

  #count(bytes: number, blocks: number): void {
    const s = this.statistics;
    s.allocatedBytes += bytes;
    s.blocks += blocks;
    s.peakAllocatedBytes = Math.max(s.peakAllocatedBytes, s.allocatedBytes);
  }

  #paint(address: number): void {
    const { bytes, requested } = this.#blocks.get(address)!;
    // Fresh memory holds NaN, so that a kernel which reads what nobody wrote shows.
    this.#memory.u32.fill(0x7fc00bad, address >>> 2, (address + bytes) >>> 2);
    paintCanary(this.#memory, address + requested, address + bytes);
  }

  #check(address: number, { bytes, requested }: { bytes: number; requested: number }): void {
    checkCanary(this.#memory, address + requested, address + bytes, requested);
  }
}
