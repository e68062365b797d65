// The algorithms by name. One that lacks a gradient leaves it to the matrix product.
import { depthwise } from './conv2d-depthwise.ts';
import type { Conv2dAlgorithm, Conv2dEmitters } from './conv2d-geometry.ts';
import { emitForward, emitInputGrad } from './conv2d-product.ts';
import { emitWeightGrad } from './conv2d-weight-grad.ts';
import { winograd2, winograd4 } from './conv2d-winograd.ts';
import { emitWinogradWeightGrad } from './conv2d-winograd-grad.ts';

const direct: Required<Conv2dEmitters> = { forward: emitForward, inputGrad: emitInputGrad, weightGrad: emitWeightGrad };

const emitters: Record<Conv2dAlgorithm, Conv2dEmitters> = {
  direct,
  depthwise,
  winograd2: { ...winograd2, weightGrad: emitWinogradWeightGrad },
  winograd4: { ...winograd4, weightGrad: emitWinogradWeightGrad },
};

/** What emits the commands of an algorithm. */
export function emittersOf(algorithm: Conv2dAlgorithm): Required<Conv2dEmitters> {
  return { ...direct, ...emitters[algorithm] };
}
