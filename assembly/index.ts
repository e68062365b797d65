// What the module exports. Kernels are reached through `run` and the generated dispatch, not one by one.
export { initialise } from './control';
export { run, runTimed, work, worthWorkers } from './run';

/** First address behind the static data: host memory starts here. */
export function heapBase(): usize {
  return __heap_base;
}
