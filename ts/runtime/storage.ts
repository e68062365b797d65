// A storage is one block of linear memory that tensors share: a tensor and its views have the same one.

/** Where a storage stands in its life. */
export type StorageState =
  /** has an address */
  | 'live'
  /** gets its address when it is first used: parameters */
  | 'lazy'
  /** belongs to a program, which places it */
  | 'planned'
  /** its memory has gone back */
  | 'released';

/** One block of linear memory, its version and its state. */
export class Storage {
  static #count = 0;
  /** Tells storages apart. */
  readonly id: number = Storage.#count++;
  /** Size in bytes, without slack. */
  readonly bytes: number;
  /** Address, 0 unless live. */
  address = 0;
  state: StorageState = 'planned';
  /** The engine whose memory it lies in: a tensor does not survive `shutdown`. */
  owner: object | null = null;
  /** Raised by whatever changes the contents in place; backward compares it with what it saved. */
  version = 0;
  /** True for parameters, buffers, gradients, optimiser state and what `keep` was called on: only `dispose` releases it. */
  persistent = false;
  /** Whether the user called `keep` on it. */
  kept = false;
  /** How many programs name it; a pinned storage cannot be disposed. */
  pins = 0;
  /** How it came to be released, for the error message of a late reader. */
  releasedBy = '';
  /** Backward count when an op last read it: what the running step used stays for another step. */
  usedAt = 0;
  /** Whether the graph of a backward pass, or the pass itself, made it. */
  inGraph = false;
  /** Whether an op call on the tape read it. */
  readByGraph = false;
  /** Whether an op wrote it first (otherwise the user's data stands in it). */
  computed = false;
  /** Whether a finalizer gives its memory back should everyone forget it. */
  watched = false;
  /** Fills a lazy storage; runs once, at the first use. */
  initialise: (() => void) | null = null;

  constructor(bytes: number) {
    this.bytes = bytes;
  }
}
