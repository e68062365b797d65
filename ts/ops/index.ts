// All public ops, one line per family.
export * from './activation.ts';
export { adaptiveAvgPool2d } from './adaptive-pool.ts';
export { type BatchNormOptions, batchNorm } from './batch-norm.ts';
export type { TensorOrNumber } from './broadcast.ts';
export { cat, concat, stack } from './cat.ts';
export { eq, ge, gt, le, lt, ne, where } from './compare.ts';
export { type Conv2dOptions, conv2d } from './conv2d.ts';
export { channelsLast, clone, contiguous, copy_, fill_, scaleImage, to, zero_ } from './copy.ts';
export { add, div, maximum, minimum, mul, neg, sub } from './elementwise.ts';
export { type CrossEntropyOptions, crossEntropy, mseLoss, nllLoss } from './loss.ts';
export { linear, matmul } from './matmul.ts';
export { narrow, type PadOptions, pad, type SliceRange, select, slice } from './narrow.ts';
export { type AvgPool2dOptions, avgPool2d, type MaxPool2dOptions, maxPool2d } from './pool.ts';
export { pow } from './pow.ts';
export {
  bernoulli,
  bernoulli_,
  type DropoutOptions,
  dropout,
  manualSeed,
  normal_,
  rand,
  randn,
  uniform_,
} from './random.ts';
export {
  argmax,
  argmin,
  type ExtremumOptions,
  max,
  mean,
  min,
  type PositionOptions,
  type VarianceOptions,
  variance,
} from './reduce.ts';
export { detach, flatten, permute, reshape, squeeze, transpose, unsqueeze, view } from './shape.ts';
export * from './soft-activation.ts';
export { logSoftmax, softmax } from './softmax.ts';
export { expand, type ReduceOptions, sum } from './sum.ts';
export { abs, type ClampOptions, clamp, exp, log, reciprocal, sqrt, square } from './unary.ts';
export type { Padding, Pair } from './window.ts';
