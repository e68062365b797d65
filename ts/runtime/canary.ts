// Canaries: a pattern behind a buffer that dies when a kernel writes past the end.

const PATTERN = [0xe1, 0xc3, 0xa5, 0x7f];
/** The pattern as one word, least significant byte first: room behind large buffers is compared by words. */
const WORD = 0x7fa5c3e1;

/** Linear memory, by bytes and by words. */
interface Views {
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
}

/** Writes the pattern to the bytes from `start` up to `end`. */
export function paintCanary({ u8, u32 }: Views, start: number, end: number): void {
  for (let at = start; at < end; at++) {
    if ((at & 3) === 0 && at + 4 <= end) {
      u32.fill(WORD, at >>> 2, end >>> 2);
      at = end - (end & 3);
    }
    if (at < end) u8[at] = PATTERN[at & 3]!;
  }
}

/** Throws if a byte from `start` up to `end` is not as it was painted; they lie behind a buffer of `size` bytes. */
export function checkCanary({ u8, u32 }: Views, start: number, end: number, size: number): void {
  for (let at = start; at < end; at++) {
    // Whole words, up to the first that differs.
    if ((at & 3) === 0) while (at + 4 <= end && u32[at >>> 2] === WORD) at += 4;
    if (at < end && u8[at] !== PATTERN[at & 3])
      throw new Error(`a kernel wrote byte ${at - start + size} of a buffer of ${size} bytes at ${start - size}`);
  }
}
