// What V8 makes of the hot loops: as many multiply-adds as were written, every sum in a register, no constant built again and again.
// A compiler upgrade can take any of these away, and with them half the speed, while all results stay right.
//
// Node prints the code it generates. Node 24 is asked about the relaxed build, Node 20 about the plain one, others are not asked.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';

/** What counts in a loop. */
interface Loop {
  /** Where it begins in the code of its function. */
  start: number;
  /** Products: fused multiply-adds, or multiplications in the plain build. */
  products: number;
  /** Those on 256-bit registers. */
  wide: number;
  /** Vectors stored to or loaded from the stack. */
  spills: number;
  /** Instructions that build a vector constant. */
  constants: number;
  instructions: number;
}

interface Instruction {
  at: number;
  text: string;
}

const COMPILE = "new WebAssembly.Module(require('node:fs').readFileSync(process.argv[1]))";
const FLAGS = ['--no-liftoff', '--no-wasm-lazy-compilation', '--single-threaded', '--print-wasm-code'];

/** The printed code of every function of a build, by its name in AssemblyScript without the folder. */
function functionsOf(build: string, ...flags: string[]): Map<string, string> {
  const text = readFileSync(`build/${build}.wat`, 'utf8');
  const imports = text.match(/^ \(import .*\(func/gm)?.length ?? 0;
  const names = [...text.matchAll(/^ \(func \$(\S+)/gm)].map(([, name]) => name!.replace('assembly/', ''));
  const command = [...FLAGS, ...flags, '-e', COMPILE, `build/${build}.wasm`];
  const { stdout } = spawnSync(process.execPath, command, { encoding: 'latin1', maxBuffer: 2 ** 30 });
  const functions = new Map<string, string>();
  for (const code of stdout.split('--- WebAssembly code ---')) {
    const index = /^index: (\d+)$/m.exec(code)?.[1];
    const name = names[Number(index) - imports];
    if (name) functions.set(name, code);
  }
  return functions;
}

function instructionsOf(code: string): Instruction[] {
  const lines = code.matchAll(/^0x[\da-f]+ +([\da-f]+) +[\da-f]+ +(\S.*)$/gm);
  return [...lines].map(([, at, text]) => ({ at: Number.parseInt(at!, 16), text: text! }));
}

/** From the targets of backward jumps to the jumps. */
function loopsOf(instructions: readonly Instruction[]): Loop[] {
  const loops: Loop[] = [];
  for (const { at: end, text } of instructions) {
    const start = Number.parseInt(/^j\w+ .*<\+0x([\da-f]+)>/.exec(text)?.[1] ?? '', 16);
    if (!(start < end)) continue;
    const body = instructions.filter(({ at }) => start <= at && at <= end);
    const count = (pattern: RegExp): number => body.filter((instruction) => pattern.test(instruction.text)).length;
    loops.push({
      start,
      products: count(/^vfmadd\d+ps|^v?mulps/),
      wide: count(/^(vfmadd\d+ps|vmulps) ymm/),
      spills: count(/[xy]mm\d+,\[r[bs]p|\[r[bs]p[^\]]*\],[xy]mm/),
      constants: count(/^v?punpcklqdq/),
      instructions: body.length,
    });
  }
  return loops;
}

/** Loads of single bytes, of which nothing is made. */
function bytesTouched(functions: ReadonlyMap<string, string>): number {
  const code = functions.get('gemm/touch');
  expect(code, 'no code of gemm/touch was printed').toBeDefined();
  const count = instructionsOf(code!).filter(({ text }) => /^movzxbl /.test(text)).length;
  expect(count).toBeGreaterThan(0);
  return count;
}

/**
 * The loop of a function with the most products per instruction: the one that the time is spent in. Where it may go round early, in front
 * of its last products, as long as it goes on.
 */
function hotLoop(functions: ReadonlyMap<string, string>, name: string): Loop {
  const code = functions.get(name);
  expect(code, `no code of ${name} was printed`).toBeDefined();
  const density = ({ products, instructions }: Loop): number => products / instructions;
  const [densest, ...others] = loopsOf(instructionsOf(code!)).sort((a, b) => density(b) - density(a));
  const longer = others.filter((loop) => loop.start === densest!.start && density(loop) > 0.95 * density(densest!));
  return [densest!, ...longer].sort((a, b) => b.products - a.products)[0]!;
}

const kernel = (name: string): string => `generated/micro-kernels/${name}`;
const strip = (name: string): string => `generated/depthwise-strips/${name}`;
const sums = (name: string): string => `generated/depthwise-sums/${name}`;
const winograd = (name: string): string => `generated/winograd-transforms/${name}`;

/** Functions with the products of their loops: rows x vectors x steps, taps x columns, or what a transform has. */
type Expected = readonly (readonly [name: string, products: number])[];

const relaxed: Expected = [
  [kernel('rows6'), 6 * 2 * 8],
  [kernel('rows5'), 5 * 2 * 8],
  [kernel('rows4'), 4 * 2 * 8],
  [kernel('rows3Fused'), 3 * 2 * 8],
  [kernel('rows2'), 2 * 2 * 8],
  [kernel('rows1'), 2 * 8],
  [kernel('row1x24'), 6 * 4],
  [kernel('row1x32'), 8 * 4],
  [kernel('outer6'), 6 * 2 * 4],
  [kernel('outer5'), 5 * 2 * 4],
  [strip('taps3Stride1Width8'), 3 * 8],
  [strip('taps3Stride2Width4Pair'), 3 * 4 * 2],
  [strip('taps5Stride1Width8'), 5 * 8],
  [sums('adjacent5x2'), 5 * 2],
  [winograd('columnsOfInput6'), 20],
  [winograd('rowsOfInput6'), 20],
  [winograd('columnsOfOutput6to4'), 12],
];

/** The same loops in 256-bit mode: half as many, each twice as wide. */
const paired: Expected = [
  [kernel('wide6'), (6 * 4 * 4) / 2],
  [kernel('wide5'), (5 * 4 * 4) / 2],
  [kernel('wide4'), (4 * 4 * 4) / 2],
  [kernel('wide3'), (3 * 4 * 4) / 2],
  [kernel('wide2'), (2 * 4 * 4) / 2],
  [kernel('wide1'), (4 * 4) / 2],
  [kernel('rows6'), (6 * 2 * 8) / 2],
  [kernel('outer6'), (6 * 2 * 4) / 2],
  [kernel('wideOuter6'), (6 * 4 * 2) / 2],
  [kernel('wideOuter5'), (5 * 4 * 2) / 2],
  [kernel('row1x32'), (8 * 4) / 2],
  [strip('taps3Stride1Width4Pair'), 3 * 4],
  [strip('taps3Stride2Width4Pair'), 3 * 4],
  [winograd('columnsOfInput6'), 10],
  [winograd('rowsOfInput6'), 10],
  [winograd('columnsOfOutput6to4'), 6],
  [winograd('rowOfOutput6to4'), 6],
];

/** Without fused multiply-add a product needs a register of its own: strips are five rows high. */
const plain: Expected = [
  [kernel('rows5'), 5 * 2 * 8],
  [kernel('rows4'), 4 * 2 * 8],
  [kernel('rows3'), 3 * 2 * 8],
  [kernel('rows2'), 2 * 2 * 8],
  [kernel('rows1'), 2 * 8],
  [kernel('row1x24'), 6 * 4],
  [kernel('row1x32'), 8 * 4],
  [kernel('outer5'), 5 * 2 * 4],
  [kernel('outer4'), 4 * 2 * 4],
  [strip('taps3Stride1Width8'), 3 * 8],
];

const version = Number.parseInt(process.versions.node, 10);
const onX64 = process.arch === 'x64';

describe.runIf(onX64 && version === 24)('relaxed build', () => {
  let functions: Map<string, string>;
  beforeAll(() => {
    functions = functionsOf('relaxed');
  });
  test.each(relaxed)('%s: %i products', (name, products) => {
    expect(hotLoop(functions, name)).toMatchObject({ products, wide: 0, spills: 0, constants: 0 });
  });
  test('touch: its 4 loads are there', () => expect(bytesTouched(functions) % 4).toBe(0));
});

describe.runIf(onX64 && version === 24)('256-bit mode', () => {
  let functions: Map<string, string>;
  beforeAll(() => {
    functions = functionsOf('relaxed', '--experimental-wasm-revectorize');
  });
  test.each(paired)('%s: %i products', (name, products) => {
    expect(hotLoop(functions, name)).toMatchObject({ products, wide: products, spills: 0, constants: 0 });
  });
});

describe.runIf(onX64 && version === 20)('plain build', () => {
  let functions: Map<string, string>;
  beforeAll(() => {
    functions = functionsOf('simd');
  });
  test.each(plain)('%s: %i products', (name, products) => {
    expect(hotLoop(functions, name)).toMatchObject({ products, spills: 0, constants: 0 });
  });
  test('touch: its 4 loads are there', () => expect(bytesTouched(functions) % 4).toBe(0));
});
