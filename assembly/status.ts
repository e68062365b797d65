// Errors that only a kernel can see: values inside a tensor. The kernel stays in bounds, reports, and goes on.
import { COMMAND, CURRENT, DETAIL, EXTENT, STATUS, field } from './control';

/** An index or a label lies outside 0 .. extent - 1. */
export const INDEX_OUT_OF_RANGE: i32 = 1;
/** A worker trapped while it computed a tile. */
export const WORKER_FAILED: i32 = 2;
/** A worker holds a tile and has not moved for longer than the time limit. */
export const WORKER_LOST: i32 = 3;

/** Writes the first error of a run: code, the offending value and the limit it broke. Later errors are dropped. */
export function report(code: i32, detail: i32, extent: i32): void {
  if (ASC_FEATURE_THREADS) {
    if (atomic.cmpxchg<i32>(field(STATUS), 0, code) != 0) return;
  } else {
    if (load<i32>(field(STATUS)) != 0) return;
    store<i32>(field(STATUS), code);
  }
  store<i32>(field(COMMAND), load<i32>(field(CURRENT)));
  store<i32>(field(DETAIL), detail);
  store<i32>(field(EXTENT), extent);
}
