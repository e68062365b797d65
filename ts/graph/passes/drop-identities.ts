// A pass over op calls: what changes nothing is dropped. Dropout in evaluation and views make no calls; pooling by single elements
// (an adaptive pooling to the size that is there), clamps without bounds and rectifiers behind rectifiers do.
import type { Storage } from '../../runtime/storage.ts';
import type { OpCall, Operand } from '../../tensor/op.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { Flow } from './flow.ts';
import { isBounded } from './operands.ts';
import { samePlaces } from './places.ts';

const POOLING = new Set(['maxPool2d', 'avgPool2d', 'adaptiveAvgPool2d']);

/** Whether a pooling looks at one element per window, each once. */
function poolsNothing({ geometry, outputs }: OpCall): boolean {
  const { rows, columns } = geometry as Partial<Record<'rows' | 'columns', { kernel: number; stride: number }>>;
  if (outputs.length !== 1 || !rows || !columns) return false;
  return [rows, columns].every(({ kernel, stride }) => kernel === 1 && stride === 1);
}

/** Whether a call hands its input on as it is. */
function isIdentity(call: OpCall, flow: Flow): boolean {
  const [x] = call.inputs;
  const [y] = call.outputs;
  if (!x || !y || !samePlaces(x, y)) return false;
  if (POOLING.has(call.op.name)) return poolsNothing(call);
  if (call.op.name === 'relu') return flow.maker(x)?.op.name === 'relu';
  return call.op.name === 'clamp' && !isBounded(call);
}

/** The calls without identities. What they would have made must not come out of the list, nor be changed in place. */
export function dropIdentities(calls: readonly OpCall[], outputs: readonly Tensor[]): OpCall[] {
  const flow = new Flow(calls, outputs);
  const moved = new Map<Storage, Storage>();
  const move = (operand: Operand): Operand => {
    const storage = operand && moved.get(operand.storage);
    return storage ? new Tensor({ ...operandParts(operand), storage }) : operand;
  };
  return calls.flatMap((call) => {
    const inputs = call.inputs.map(move);
    const [x] = inputs;
    const [y] = call.outputs;
    const untouched = x && y && flow.maker(x) && flow.maker(y) && flow.readers(y);
    if (!untouched || !isIdentity(call, flow)) return [{ ...call, inputs }];
    moved.set(y.storage, x.storage);
    return [];
  });
}

function operandParts({ shape, dtype, strides, offset }: Tensor) {
  return { shape, dtype, strides, offset };
}
