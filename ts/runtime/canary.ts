// Canaries: a pattern behind a buffer that dies when a kernel writes past the end.

const PATTERN = [0xe1, 0xc3, 0xa5, 0x7f];

/** Writes the pattern to the bytes from `start` up to `end`. */
export function paintCanary(bytes: Uint8Array, start: number, end: number): void {
  for (let at = start; at < end; at++) bytes[at] = PATTERN[at & 3]!;
}

/** Throws if a byte from `start` up to `end` is not as it was painted; they lie behind a buffer of `size` bytes. */
export function checkCanary(bytes: Uint8Array, start: number, end: number, size: number): void {
  for (let at = start; at < end; at++)
    if (bytes[at] !== PATTERN[at & 3])
      throw new Error(`a kernel wrote byte ${at - start + size} of a buffer of ${size} bytes at ${start - size}`);
}
