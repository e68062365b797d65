// Philox 4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
// (SC 2011), as in PyTorch's and TensorFlow's GPU generators. Every word is a function of (seed, counter) alone, so tiles and
// threads need no state, and a dropout mask can be computed again in the backward pass instead of being stored.
//
// Four blocks run side by side in the lanes of four vectors. Their 16 words are one *group*, the unit in which offsets count:
//
//   group g = blocks 4 g .. 4 g + 3      word w of block 4 g + l  ->  element 16 g + 4 w + l

// In memory, since V8 would build the splat of a literal anew at each use.
const MULTIPLIER_0 = memory.data<u32>([0xd2511f53]);
const MULTIPLIER_1 = memory.data<u32>([0xcd9e8d57]);
const WEYL_0 = memory.data<u32>([0x9e3779b9]);
const WEYL_1 = memory.data<u32>([0xbb67ae85]);
const ROUNDS: i32 = 10;

/** Random words per group. */
export const GROUP: i32 = 16;

/** Low words of the products in `low` and `high`. */
// @ts-ignore: decorator
@inline
function lowWords(low: v128, high: v128): v128 {
  return v128.shuffle<i32>(low, high, 0, 2, 4, 6);
}

// @ts-ignore: decorator
@inline
function highWords(low: v128, high: v128): v128 {
  return v128.shuffle<i32>(low, high, 1, 3, 5, 7);
}

/** Writes the 16 words of a group to `out`. */
export function randomGroup(out: usize, seed: u64, group: u64): void {
  const m0 = v128.load32_splat(MULTIPLIER_0);
  const m1 = v128.load32_splat(MULTIPLIER_1);
  const weyl0 = v128.load32_splat(WEYL_0);
  const weyl1 = v128.load32_splat(WEYL_1);
  let k0 = i32x4.splat(<i32>seed);
  let k1 = i32x4.splat(<i32>(seed >> 32));
  let c0 = i32x4.add(i32x4.splat(<i32>(group << 2)), i32x4(0, 1, 2, 3));
  let c1 = i32x4.splat(<i32>(group >> 30));
  let c2 = i32x4.splat(0);
  let c3 = c2;
  for (let round = 0; round < ROUNDS; round++) {
    const low0 = i64x2.extmul_low_i32x4_u(c0, m0);
    const high0 = i64x2.extmul_high_i32x4_u(c0, m0);
    const low2 = i64x2.extmul_low_i32x4_u(c2, m1);
    const high2 = i64x2.extmul_high_i32x4_u(c2, m1);
    c0 = v128.xor(v128.xor(highWords(low2, high2), c1), k0);
    c1 = lowWords(low2, high2);
    c2 = v128.xor(v128.xor(highWords(low0, high0), c3), k1);
    c3 = lowWords(low0, high0);
    k0 = i32x4.add(k0, weyl0);
    k1 = i32x4.add(k1, weyl1);
  }
  v128.store(out, c0);
  v128.store(out, c1, 16);
  v128.store(out, c2, 32);
  v128.store(out, c3, 48);
}
