// Options of init, and what happens without it.
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { engine } from '../ts/runtime/engine.ts';
import { supportsRelaxed } from '../ts/runtime/wasm.ts';
import { engineInfo, init, ones, shutdown, tensor } from './feathermap.ts';

afterEach(shutdown);

/** The file that fits one thread here. */
function kernels(): Buffer {
  return readFileSync(`build/${supportsRelaxed() ? 'relaxed' : 'simd'}.wasm`);
}

describe('init', () => {
  it('must come first', () => {
    expect(() => tensor([1])).toThrow('feathermap: call `await init()` first');
  });

  it('twice with the same options does nothing, with others throws', async () => {
    await init({ threads: 1 });
    const x = ones([2]);
    await init({ threads: 1 });
    expect(x.sum().item()).toBe(2);
    await expect(init({ threads: 2 })).rejects.toThrow(
      'init: the engine runs with other options; call shutdown() first',
    );
  });

  it('may be called twice at once', async () => {
    await Promise.all([init({ threads: 1 }), init({ threads: 1 })]);
    expect(ones([3]).sum().item()).toBe(3);
  });

  it.each([
    [{ treads: 2 }, TypeError, "init: unknown option 'treads', known are threads, deterministic"],
    [{ threads: 0 }, RangeError, "init: threads is 'auto' or a whole number from 1 to 64, got 0"],
    [{ threads: Number.NaN }, RangeError, 'got NaN'],
    [{ build: 'fast' }, RangeError, "init: build is 'auto', 'simd' or 'relaxed', got 'fast'"],
    [
      { build: 'relaxed', deterministic: true },
      RangeError,
      "init: deterministic needs the simd build, but build is 'relaxed'",
    ],
    [
      { experimentalSimd256: true, deterministic: true },
      RangeError,
      'init: experimentalSimd256 needs the relaxed build',
    ],
    [{ maxMemory: 10 }, RangeError, 'init: maxMemory is a number of bytes from 1 MB up, got 10'],
    [{ workerTimeout: -1 }, RangeError, 'init: workerTimeout is a number of milliseconds, got -1'],
  ])('refuses %o', async (options, kind, message) => {
    const error = await init(options as never).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(kind);
    expect((error as Error).message).toContain(message);
    await init({ threads: 1 });
  });

  it('takes the module as bytes, a Module, a Response, a promise or an import', async () => {
    const bytes = readFileSync('build/simd.wasm');
    const module = new WebAssembly.Module(bytes);
    const response = (): Response => new Response(bytes, { headers: { 'content-type': 'application/wasm' } });
    for (const wasm of [bytes, module, response(), Promise.resolve(module), { default: module }]) {
      await init({ threads: 1, build: 'simd', wasm });
      expect(ones([5]).sum().item()).toBe(5);
      await shutdown();
    }
  });

  it('says which file it needs when the module is of another build', async () => {
    await expect(init({ threads: 2, build: 'simd', wasm: readFileSync('build/simd.wasm') })).rejects.toThrow(
      "init: this wasm does not fit build 'simd' with threads 2, which need simd-mt.wasm",
    );
    await init({ threads: 1 });
  });

  it('refuses a module that is none, and can be called again', async () => {
    await expect(init({ threads: 1, wasm: 7 as never })).rejects.toThrow(
      'init: wasm must be a WebAssembly.Module, bytes, a Response or a promise of one, got number',
    );
    await expect(init({ threads: 1, wasm: new Uint8Array([1, 2, 3]) })).rejects.toThrow(WebAssembly.CompileError);
    await init({ threads: 1 });
  });

  it('deterministic pins the simd build; auto takes the fastest the runtime accepts', async () => {
    await init({ threads: 1, deterministic: true });
    expect(engine().build).toBe('simd');
    await shutdown();
    await init({ threads: 1 });
    expect(engine().build).toBe(supportsRelaxed() ? 'relaxed' : 'simd');
  });

  it.each(['deno', 'bun'])('starts no workers in %s, and says so', async (name) => {
    const versions = { value: { ...process.versions, [name]: '2.0.0' } };
    vi.stubGlobal('process', Object.create(process, { versions }));
    try {
      await init({ threads: 2 });
      expect(engineInfo()).toMatchObject({
        threads: 1,
        threadsFallback: 'this runtime has no workers that share memory',
      });
    } finally {
      vi.unstubAllGlobals();
    }
  });

  it('says why there is no 256-bit mode', async () => {
    await init({
      threads: 1,
      build: supportsRelaxed() ? 'relaxed' : 'auto',
      experimentalSimd256: true,
      wasm: kernels(),
    });
    expect(engineInfo()).toEqual({
      build: supportsRelaxed() ? 'relaxed' : 'simd',
      threads: 1,
      threadsFallback: null,
      vectorBits: 128,
      simd256Fallback: expect.stringContaining('256-bit mode needs'),
    });
    expect(ones([3]).sum().item()).toBe(3);
    await shutdown();
    await init({ threads: 1 });
    expect(engineInfo().simd256Fallback).toBe(null);
  });

  it('tensors of an engine that was shut down say so', async () => {
    await init({ threads: 1 });
    const x = ones([2]);
    await shutdown();
    await init({ threads: 1 });
    expect(() => x.add(1)).toThrow('add: this Tensor([2], f32) was made before shutdown()');
    expect(() => x.data()).toThrow('made before shutdown()');
  });
});
