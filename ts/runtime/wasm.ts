// Which build of the kernels to use, where its bytes come from, and how it is instantiated.
import { stamps } from '../generated/stamps.ts';
import { nodeProcess } from './node.ts';

/** The exports of every build (assembly/index.ts). */
export interface KernelExports {
  /** Tells this instance where the control block lies. */
  initialise(control: number): void;
  /** Runs `count` commands; 0 or the code of the first error. */
  run(program: number, count: number): number;
  /** The same; writes count + 1 f64 to `times`: when each command started, and when the last one ended, in milliseconds. */
  runTimed(program: number, count: number, times: number): number;
  /** Whether `count` commands have so much work to share that workers are started for them: 1 or 0. */
  worthWorkers(program: number, count: number): number;
  /** A worker's life; returns when the control block says stop. */
  work(lane: number): void;
  /** First address behind the static data. */
  heapBase(): number;
}

/** What users may pass as `init({ wasm })`. */
export type WasmSource =
  | WebAssembly.Module
  | BufferSource
  | Response
  | { default: WebAssembly.Module }
  | Promise<WebAssembly.Module | BufferSource | Response | { default: WebAssembly.Module }>;

/** `simd` runs everywhere and gives the same bits everywhere; `relaxed` uses fused multiply-add where the engine has it. */
export type Build = 'simd' | 'relaxed';

// (module (func (param) (result v128) v128.const 0, v128.const 0, v128.const 0, f32x4.relaxed_madd))
// biome-ignore format: one module
const RELAXED_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 61, 1, 59, 0,
  253, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  253, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  253, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  253, 133, 2, 11,
]);

/** Whether this runtime accepts relaxed SIMD. Node 20 and old Safari do not. */
export function supportsRelaxed(): boolean {
  return WebAssembly.validate(RELAXED_PROBE);
}

/** The bytes of a build. */
export async function kernelBytes(build: Build, threads: boolean): Promise<Uint8Array<ArrayBuffer>> {
  const name = threads ? (`${build}-mt` as const) : build;
  return fileBytes(name) ?? decodeBase64(await embedded[name]());
}

/** The builds for platforms without files. Each lies behind its own dynamic import, so that only one is ever downloaded. */
const embedded = {
  simd: async () => (await import('../generated/wasm/simd.ts')).base64,
  relaxed: async () => (await import('../generated/wasm/relaxed.ts')).base64,
  'simd-mt': async () => (await import('../generated/wasm/simd-mt.ts')).base64,
  'relaxed-mt': async () => (await import('../generated/wasm/relaxed-mt.ts')).base64,
};

/**
 * A build's file in the package, where this runs as Node or Bun unpacked it: 5 ms faster to come by than the embedded text. Undefined
 * elsewhere: in browsers, in Deno, which would ask its user for permission, and in bundles, where a file that lies there by chance may be of
 * another version: only one with the right stamp (assembly/build/stamp.mjs) is taken.
 */
function fileBytes(name: keyof typeof stamps): Uint8Array<ArrayBuffer> | undefined {
  const process = nodeProcess();
  if (!process || process.versions.deno) return undefined;
  // Bundlers would take `new URL(..., import.meta.url)` for a file to pack.
  const here = import.meta.url;
  try {
    const bytes = process.getBuiltinModule('node:fs').readFileSync(new URL(`../wasm/${name}.wasm`, here));
    return isStamped(bytes, stamps[name]) ? bytes : undefined;
  } catch {
    return undefined;
  }
}

/** Whether `bytes` end with a stamp: 0.05 ms at a start, where the first `toString` of a Buffer takes up to 0.1 (Node 20). */
function isStamped(bytes: Uint8Array, stamp: string): boolean {
  const start = bytes.length - stamp.length;
  for (let i = 0; i < stamp.length; i++) if (bytes[start + i] !== stamp.charCodeAt(i)) return false;
  return stamp !== '';
}

/** What decodes base64 natively; a loop over the characters of a build takes milliseconds before the optimising compiler sees it. */
interface Decoders {
  Uint8Array: { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> };
  Buffer?: { from: (text: string, encoding: 'base64') => Uint8Array<ArrayBuffer> };
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  const { Uint8Array: Bytes, Buffer } = globalThis as unknown as Decoders;
  if (Bytes.fromBase64) return Bytes.fromBase64(text);
  if (Buffer) return Buffer.from(text, 'base64');
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

async function moduleFrom(source: WasmSource): Promise<WebAssembly.Module> {
  const value = await source;
  if (value instanceof WebAssembly.Module) return value;
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return WebAssembly.compile(value as BufferSource);
  if (value && typeof value === 'object' && 'default' in value && value.default instanceof WebAssembly.Module)
    return value.default;
  // Asked last: Node loads its whole implementation of fetch for the name.
  if (typeof Response !== 'undefined' && value instanceof Response)
    return WebAssembly.compile(await value.arrayBuffer());
  throw new TypeError(
    `init: wasm must be a WebAssembly.Module, bytes, a Response or a promise of one, got ${typeof value}`,
  );
}

/**
 * The compiled module: the caller's, or the embedded build. In Node it is compiled at once: handing so little to another thread and waiting
 * for it takes 1 ms more.
 */
export async function loadModule(build: Build, threads: boolean, source?: WasmSource): Promise<WebAssembly.Module> {
  if (source !== undefined) return moduleFrom(source);
  const bytes = await kernelBytes(build, threads);
  return nodeProcess() ? new WebAssembly.Module(bytes) : WebAssembly.compile(bytes);
}

/**
 * Instantiates a compiled module on a memory, as the platform does it: @assemblyscript/loader would wrap exports that have numbers alone to
 * pass on, and is 1 ms of a start.
 */
export async function instantiateKernels(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
): Promise<KernelExports> {
  const { exports } = await WebAssembly.instantiate(module, { env: { memory, now: () => performance.now() } });
  return exports as unknown as KernelExports;
}
