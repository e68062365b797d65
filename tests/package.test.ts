// The package as it is published: packed, unpacked in a folder of its own, then imported, type-checked and bundled from there.
// Needs `npm run build`.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type BuildOptions, build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const project = mkdtempSync(join(tmpdir(), 'feathermap-package-'));
const home = join(project, 'node_modules/feathermap');

interface Manifest {
  exports: Record<string, string | { types: string; default: string }>;
  dependencies?: Record<string, string>;
}
const WASM_HEADER = Buffer.from([0, 97, 115, 109, 1, 0, 0, 0]);
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;
/** Names to import: 'feathermap', 'feathermap/train', ... */
const entries = Object.entries(manifest.exports).filter(
  (entry): entry is [string, { types: string; default: string }] => typeof entry[1] === 'object',
);
const names = entries.map(([name]) => `feathermap${name.slice(1)}`);

beforeAll(() => {
  // Whatever npm is first in the path: its name for the archive is the last line it prints.
  const printed = execFileSync('npm', ['pack', root, '--ignore-scripts'], {
    cwd: project,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const filename = printed.trim().split('\n').at(-1)!;
  mkdirSync(home, { recursive: true });
  execFileSync('tar', ['-xzf', join(project, filename), '-C', home, '--strip-components=1']);
  writeFileSync(join(project, 'package.json'), '{ "type": "module" }');
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

/** Runs a program in the project and returns what it printed. */
function run(file: string, source?: string, flags: string[] = []): string {
  if (source !== undefined) writeFileSync(join(project, file), source);
  const { stdout, stderr, status } = spawnSync(process.execPath, [...flags, file], {
    cwd: project,
    encoding: 'utf8',
    timeout: 600_000, // instead of waiting for ever
  });
  if (status !== 0) throw new Error(`${file} ended with ${status}: ${stderr}`);
  return stdout.trim();
}

/** Bundles a program of the project and returns the code of each file. */
async function bundle(source: string, options: BuildOptions = {}): Promise<Map<string, string>> {
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: project },
    bundle: true,
    format: 'esm',
    platform: 'browser',
    write: false,
    outdir: join(project, 'bundle'),
    logLevel: 'silent',
    ...options,
  });
  return new Map(outputFiles!.map(({ path, text }) => [path, text]));
}

describe('the published files', () => {
  it('are the built ones, without sources of tests and without dependencies', () => {
    expect(readdirSync(home).sort()).toEqual(['LICENSE', 'README.md', 'dist', 'package.json']);
    expect(manifest.dependencies ?? {}).toEqual({});
  });

  it.each(entries)('%s is there, with its types', (_, { types, default: code }) => {
    expect([existsSync(join(home, code)), existsSync(join(home, types))]).toEqual([true, true]);
  });

  it('hold one wasm module per build, each below 300 KB', () => {
    const wasm = join(home, 'dist/wasm');
    const builds = ['relaxed', 'relaxed-mt', 'simd', 'simd-mt'];
    // As a file, and as text in a module for platforms without files.
    expect(readdirSync(wasm).sort()).toEqual(builds.flatMap((name) => [`${name}.js`, `${name}.wasm`]).sort());
    for (const name of readdirSync(wasm)) expect(statSync(join(wasm, name)).size).toBeLessThan(300_000);
  });
});

describe('importing', () => {
  it('works for every entry by its name, and every name of an entry has a value', () => {
    const found = run(
      'import-all.js',
      `const found = {};
      for (const name of ${JSON.stringify(names)}) found[name] = Object.entries(await import(name)).map(([key, value]) => [key, typeof value]);
      console.log(JSON.stringify(found));`,
    );
    const exported = JSON.parse(found) as Record<string, [string, string][]>;
    expect(Object.keys(exported)).toEqual(names);
    for (const list of Object.values(exported)) {
      expect(list.length).toBeGreaterThan(0);
      expect(list.filter(([, type]) => type === 'undefined')).toEqual([]);
    }
    const of = (name: string): string[] => exported[name]!.map(([key]) => key);
    expect(of('feathermap')).toEqual(
      expect.arrayContaining(
        'init shutdown tensor zeros ones full arange rand randn manualSeed noGrad scope keep compile captureStep nn optim'.split(
          ' ',
        ),
      ),
    );
    expect(of('feathermap/functional')).toEqual(
      expect.arrayContaining('conv2d maxPool2d avgPool2d relu dropout crossEntropy'.split(' ')),
    );
    expect(of('feathermap/models')).toContain('lenet');
    expect(of('feathermap/data')).toEqual(expect.arrayContaining(['DataLoader', 'mnist', 'fashionMnist']));
    expect(of('feathermap/train')).toEqual(expect.arrayContaining(['fit', 'evaluate']));
    expect(of('feathermap/safetensors')).toEqual(expect.arrayContaining(['loadSafetensors', 'saveSafetensors']));
  });

  it('shares one engine between the entries', () => {
    const printed = run(
      'share.js',
      `import { init, zeros } from 'feathermap';
      import * as F from 'feathermap/functional';
      import { lenet } from 'feathermap/models';
      await init({ threads: 1 });
      console.log(F.relu(lenet().forward(zeros([2, 1, 28, 28]))).shape.join());`,
    );
    expect(printed).toBe('2,10');
  });

  it.each([
    [{ threads: 1, build: 'simd' }, 'simd'],
    [{ threads: 2, build: 'simd' }, 'simd-mt'],
    [{ threads: 1, deterministic: true }, 'simd'],
  ])('init(%j) reads one build of the kernels alone, and no text of it: %s', (options, expected) => {
    const log = join(project, 'loaded.txt');
    rmSync(log, { force: true });
    const hook = `import { appendFileSync } from 'node:fs';
      export async function load(url, context, next) { appendFileSync(${JSON.stringify(log)}, url + '\\n'); return next(url, context); }`;
    writeFileSync(join(project, 'hook.js'), hook);
    writeFileSync(
      join(project, 'register.js'),
      `import fs from 'node:fs';
      import { register } from 'node:module';
      register('./hook.js', import.meta.url);
      const { readFileSync } = fs;
      fs.readFileSync = (...order) => { fs.appendFileSync(${JSON.stringify(log)}, order[0] + '\\n'); return readFileSync(...order); };`,
    );
    const source = `import { init, ones } from 'feathermap'; await init(${JSON.stringify(options)}); console.log(ones([3]).sum().item());`;
    expect(run('one.js', source, ['--import', './register.js'])).toBe('3');
    const loaded = [...readFileSync(log, 'utf8').matchAll(/wasm\/(.*)/g)].map(([, file]) => file);
    expect(loaded).toEqual([`${expected}.wasm`]);
  });

  it('takes the text where the file beside it is of another version', () => {
    const file = join(home, 'dist/wasm/simd.wasm');
    const bytes = readFileSync(file);
    // A module that can be compiled, and whose instance lacks every export.
    const others = [
      WASM_HEADER,
      Buffer.concat([WASM_HEADER, bytes.subarray(-40, -1), Buffer.from('-')]),
      bytes.subarray(0, -40),
    ];
    try {
      for (const other of others) {
        writeFileSync(file, other);
        const source =
          "import { init, ones } from 'feathermap'; await init({ threads: 1, build: 'simd' }); console.log(ones([3]).sum().item());";
        expect(run('stale.js', source)).toBe('3');
      }
    } finally {
      writeFileSync(file, bytes);
    }
  });
});

it('types hold for a strict program', () => {
  writeFileSync(
    join(project, 'typed.ts'),
    `import { captureStep, compile, init, nn, optim, type Plan, type Tensor, tensor } from 'feathermap';
    import * as F from 'feathermap/functional';
    import { DataLoader, mnist } from 'feathermap/data';
    import { lenet } from 'feathermap/models';
    import { loadSafetensors } from 'feathermap/safetensors';
    import { type EpochResult, fit } from 'feathermap/train';
    await init({ threads: 'auto', deterministic: true });
    const x: Tensor = tensor([[0, 1], [2, 3]]).reshape([4]).add(1);
    const shape: readonly number[] = x.shape;
    class Net extends nn.Module {
      inner = new nn.Sequential(new nn.Linear(4, 2), new nn.ReLU());
      forward(input: Tensor): Tensor { return this.inner.forward(input); }
    }
    const optimizer = new optim.SGD(new Net().parameters(), { lr: 0.1, momentum: 0.9 });
    const step = captureStep((a: Tensor, b: Tensor) => F.crossEntropy(lenet().forward(a), b), { optimizer });
    const loss: number = step(x, x).item();
    const plan: Plan | null = step.plan;
    const run = compile(lenet(), { input: [1, 1, 28, 28] });
    const macs: number = run.plan.macs;
    const train = new DataLoader(await mnist({ train: true }), { batchSize: 256, shuffle: true });
    const history: EpochResult[] = await fit(lenet(), { train, loss: F.crossEntropy, optimizer });
    // @ts-expect-error no such option
    F.conv2d(x, x, null, { strides: 2 });
    // @ts-expect-error not a tensor
    F.relu('x');
    export { history, loadSafetensors, loss, macs, plan, shape };`,
  );
  const options = {
    strict: true,
    target: 'es2022',
    module: 'nodenext',
    noEmit: true,
    types: [],
    exactOptionalPropertyTypes: true,
  };
  const config = { compilerOptions: { ...options, lib: ['es2023', 'dom', 'esnext.disposable'] }, files: ['typed.ts'] };
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify(config));
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const { stdout, status } = spawnSync(process.execPath, [tsc, '-p', project], { encoding: 'utf8' });
  expect([status, stdout]).toEqual([0, '']);
});

