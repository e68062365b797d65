"""Numbers from a formula, so that inputs need not be stored: the twin of tests/reference/values.ts.

Element i of the tensor named `key` depends on (key, i) alone. Every value is exact in float32.
"""
import numpy as np


def key_hash(key):
    """FNV-1a, 32 bit, over the UTF-8 bytes."""
    state = 0x811C9DC5
    for byte in key.encode():
        state = ((state ^ byte) * 0x01000193) & 0xFFFFFFFF
    return state


def hashes(key, count):
    """`count` uniform 32-bit numbers: MurmurHash3's finaliser over a Weyl sequence."""
    state = np.uint32(key_hash(key)) + np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9)
    state = (state ^ (state >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    state = (state ^ (state >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return state ^ (state >> np.uint32(16))


def integers(key, count, low, high):
    """Whole numbers from low to high, both included."""
    return low + (hashes(key, count) % np.uint32(high - low + 1)).astype(np.int64)


def uniform(key, count):
    """Multiples of 2^-23 in [-1, 1)."""
    return (hashes(key, count) >> np.uint32(8)).astype(np.float64) * 2.0**-23 - 1


def with_specials(key, count, specials):
    """Small integers, every fifth (on average) replaced by one of `specials`."""
    numbers = integers(key, count, -1, 1).astype(np.float64)
    choice = integers(key + "/special", count, 0, 5 * len(specials) - 1)
    for number, special in enumerate(specials):
        numbers[choice == number] = special
    return numbers


def positive(key, count):
    """Numbers in [0.5, 1.5], rounded to float32 as TypeScript's Float32Array does."""
    return (1 + 0.5 * uniform(key, count)).astype(np.float32).astype(np.float64)


FILLS = {
    "uniform": uniform,
    "positive": positive,
    "ties": lambda key, count: integers(key, count, -1, 1).astype(np.float64),
    "nan": lambda key, count: with_specials(key, count, [np.nan]),
    "infinite": lambda key, count: with_specials(key, count, [-np.inf, np.inf]),
}


def fill(key, shape, kind="uniform", scale=1.0, shift=0.0):
    """float64 array of float32 numbers: round(kind(key) * scale + shift)."""
    count = int(np.prod(shape, dtype=np.int64))
    numbers = FILLS[kind](key, count) * scale + shift
    return numbers.astype(np.float32).astype(np.float64).reshape(shape)
