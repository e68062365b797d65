// The package as users see it, from the sources.
export * from '../ts/index.ts';
export { data, item } from '../ts/tensor/read.ts';
