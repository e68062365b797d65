// The one linear memory, and the one way to look at it from JavaScript.
import { OutOfMemoryError } from './errors.ts';

const PAGE = 65536;
const MAX_PAGES = 65536;
/** Least and most that the memory grows by at once; between the two, a sixteenth. */
const LEAST_GROWTH = 1 << 20;
const MOST_GROWTH = 16 << 20;

/** Makes the memory; a shared one whose maximum the platform refuses is tried again with half of it (iOS). */
function createMemory(initial: number, maximum: number, shared: boolean): WebAssembly.Memory {
  for (let pages = maximum; ; pages = Math.floor(pages / 2)) {
    try {
      return new WebAssembly.Memory({ initial, maximum: pages, shared });
    } catch (error) {
      if (!shared || pages <= initial * 2) throw new OutOfMemoryError(`init: no memory of ${initial} pages: ${error}`);
    }
  }
}

/** Linear memory with views that stay valid over growth. Grows from TypeScript only, never while a program runs. */
export class LinearMemory {
  readonly memory: WebAssembly.Memory;
  readonly maximumBytes: number;
  f32!: Float32Array;
  f64!: Float64Array;
  i32!: Int32Array;
  u32!: Uint32Array;
  u8!: Uint8Array;

  constructor(maximumBytes: number, shared: boolean) {
    const pages = Math.min(MAX_PAGES, Math.max(2, Math.floor(maximumBytes / PAGE)));
    this.maximumBytes = pages * PAGE;
    this.memory = createMemory(2, pages, shared);
    this.#refresh();
  }

  /** Bytes that the memory has now. */
  get bytes(): number {
    return this.u8.length;
  }

  /** Grows so that addresses below `end` exist: by the need or by a step, whichever is more and still fits. */
  ensure(end: number): void {
    if (end <= this.bytes) return;
    const step = Math.min(MOST_GROWTH, Math.max(LEAST_GROWTH, this.bytes / 16));
    const wanted = Math.min(this.maximumBytes, Math.max(end, this.bytes + step));
    if (end > this.maximumBytes || !(this.#grow(wanted) || this.#grow(end)))
      throw new OutOfMemoryError(
        `out of memory: ${megabytes(end)} MB are needed, the limit is ${megabytes(this.maximumBytes)} MB` +
          ' (init option maxMemory); a smaller batch, dispose() or scope() makes room',
      );
  }

  #grow(end: number): boolean {
    try {
      this.memory.grow(Math.ceil((end - this.bytes) / PAGE));
    } catch {
      return false;
    }
    this.#refresh();
    return true;
  }

  #refresh(): void {
    const { buffer } = this.memory;
    this.f32 = new Float32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.u8 = new Uint8Array(buffer);
  }
}

function megabytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}
