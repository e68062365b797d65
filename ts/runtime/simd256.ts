// 256-bit mode, experimental. V8 on x64 can pair 128-bit vector operations into 256-bit ones if a flag is set before the kernels are
// compiled (Node 24 and later, processors with AVX2). The flag is young and holds for the whole process, so nothing is taken on
// trust: the same products run both ways, and are compared by their bits and by the clock, before the mode is used.
//
// Where vectors are paired, products take two panels at a time (assembly/gemm.ts). Each element is still summed in the same order,
// so the bits are those of the relaxed build.
import { nodeProcess } from './node.ts';
import { Contestant, PATIENCE_MILLISECONDS, type TrialEngine } from './simd256-trial.ts';

const FLAG = 'experimental-wasm-revectorize';
/** Least gain that is worth the mode. The processor's own is 1.6 to 2. */
const LEAST_GAIN = 1.15;

/** Sets or clears V8's flag; undefined where there is no such V8. */
function pairingSwitch(): ((on: boolean) => void) | undefined {
  const process = nodeProcess();
  if (!process || process.versions.deno || process.versions.bun || process.arch !== 'x64') return undefined;
  if (!(Number.parseInt(process.versions.node, 10) >= 24)) return undefined;
  const v8 = process.getBuiltinModule('node:v8');
  return (on) => v8.setFlagsFromString(`--${on ? '' : 'no-'}${FLAG}`);
}

/** The same module in bytes that V8 takes for another, so that code compiled with and without the flag is kept apart. */
function tagged(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode('simd256');
  const customSection = [0, name.length + 1, name.length, ...name];
  const all = new Uint8Array(bytes.length + customSection.length);
  all.set(bytes);
  all.set(customSection, bytes.length);
  return all;
}

/** The module to use in 256-bit mode, or why there is none. */
export type Trial = { readonly module: WebAssembly.Module } | { readonly reason: string };

/**
 * Sets the flag and compares engines made from the same bytes before and after; clears it again if the second is not the same and
 * faster. `start` makes an engine of one thread that takes two panels at a time if `wide`. Takes about 0.2 s.
 */
export async function tryPairing(
  bytes: Uint8Array<ArrayBuffer>,
  start: (module: WebAssembly.Module, wide: boolean) => Promise<TrialEngine>,
): Promise<Trial> {
  const pair = pairingSwitch();
  if (!pair) return { reason: '256-bit mode needs Node 24 or later on x64' };
  const narrow = new Contestant(await start(await WebAssembly.compile(bytes), false));
  narrow.warmUp();
  pair(true);
  const module = await WebAssembly.compile(tagged(bytes));
  const wide = new Contestant(await start(module, true));
  wide.warmUp();
  const reason = shortcoming(narrow, wide);
  if (reason === null) return { module };
  pair(false);
  return { reason };
}

/** Clears the flag for what is compiled from now on. */
export function stopPairing(): void {
  pairingSwitch()?.(false);
}

/** What keeps paired vectors from being used, or null. */
function shortcoming(narrow: Contestant, wide: Contestant): string | null {
  const end = performance.now() + PATIENCE_MILLISECONDS;
  let gain = 0;
  while (gain < LEAST_GAIN && performance.now() < end) {
    gain = narrow.time() / wide.time();
  }
  if (gain < LEAST_GAIN) return `V8 did not pair vectors: ${gain.toFixed(2)} times the speed of single ones`;
  const expected = narrow.results();
  const agrees = wide.results().every((word, i) => word === expected[i]);
  return agrees ? null : 'paired vectors gave other results than single ones';
}
