// A pass over op calls: the addition behind a residual branch moves into the epilogue of a convolution, which then begins its sums
// with the other branch. Of two convolutions the later one takes the earlier one's result. The sums are the same in another order:
// results move by rounding, 1e-6 of the largest at most.
import type { OpCall } from '../../tensor/op.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { Flow } from './flow.ts';
import { isBounded, RESIDUAL } from './operands.ts';
import { fillsStorage, inStorage, samePlaces } from './places.ts';

/** The calls with additions fused. */
export function fuseResiduals(calls: readonly OpCall[], outputs: readonly Tensor[]): readonly OpCall[] {
  return calls
    .filter(({ op }) => op.name === 'add')
    .reduce((list, addition) => fuseAddition(list, outputs, addition), calls);
}

function fuseAddition(calls: readonly OpCall[], outputs: readonly Tensor[], addition: OpCall): readonly OpCall[] {
  const [a, b] = addition.inputs as [Tensor, Tensor];
  const [sum] = addition.outputs as [Tensor];
  if (!samePlaces(a, sum) || !samePlaces(b, sum) || a.storage === b.storage) return calls;
  const flow = new Flow(calls, outputs);
  const summands = [
    { convolution: openConvolution(flow, a, addition), residual: b },
    { convolution: openConvolution(flow, b, addition), residual: a },
  ].map((summand) => ({ ...summand, at: summand.convolution ? calls.indexOf(summand.convolution) : -1 }));
  const { convolution, residual, at } = summands[0]!.at > summands[1]!.at ? summands[0]! : summands[1]!;
  if (!convolution) return calls;
  // What is added may be computed after the convolution: then the convolution waits for it.
  const end = calls.indexOf(addition);
  const target = flow.changes(residual, at, end) ? end : at;
  if (convolution.inputs.some((input) => input && flow.changes(input, at, target))) return calls;
  const fused = withResidual(convolution, residual, sum);
  return calls.flatMap((call, i) => {
    const rest = call === convolution || call === addition ? [] : [call];
    return i === target ? [...rest, fused] : rest;
  });
}

/** The convolution that makes a summand for this addition alone, if it still ends in a plain sum. */
function openConvolution(flow: Flow, summand: Tensor, addition: OpCall): OpCall | null {
  const maker = flow.maker(summand);
  if (maker?.op.name !== 'conv2d' || maker.inputs[RESIDUAL] || isBounded(maker)) return null;
  return flow.soleReader(summand) === addition && fillsStorage(maker.outputs[0]!) ? maker : null;
}

function withResidual(convolution: OpCall, residual: Tensor, sum: Tensor): OpCall {
  const [y] = convolution.outputs as [Tensor];
  const [x, weight, bias, , scale] = convolution.inputs;
  const inputs = [x!, weight!, bias ?? null, inStorage(y, residual.storage), scale ?? null];
  return { ...convolution, inputs, outputs: [inStorage(y, sum.storage)] };
}
