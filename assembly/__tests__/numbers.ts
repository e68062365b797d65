// Numbers in linear memory, for the specs.
import { SCRATCH, SCRATCH_STRIDE, WIDE, initialise } from '../control';

/** The numbers one after the other, with slack behind them for vectors. */
export function floats(values: f32[]): usize {
  const address = heap.alloc(4 * values.length + 64);
  for (let i = 0; i < values.length; i++) store<f32>(address + 4 * i, values[i]);
  return address;
}

export function words(values: i32[]): usize {
  const address = heap.alloc(4 * values.length);
  for (let i = 0; i < values.length; i++) store<i32>(address + 4 * i, values[i]);
  return address;
}

/** Element `index` of an array of floats. */
export function at(address: usize, index: i32): f32 {
  return load<f32>(address + 4 * index);
}

/** One panel of weights with a bias in column 0 and the weights of one output channel below it. */
export function panel(bias: f32, weights: f32[]): usize {
  const address = heap.alloc(32 * (weights.length + 1));
  memory.fill(address, 0, 32 * (weights.length + 1));
  store<f32>(address, bias);
  for (let k = 0; k < weights.length; k++) store<f32>(address + 32 * (k + 1), weights[k]);
  return address;
}

/** Starts kernels with so many bytes of scratch memory for lane 0, in 128-bit mode. */
export function prepareScratch(bytes: i32): void {
  const control = heap.alloc(1024);
  store<usize>(control + SCRATCH, heap.alloc(bytes));
  store<i32>(control + SCRATCH_STRIDE, bytes);
  store<i32>(control + WIDE, 0);
  initialise(control);
}
