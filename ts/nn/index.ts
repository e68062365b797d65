// Layers, under PyTorch's names.
export { BatchNorm1d, BatchNorm2d, type BatchNormLayerOptions } from './batch-norm.ts';
export { Sequential } from './container.ts';
export { Conv2d, type Conv2dLayerOptions } from './conv.ts';
export * as init from './init.ts';
export {
  AdaptiveAvgPool2d,
  AvgPool2d,
  Dropout,
  Flatten,
  Hardsigmoid,
  Hardswish,
  Hardtanh,
  Identity,
  type InplaceOption,
  LeakyReLU,
  MaxPool2d,
  ReLU,
  ReLU6,
  Sigmoid,
  SiLU,
  Tanh,
} from './layers.ts';
export { Linear } from './linear.ts';
export { CrossEntropyLoss, MSELoss } from './loss.ts';
export { type LoadResult, Module, type StateDict } from './module.ts';
export { type Initialiser, Parameter } from './parameter.ts';
export * as utils from './utils.ts';
