// What the benchmark and the tests reach below the public API. No promises are made about any of it.
export { capture, inputSpec } from './graph/capture.ts';
export { Program } from './graph/program.ts';
export { conv2dGeometry, conv2dInputGrad, conv2dWeightGrad } from './ops/conv2d.ts';
export { channelsLast } from './ops/copy.ts';
export { engine } from './runtime/engine.ts';
