// The control block: the one piece of memory all threads share besides the tensors.
//
//   offset   0  ticket    u64  tiles << 32 | next    what is left of the shared command; taken by compare-and-swap
//           64  done      i32  tiles of the shared command that are finished
//          128  kernel    i32  the shared command: valid while one of its tiles is unfinished
//          132  args      u32
//          192  epoch     i32  futex of parked workers, raised to wake them
//          196  parked    i32  how many workers sleep on it
//          200  stop      i32  1: workers leave
//          204  failed    i32  lane of a worker that trapped, 0 if none
//          256  status    i32  first error of the running program (assembly/status.ts), 0 if none
//          260  command   i32  index of the command that reported it
//          264  detail    i32  the offending value
//          268  extent    i32  the limit it broke
//          320  scratch   u32  address of lane 0's scratch memory
//          324  stride    i32  bytes of scratch memory per lane
//          328  lanes     i32  threads, the caller included
//          332  timeout   f32  milliseconds without a heartbeat after which a worker counts as lost
//          336  current   i32  index of the command that runs now
//          340  wide      i32  1: the engine pairs vectors into 256 bits, so products take two panels at a time
//          344  started   u64  commands started so far
//          384  lane i    64 bytes each: heartbeat i32, busy i32, holder u64, held i32
//
// Fields that different threads write lie in different cache lines. A waiting loop touches nothing but this block.

export const TICKET: usize = 0;
export const DONE: usize = 64;
export const KERNEL: usize = 128;
export const ARGS: usize = 132;
export const EPOCH: usize = 192;
export const PARKED: usize = 196;
export const STOP: usize = 200;
export const FAILED: usize = 204;
export const STATUS: usize = 256;
export const COMMAND: usize = 260;
export const DETAIL: usize = 264;
export const EXTENT: usize = 268;
export const SCRATCH: usize = 320;
export const SCRATCH_STRIDE: usize = 324;
export const LANES: usize = 328;
export const TIMEOUT: usize = 332;
export const CURRENT: usize = 336;
export const WIDE: usize = 340;
export const STARTED: usize = 344;
export const LANE_STATE: usize = 384;
export const HEARTBEAT: usize = 0;
export const BUSY: usize = 4;
export const HOLDER: usize = 8;
export const HELD: usize = 16;
export const LANE_BYTES: usize = 64;
/** Threads at most, the calling one included. */
export const MAX_LANES: usize = 64;
/** Size of the whole block. */
export const CONTROL_BYTES: usize = 384 + 64 * 64;

let control: usize = 0;

/** Tells this instance (one per thread) where the control block lies. */
export function initialise(address: usize): void {
  control = address;
}

/** Address of a field of the control block. */
// @ts-ignore: decorator
@inline
export function field(offset: usize): usize {
  return control + offset;
}

/** Scratch memory of a lane: private to it for as long as a command lasts. */
// @ts-ignore: decorator
@inline
export function scratch(lane: i32): usize {
  return load<usize>(control + SCRATCH) + <usize>lane * load<usize>(control + SCRATCH_STRIDE);
}

/** Notes that the lane's scratch memory holds what the running command needs for `part` (0 or more) of its tiles. */
export function hold(lane: i32, part: i32): void {
  const state = field(LANE_STATE) + <usize>lane * LANE_BYTES;
  store<u64>(state + HOLDER, load<u64>(field(STARTED)));
  store<i32>(state + HELD, part + 1);
}

/** Whether it still does, from an earlier range of tiles of this command. */
export function holds(lane: i32, part: i32): bool {
  const state = field(LANE_STATE) + <usize>lane * LANE_BYTES;
  return load<u64>(state + HOLDER) == load<u64>(field(STARTED)) && load<i32>(state + HELD) == part + 1;
}
