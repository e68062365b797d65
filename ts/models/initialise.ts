// First values as torchvision's models choose them, set on layers before anything has used them.
import { type BatchNorm2d, Conv2d, type Initialiser, Linear, type Module } from '../nn/index.ts';
import { calculateGain } from '../nn/init.ts';
import { constantInitialiser, normalInitialiser } from '../nn/parameter.ts';

/** Normal with variance 2 / fan out. Source: torch.nn.init.kaiming_normal_ with mode='fan_out', nonlinearity='relu'. */
function kaimingFanOut([out, , height, width]: readonly [number, number, number, number]): Initialiser {
  return normalInitialiser(calculateGain('relu') / Math.sqrt(out * height * width));
}

/** What a family asks for beyond convolutions. */
export interface InitialisationOptions {
  /** Standard deviation of the dense layers, whose biases start at 0; left as they are if absent. */
  readonly linearStd?: number;
}

/** Convolutions start Kaiming-normal by fan out, their biases at 0; batch normalisation as it does anyway. */
export function initialiseModel(model: Module, { linearStd }: InitialisationOptions = {}): void {
  const zeros = constantInitialiser(0);
  for (const [, module] of model.namedModules()) {
    if (module instanceof Conv2d) {
      module.weight.initialiseBy(kaimingFanOut(module.weight.shape as [number, number, number, number]));
      module.bias?.initialiseBy(zeros);
    } else if (module instanceof Linear && linearStd !== undefined) {
      module.weight.initialiseBy(normalInitialiser(linearStd));
      module.bias?.initialiseBy(zeros);
    }
  }
}

/** Starts batch normalisations at 0, so that the branch they end adds nothing at first. */
export function initialiseAtZero(norm: BatchNorm2d): void {
  norm.weight?.initialiseBy(constantInitialiser(0));
}
