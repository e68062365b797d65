// A pass over op calls: batch normalisation behind a convolution becomes its scale and bias,
//
//   (conv(x, w) + b - mean) s + beta = conv(x, w s) + (beta + (b - mean) s),      s = gamma / sqrt(variance + eps),
//
// where s multiplies the weights while they are packed, so no second copy of them exists. What computes s and the bias depends on
// parameters alone and runs once per version of them. Results move by rounding, about 1e-6 of the largest.
// Source: Jacob et al., "Quantization and Training of Neural Networks", arXiv:1712.05877, section 3.2.
import { add, div, mul, sub } from '../../ops/elementwise.ts';
import { sqrt } from '../../ops/unary.ts';
import type { OpCall, Operand } from '../../tensor/op.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { Flow } from './flow.ts';
import { isBounded, RESIDUAL, SCALE } from './operands.ts';
import { fillsStorage, inStorage, samePlaces } from './places.ts';
import { record } from './record.ts';

/** The calls with normalisations folded where a convolution comes before and nobody else reads it. */
export function foldBatchNorm(calls: readonly OpCall[], outputs: readonly Tensor[]): OpCall[] {
  const flow = new Flow(calls, outputs);
  const folded = new Map<OpCall, readonly OpCall[]>();
  calls.forEach((call, position) => {
    if (call.op.name !== 'batchNormEval') return;
    const convolution = convolutionBefore(call, flow);
    const at = convolution ? calls.indexOf(convolution) : position;
    if (!convolution || call.inputs.slice(1).some((x) => x && flow.changes(x, at, position))) return;
    folded.set(convolution, fold(convolution, call));
    folded.set(call, []);
  });
  return calls.flatMap((call) => folded.get(call) ?? [call]);
}

/** The convolution that a normalisation alone reads, if nothing has been fused into it. */
function convolutionBefore(norm: OpCall, flow: Flow): OpCall | null {
  const x = norm.inputs[0]!;
  const maker = flow.maker(x);
  if (maker?.op.name !== 'conv2d' || isBounded(maker) || maker.inputs[RESIDUAL] || maker.inputs[SCALE]) return null;
  const alone = flow.soleReader(x) === norm && samePlaces(x, norm.outputs[0]!) && fillsStorage(maker.outputs[0]!);
  return alone ? maker : null;
}

/** The convolution with its new operands, and before it the calls that compute those. */
function fold(convolution: OpCall, norm: OpCall): OpCall[] {
  const [, gamma, beta, mean, variance] = norm.inputs as readonly [Tensor, Operand, Operand, Tensor, Tensor];
  const { eps } = norm.geometry as { eps: number };
  const [x, weight, bias] = convolution.inputs;
  const { calls, result } = record(norm.module, () => {
    const scale = div(gamma ?? 1, sqrt(add(variance, eps)));
    const shift = mul(bias ? sub(bias, mean) : sub(0, mean), scale);
    return { scale, bias: beta ? add(beta, shift) : shift };
  });
  const inputs = [x!, weight!, result.bias, null, result.scale];
  return [
    ...calls,
    { ...convolution, inputs, outputs: [inStorage(convolution.outputs[0]!, norm.outputs[0]!.storage)] },
  ];
}
