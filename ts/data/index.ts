// Data sets and loaders: what `feathermap/data` exports.
export { type Rows, TensorDataset } from './arrays.ts';
export type { Dataset } from './dataset.ts';
export { type Idx, type IdxData, IdxError, parseIdx, readIdx } from './idx.ts';
export { type IdxFiles, ImageDataset, imagesFromIdx, type Normalization } from './images.ts';
export { DataLoader, type DataLoaderOptions } from './loader.ts';
export { fashionMnist, type MnistOptions, mnist } from './mnist.ts';
