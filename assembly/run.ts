// Running a program: a list of commands, each a kernel and its record, walked inside wasm.
//
// Threads walk nothing by themselves: the calling thread publishes one command at a time as a *ticket*, the word
// `tiles << 32 | next`. Whoever swaps in a larger `next` owns the tiles in between; the command is over when as many tiles are
// done as it has. So nobody waits for a thread that took no tile: a worker that sleeps, is still starting or is gone costs
// nothing. Threads decide only who computes which tile, never how, so results do not depend on them.
import {
  ARGS,
  BUSY,
  CURRENT,
  DONE,
  EPOCH,
  FAILED,
  HEARTBEAT,
  KERNEL,
  LANES,
  LANE_BYTES,
  LANE_STATE,
  PARKED,
  STARTED,
  STATUS,
  STOP,
  TICKET,
  TIMEOUT,
  field,
} from './control';
import { WORKER_FAILED, WORKER_LOST, report } from './status';
import { dispatch } from './generated/dispatch';

// @ts-ignore: decorator
@external('env', 'now')
declare function now(): f64;

/** One command of a program; `work` is its estimated time on one thread in nanoseconds. */
@unmanaged
export class Command {
  kernel: i32;
  args: usize;
  tiles: i32;
  work: f32;
}

/** Less work than this is done by the calling thread alone: handing it out costs about 1 us per thread. */
const SHARE_NANOSECONDS: f32 = 20000;
/** A program with this much work to share is worth workers: parked ones are woken, which takes them 20 to 80 us. */
const WAKE_NANOSECONDS: f32 = 200000;
/** How long an idle worker spins before it parks. */
const SPIN_MILLISECONDS: f64 = 0.1;
/** Longest time that counts between two looks at the clock while waiting. */
const POLL_MILLISECONDS: f64 = 50;
/** Polls of the control block between two looks at the clock. */
const POLLS_PER_CLOCK: i32 = 256;

/**
 * Runs `count` commands in order and returns the status: 0, or the code of the first error.
 * A command starts when all tiles of the one before are finished.
 */
export function run(program: usize, count: i32): i32 {
  store<i32>(field(STATUS), 0);
  for (let i = 0; i < count; i++) {
    const status = perform(program, i, count);
    if (status) return status;
  }
  return 0;
}

/** The same; writes to `times` (count + 1 f64) the millisecond at which each command started, and at which the last one ended. */
export function runTimed(program: usize, count: i32, times: usize): i32 {
  store<i32>(field(STATUS), 0);
  store<f64>(times, now());
  for (let i = 0; i < count; i++) {
    const status = perform(program, i, count);
    if (status) return status;
    store<f64>(times + ((<usize>(i + 1)) << 3), now());
  }
  return 0;
}

/** Whether `count` commands have so much work to share that parked workers are woken for them, and absent ones started. */
export function worthWorkers(program: usize, count: i32): bool {
  let work: f32 = 0;
  for (let i = 0; i < count && work < WAKE_NANOSECONDS; i++) {
    const command = commandAt(program, i);
    if (canShare(command)) work += command.work;
  }
  return work >= WAKE_NANOSECONDS;
}

// @ts-ignore: decorator
@inline
function commandAt(program: usize, i: i32): Command {
  return changetype<Command>(program + <usize>i * offsetof<Command>());
}

// @ts-ignore: decorator
@inline
function canShare(command: Command): bool {
  return command.work >= SHARE_NANOSECONDS && command.tiles > 1;
}

/** Runs command `i` of `count` and returns the status. */
function perform(program: usize, i: i32, count: i32): i32 {
  const command = commandAt(program, i);
  store<i32>(field(CURRENT), i);
  store<u64>(field(STARTED), load<u64>(field(STARTED)) + 1);
  if (ASC_FEATURE_THREADS) {
    if (canShare(command) && load<i32>(field(LANES)) > 1) share(command, count - i);
    else dispatch(command.kernel, command.args, 0, command.tiles, 0);
  } else {
    dispatch(command.kernel, command.args, 0, command.tiles, 0);
  }
  return load<i32>(field(STATUS));
}

/** Publishes the first of `left` commands, helps to compute it, and returns when its last tile is done or a worker is lost. */
function share(command: Command, left: i32): void {
  const tiles = command.tiles;
  store<i32>(field(KERNEL), command.kernel);
  store<usize>(field(ARGS), command.args);
  atomic.store<i32>(field(DONE), 0);
  atomic.store<u64>(field(TICKET), (<u64>tiles) << 32);
  if (atomic.load<i32>(field(PARKED)) > 0 && worthWorkers(changetype<usize>(command), left)) wake();
  while (takeTiles(0)) {}
  awaitOthers(tiles);
}

