// The arena: the memory of all programs' intermediates. Only one program runs at a time and none leaves anything behind, so they
// share one block, as large as the largest needs. When it moves, the programs are told.
import { engine, whenShutDown } from '../runtime/engine.ts';

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

function resize(to: number): void {
  const { heap } = engine();
  if (address) heap.free(address);
  address = bytes = 0;
  if (to) address = heap.allocate(to);
  bytes = to;
  for (const tenant of tenants) tenant.moved(address);
}

/** Admits a program. On OutOfMemoryError it is not admitted and the others go on working. */
export function enter(tenant: Tenant): void {
  const before = bytes;
  tenants.add(tenant);
  try {
    if (needed() > bytes) resize(needed());
    else tenant.moved(address);
  } catch (error) {
    tenants.delete(tenant);
    resize(before);
    throw error;
  }
}

/** A program leaves; the arena shrinks to what the others need. */
export function leave(tenant: Tenant): void {
  if (tenants.delete(tenant) && needed() < bytes) resize(needed());
}

whenShutDown(() => {
  for (const tenant of tenants) tenant.lost();
  tenants.clear();
  address = bytes = 0;
});