/** A program's beginning that prints, at the end, how its workers ended: with 0 if their code ran and left when it was asked to. */
const WATCH_WORKERS = `
  const workerThreads = process.getBuiltinModule('node:worker_threads');
  const ends = [];
  workerThreads.Worker = class extends workerThreads.Worker {
    constructor(...order) { super(...order); this.on('exit', (code) => ends.push(code)); }
  };
  process.on('exit', () => console.log('workers', ends.join()));
`;
/** Work enough for workers to be started. */
const WORK = 'const x = ones([1024, 1024]); console.log(x.matmul(x).mean().item());';

describe('bundles', () => {
  const everything = names.map((name, i) => `export * as part${i} from '${name}';`).join('\n');

  it('import nothing of a platform', async () => {
    for (const code of (await bundle(everything, { splitting: true })).values())
      expect(code).not.toMatch(/\bfrom\s*["']node:|\bimport\(\s*["']node:|\brequire\(\s*["']/);
  });

  it('make no code from strings: they run under a strict content security policy', () => {
    const source = `import { init, nn, ones, shutdown } from 'feathermap';
      ${WATCH_WORKERS}
      await init({ threads: 2 });
      new nn.Linear(4, 2).forward(ones([1, 4])).sum().backward();
      try { (0, eval)('1'); } catch { console.log('refused'); }
      ${WORK}
      await shutdown();`;
    expect(run('policy.js', source, ['--disallow-code-generation-from-strings'])).toBe('refused\n1024\nworkers 0');
  });

  it('run, in one file and in several', async () => {
    const source = `import { init, ones, shutdown } from 'feathermap';
      ${WATCH_WORKERS}
      await init({ threads: 2 });
      ${WORK}
      await shutdown();`;
    for (const options of [{}, { minify: true }, { splitting: true, minify: true }]) {
      const files = await bundle(source, { ...options, entryNames: 'main' });
      rmSync(join(project, 'bundle'), { recursive: true, force: true });
      mkdirSync(join(project, 'bundle'));
      for (const [path, code] of files) writeFileSync(path, code);
      expect(run('bundle/main.js')).toBe('1024\nworkers 0');
    }
  });

  it.each(['browser', 'node'] as const)('for %s leave out what is not used; 76 kB at most', async (platform) => {
    const code = async (source: string): Promise<string> => {
      const files = await bundle(source, { splitting: true, minify: true, platform });
      // The kernels are chunks of their own, downloaded one at a time.
      return [...files]
        .filter(([path]) => !/(simd|relaxed)/.test(path))
        .map(([, code]) => code)
        .join('');
    };
    const relu = await code("export { relu } from 'feathermap/functional';");
    const functions = await code("export * from 'feathermap/functional';");
    const whole = await code("export * from 'feathermap';");
    expect(relu.length).toBeLessThan(0.62 * functions.length);
    expect(functions.length).toBeLessThan(whole.length);
    expect(gzipSync(whole).length).toBeLessThan(76_000);
  });

  it('download kernels of 60 kB at most', () => {
    for (const build of ['simd', 'relaxed', 'simd-mt', 'relaxed-mt'])
      expect(gzipSync(readFileSync(join(root, `dist/wasm/${build}.wasm`))).length).toBeLessThan(60_000);
  });
});
