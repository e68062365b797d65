// The vocabulary of argument records.
//
// Every kernel is `kernel(args: SomeArgs, first: i32, last: i32, lane: i32): void`: it computes the tiles first .. last - 1 of
// its tile grid. `SomeArgs` is an @unmanaged class, so `args` is a plain address and its fields lie in memory in order of
// declaration, each aligned to its size. assembly/build/bindings.mjs reads these declarations and writes the TypeScript side,
// so a record is declared once. A field that is an address says by its type what the kernel does there; the planner
// lives on it.

/** Address of memory that the kernel only reads. */
export type Input = usize;
/** Address of memory that the kernel writes whole and never reads before it wrote it. */
export type Output = usize;
/** Address of memory that the kernel reads and writes, or writes in part. */
export type Update = usize;
/** Address of i32 words that lie in the program beside the record: dimensions, strides, taps. */
export type Table = usize;
