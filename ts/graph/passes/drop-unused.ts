// A pass over op calls: what nobody reads is not computed.
import type { Storage } from '../../runtime/storage.ts';
import type { OpCall } from '../../tensor/op.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** Returns the calls that results or changes in place depend on. */
export function dropUnused(calls: readonly OpCall[], results: readonly Tensor[]): OpCall[] {
  const wanted = new Set<Storage>(results.map(({ storage }) => storage));
  const kept: OpCall[] = [];
  for (const call of [...calls].reverse()) {
    const changes = call.op.mutates?.length;
    if (!changes && !call.outputs.some(({ storage }) => wanted.has(storage))) continue;
    for (const input of call.inputs) if (input) wanted.add(input.storage);
    kept.push(call);
  }
  return kept.reverse();
}
