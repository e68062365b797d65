// The arena: the memory of all programs' intermediates. Only one program runs at a time and none leaves anything behind, so they
// share one block, as large as the largest needs. When it moves, the programs are told.
import { engine, whenShutDown } from '../runtime/engine.ts';
import { OutOfMemoryError } from '../runtime/errors.ts';

/** A program, as the arena sees it. */
export interface Tenant {
  /** Bytes it needs. */
  readonly arenaBytes: number;
  /** The arena lies at `address` now. */
  moved(address: number): void;
  /** The memory is gone: the engine was shut down. */
  lost(): void;
}

const tenants = new Set<Tenant>();
let address = 0;
let bytes = 0;

/** Bytes of the largest tenant. */
function needed(): number {
  let most = 0;
  for (const tenant of tenants) most = Math.max(most, tenant.arenaBytes);
  return most;
}

/** Exchanges the block for one of `to` bytes. If there is no room the old one stays, where it was or elsewhere, and the error goes on. */
function resize(to: number): void {
  const { heap } = engine();
  try {
    if (heap.deferring) {
      const fresh = to ? heap.allocate(to) : 0;
      if (address) heap.free(address);
      address = fresh;
    } else {
      if (address) heap.free(address);
      address = to ? allocateOr(bytes, to) : 0;
    }
    bytes = to;
  } finally {
    for (const tenant of tenants) tenant.moved(address);
  }
}

/** A block of `to` bytes; failing that, takes one of `before` bytes again, which has just been freed, and throws. */
function allocateOr(before: number, to: number): number {
  const { heap } = engine();
  try {
    return heap.allocate(to);
  } catch (error) {
    if (before) address = heap.allocate(before);
    throw error;
  }
}

/** Admits a program. On OutOfMemoryError it is not admitted and the others go on working. */
export function enter(tenant: Tenant): void {
  tenants.add(tenant);
  try {
    if (needed() > bytes) resize(needed());
    else tenant.moved(address);
  } catch (error) {
    tenants.delete(tenant);
    throw error;
  }
}

/** A program leaves; the arena shrinks to what the others need, if a smaller block can be had. */
export function leave(tenant: Tenant): void {
  if (!tenants.delete(tenant) || needed() >= bytes) return;
  try {
    resize(needed());
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
  }
}

whenShutDown(() => {
  for (const tenant of tenants) tenant.lost();
  tenants.clear();
  address = bytes = 0;
});
