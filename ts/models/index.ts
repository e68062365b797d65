// The zoo, one file per family.
export { LeNet, type LeNetOptions, lenet } from './lenet.ts';