/** Wakes every parked worker. */
function wake(): void {
  if (ASC_FEATURE_THREADS) {
    atomic.add<i32>(field(EPOCH), 1);
    atomic.notify(field(EPOCH), -1);
  }
}

/** Takes a share of the published tiles and computes it; false if none was left. */
function takeTiles(lane: i32): bool {
  const ticket = field(TICKET);
  let word = atomic.load<u64>(ticket);
  if (<i32>word >= <i32>(word >> 32)) return false;
  const state = field(LANE_STATE) + <usize>lane * LANE_BYTES;
  atomic.store<i32>(state + BUSY, 1);
  let took = false;
  while (!took && <i32>word < <i32>(word >> 32)) {
    const next = <i32>word;
    // Guided self-scheduling: a fifth of an even share, so that a slow thread is left with little at the end.
    const count = max(1, (<i32>(word >> 32) - next) / (5 * load<i32>(field(LANES))));
    const seen = atomic.cmpxchg<u64>(ticket, word, word + <u64>count);
    took = seen == word;
    word = seen;
    if (took) computeTiles(state, next, count, lane);
  }
  atomic.store<i32>(state + BUSY, 0);
  return took;
}

/** Computes tiles that are ours. The command stays the published one until they are counted as done. */
function computeTiles(state: usize, first: i32, count: i32, lane: i32): void {
  dispatch(load<i32>(field(KERNEL)), load<usize>(field(ARGS)), first, first + count, lane);
  atomic.add<i32>(state + HEARTBEAT, 1);
  atomic.add<i32>(field(DONE), count);
}

/** Spins until all tiles are done. A worker that trapped, or holds tiles without a heartbeat, ends the wait with a report. */
function awaitOthers(tiles: i32): void {
  let polls = 0;
  let beats = heartbeats();
  let waited: f64 = 0;
  let before: f64 = 0;
  while (atomic.load<i32>(field(DONE)) < tiles) {
    if (++polls < POLLS_PER_CLOCK) continue;
    polls = 0;
    const time = now();
    // A pause of the whole process is not a worker's fault: no more than POLL_MILLISECONDS count between two looks.
    if (before != 0) waited += min(time - before, POLL_MILLISECONDS);
    before = time;
    const failed = atomic.load<i32>(field(FAILED));
    const sum = heartbeats();
    if (sum != beats) waited = 0;
    beats = sum;
    // The others finish what they hold before memory may change hands.
    if (failed && !busyLane()) {
      report(WORKER_FAILED, failed, load<i32>(field(LANES)));
      return;
    }
    if (waited > <f64>load<f32>(field(TIMEOUT))) {
      report(WORKER_LOST, busyLane(), load<i32>(field(LANES)));
      return;
    }
  }
}

/** Tile ranges that workers have finished since they started. */
function heartbeats(): i32 {
  let sum = 0;
  for (let lane = 1; lane < load<i32>(field(LANES)); lane++) {
    sum += atomic.load<i32>(field(LANE_STATE) + <usize>lane * LANE_BYTES + HEARTBEAT);
  }
  return sum;
}

/** A worker that holds tiles, 0 if none does. */
function busyLane(): i32 {
  for (let lane = 1; lane < load<i32>(field(LANES)); lane++) {
    if (atomic.load<i32>(field(LANE_STATE) + <usize>lane * LANE_BYTES + BUSY)) return lane;
  }
  return 0;
}

/** A worker's life: take tiles, spin a little, park until woken, until `stop` is set. Its thread does nothing else. */
export function work(lane: i32): void {
  if (!ASC_FEATURE_THREADS) return;
  let polls = 0;
  let idleSince: f64 = 0;
  while (!atomic.load<i32>(field(STOP))) {
    if (takeTiles(lane)) {
      idleSince = 0;
      continue;
    }
    if (++polls < POLLS_PER_CLOCK) continue;
    polls = 0;
    const time = now();
    if (idleSince == 0) idleSince = time;
    else if (time - idleSince > SPIN_MILLISECONDS) {
      park();
      idleSince = 0;
    }
  }
}

/** Sleeps until `wake`. Work or a stop that comes between the check and the sleep raises the epoch, so it is not missed. */
function park(): void {
  const epoch = atomic.load<i32>(field(EPOCH));
  atomic.add<i32>(field(PARKED), 1);
  const word = atomic.load<u64>(field(TICKET));
  if (<i32>word >= <i32>(word >> 32) && !atomic.load<i32>(field(STOP))) atomic.wait<i32>(field(EPOCH), epoch, -1);
  atomic.sub<i32>(field(PARKED), 1);
}
