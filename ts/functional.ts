// `import * as F from 'feathermap/functional'`: every op as a function, without the methods on Tensor.
export * from './ops/index.ts';
