// Random tensors and dropout. Values are functions of (seed, offset, index), see philox.ts, with madd nowhere, so that both
// builds, any number of threads and any engine give the same bits.
//
// The generator's state is two u64 in memory: seed and offset, counted in groups of 16 words. No kernel but `advance` changes
// it: each call of a program reads state.offset + its own fixed `offset`, and one last command advances the state by what
// all calls used together, ceil(count / 16) groups each. Kernels use 64 bytes of scratch memory per lane.
import { scratch } from './control';
import { logLanes, sinTurns } from './math';
import { GROUP, randomGroup } from './philox';
import { Input, Output, Update } from './record';
import { ELEMENT_TILE } from './unary';
import { storeLanes } from './vector';


@unmanaged
export class RandomArgs {
  y: Output;
  /** Address of seed and offset. */
  state: Input;
  /** Groups from the state's offset to this call's. */
  offset: i32;
  count: i32;
  /** uniform: lo, hi. normal: mean, standard deviation. */
  p: f32;
  q: f32;
}


@unmanaged
export class DropoutArgs {
  y: Output;
  x: Input;
  state: Input;
  offset: i32;
  count: i32;
  /** An element is dropped with probability threshold / 2^24. */
  threshold: i32;
  /** The factor of the others, 1 / (1 - p). */
  scale: f32;
}


@unmanaged
export class SaveCounterArgs {
  /** Four words: a state of its own, to be read again by the backward pass. */
  y: Output;
  state: Input;
  offset: i32;
}


@unmanaged
export class AdvanceArgs {
  state: Update;
  groups: i32;
}

const UNIT = memory.data<f32>([5.9604644775390625e-8]); // 2^-24
const QUARTER = memory.data<f32>([0.25]);
const MINUS_TWO = memory.data<f32>([-2]);

/** Words as numbers in [0, 1), multiples of 2^-24. */
// @ts-ignore: decorator
@inline
function unit(words: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(i32x4.shr_u(words, 8)), v128.load32_splat(UNIT));
}

/** lo + u (hi - lo) in [lo, hi): where rounding reaches hi, lo stands instead. */
@unmanaged
class Uniform {
  run(words: usize, lo: f32, hi: f32): void {
    const low = f32x4.splat(lo);
    const high = f32x4.splat(hi);
    const range = f32x4.splat(hi - lo);
    for (let i: usize = 0; i < 64; i += 16) {
      const y = f32x4.add(f32x4.mul(unit(v128.load(words + i)), range), low);
      v128.store(words + i, v128.bitselect(y, low, f32x4.lt(y, high)));
    }
  }
}

/** Box and Muller: words 0 and 1 of a block give the radii, in (0, 1] before the logarithm, words 2 and 3 the angles. */
@unmanaged
class Normal {
  run(words: usize, mean: f32, deviation: f32): void {
    const m = f32x4.splat(mean);
    const s = f32x4.splat(deviation);
    for (let i: usize = 0; i < 32; i += 16) {
      const u = f32x4.add(unit(v128.load(words + i)), v128.load32_splat(UNIT));
      const radius = f32x4.sqrt(f32x4.mul(logLanes(u), v128.load32_splat(MINUS_TWO)));
      const turns = unit(v128.load(words + i, 32));
      const cosine = sinTurns(f32x4.add(turns, v128.load32_splat(QUARTER)));
      v128.store(words + i, f32x4.add(f32x4.mul(f32x4.mul(radius, cosine), s), m));
      v128.store(words + i, f32x4.add(f32x4.mul(f32x4.mul(radius, sinTurns(turns)), s), m), 32);
    }
  }
}

/** Stores the first n of 16 words. */
function storeGroup(y: usize, words: usize, n: i32): void {
  for (; n > 0; n -= 4) {
    storeLanes(y, v128.load(words), n);
    y += 16;
    words += 16;
  }
}

/** Fills y with what `Sampler` makes of each group. */
function sample<Sampler>(args: RandomArgs, first: i32, last: i32, lane: i32): void {
  const sampler = changetype<Sampler>(0);
  const words = scratch(lane);
  const seed = load<u64>(args.state);
  const base = load<u64>(args.state, 8) + args.offset;
  const end = min(args.count, last * ELEMENT_TILE);
  for (let i = first * ELEMENT_TILE; i < end; i += GROUP) {
    randomGroup(words, seed, base + i / GROUP);
    sampler.run(words, args.p, args.q);
    storeGroup(args.y + ((<usize>i) << 2), words, min(GROUP, end - i));
  }
}

/** y uniform in [p, q), multiples of 2^-24 of the range. */
export function uniform(args: RandomArgs, first: i32, last: i32, lane: i32): void {
  sample<Uniform>(args, first, last, lane);
}

/** y normal with mean p and standard deviation q. */
export function normal(args: RandomArgs, first: i32, last: i32, lane: i32): void {
  sample<Normal>(args, first, last, lane);
}

/** y = x scale where kept, x 0 where dropped. Its gradient is the same call on dy, with the saved counter. */
export function dropout(args: DropoutArgs, first: i32, last: i32, lane: i32): void {
  const words = scratch(lane);
  const seed = load<u64>(args.state);
  const base = load<u64>(args.state, 8) + args.offset;
  const end = min(args.count, last * ELEMENT_TILE);
  const threshold = i32x4.splat(args.threshold);
  const scale = f32x4.splat(args.scale);
  for (let i = first * ELEMENT_TILE; i < end; i += GROUP) {
    randomGroup(words, seed, base + i / GROUP);
    const x = args.x + ((<usize>i) << 2);
    for (let j: usize = 0; j < 64; j += 16) {
      const kept = i32x4.ge_s(i32x4.shr_u(v128.load(words + j), 8), threshold);
      v128.store(words + j, f32x4.mul(v128.load(x + j), v128.and(kept, scale)));
    }
    storeGroup(args.y + ((<usize>i) << 2), words, min(GROUP, end - i));
  }
}

/** y = the state as this call sees it: seed, offset + `offset`. */
export function saveCounter(args: SaveCounterArgs, first: i32, last: i32, lane: i32): void {
  store<u64>(args.y, load<u64>(args.state));
  store<u64>(args.y, load<u64>(args.state, 8) + args.offset, 8);
}

/** state.offset += groups. */
export function advance(args: AdvanceArgs, first: i32, last: i32, lane: i32): void {
  store<u64>(args.state, load<u64>(args.state, 8) + args.groups, 8);
}
