// Layers, under PyTorch's names.
export { Sequential } from './container.ts';
export { Conv2d, type Conv2dLayerOptions } from './conv.ts';
export * as init from './init.ts';
export { AvgPool2d, Dropout, Flatten, MaxPool2d, ReLU, Sigmoid, Tanh } from './layers.ts';
export { Linear } from './linear.ts';
export { CrossEntropyLoss, MSELoss } from './loss.ts';
export { type LoadResult, Module, type StateDict } from './module.ts';
export { type Initialiser, Parameter } from './parameter.ts';
