/** Linear memory cannot grow by what is needed. The engine goes on working; release something or raise `maxMemory`. */
export class OutOfMemoryError extends Error {
  override name = 'OutOfMemoryError';
}

/** A worker thread died or stopped moving in the middle of a run. The results of that run are lost; the next run starts new workers. */
export class WorkerError extends Error {
  override name = 'WorkerError';
}

/** Something inside a captured step needs a value at once; capture writes down, it does not compute. */
export class CaptureError extends Error {
  override name = 'CaptureError';
}

/** A training step cannot be made to fit into its `memoryLimit`; the message names the least number of bytes that was reached. */
export class MemoryLimitError extends RangeError {
  override name = 'MemoryLimitError';
}
