// The machine's 128-bit peak in this runtime, measured by loops in registers (peak/peak.ts): the measure for every share of peak printed here.
// `node bench/peak.mjs` prints it alone.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { acceptsRelaxed, peakOf, startPeak } from './peak/loops.mjs';

/** @param {'auto' | 'simd' | 'relaxed'} build @returns {ReturnType<typeof peakOf>} */
export async function measurePeak(build = 'auto') {
  return peakOf(await compilePeak(acceptsRelaxed()), build);
}

/** The peak as a worker's contestant (worker.mjs). */
export async function start({ build }) {
  return startPeak(await compilePeak(acceptsRelaxed()), build);
}

/** WebAssembly of peak/peak.ts. -O2 as for the kernels: -O3 reorders unrolled chains until they spill. */
export async function compilePeak(relaxed) {
  const { default: asc } = await import('assemblyscript/asc');
  const directory = mkdtempSync(join(tmpdir(), 'peak-'));
  try {
    const outFile = join(directory, 'peak.wasm');
    const source = fileURLToPath(new URL('./peak/peak.ts', import.meta.url));
    const { error, stderr } = await asc.main([
      source,
      '--baseDir',
      '/',
      '--config',
      'none',
      '--runtime',
      'stub',
      '--noAssert',
      '-O2',
      '-o',
      outFile,
      '--enable',
      relaxed ? 'simd,relaxed-simd' : 'simd',
    ]);
    if (error) throw new Error(`peak: ${error.message}\n${stderr}`);
    return readFileSync(outFile);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { mulAdd, fma } = await measurePeak();
  console.log(`node ${process.versions.node}: ${mulAdd.toFixed(1)} GFLOP/s mul+add, ${fma?.toFixed(1) ?? 'no'} fused`);
}
