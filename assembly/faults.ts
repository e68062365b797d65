// Kernels that misbehave on purpose, so that tests can see what the pool does about it.
import { LANES, field } from './control';
import { Update } from './record';


@unmanaged
export class FaultArgs {
  /** A word that counts the tiles the calling thread has computed. */
  count: Update;
  /** What a worker does with its first tile: 0 computes it, 1 traps, 2 stalls for ever. */
  fault: i32;
}

/** Each tile of the calling thread takes some 50 us, so that workers come in time to get one. */
export function faulty(args: FaultArgs, first: i32, last: i32, lane: i32): void {
  if (lane > 0 && args.fault == 1) unreachable();
  while (lane > 0 && args.fault == 2 && load<i32>(field(LANES)) > 0) {}
  for (let tile = first; tile < last; tile++) {
    for (let spin = 0; spin < 50000; spin++) store<i32>(args.count, load<i32>(args.count));
    if (lane == 0) store<i32>(args.count, load<i32>(args.count) + 1);
  }
}
