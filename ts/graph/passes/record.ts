import { noGrad } from '../../autograd/mode.ts';
import { setRecorder } from '../../tensor/apply.ts';
import type { OpCall } from '../../tensor/op.ts';

/** The op calls that `callback` makes, in the name of `module`, and what it returns. For passes that add calls to a list. */
export function record<T>(module: string, callback: () => T): { calls: OpCall[]; result: T } {
  const calls: OpCall[] = [];
  const before = setRecorder({ record: (call) => void calls.push({ ...call, module }), read() {} });
  try {
    return { result: noGrad(callback), calls };
  } finally {
    setRecorder(before);
  }
}
