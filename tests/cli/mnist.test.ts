// The built program as people start it. Needs `npm run build`; `npm test` does that first.
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { parseSafetensors } from '../../ts/exchange/safetensors-format.ts';

const program = 'dist/cli/mnist.js';
const root = mkdtempSync(join(tmpdir(), 'feathermap-cli-'));
const data = join(root, 'data');

beforeAll(() => {
  if (!existsSync(program)) throw new Error(`${program} is missing: run \`npm run build\` first`);
  mkdirSync(data);
  for (const [part, count] of [
    ['train', 64],
    ['t10k', 20],
  ] as const)
    writeBars(part, count);
});

/** Bright horizontal bars whose height tells the class: as easy as a data set can be. */
function writeBars(part: string, count: number): void {
  const images = new Uint8Array(16 + count * 784);
  images.set([0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28]);
  const labels = new Uint8Array(8 + count);
  labels.set([0, 0, 8, 1, 0, 0, 0, count]);
  for (let i = 0; i < count; i++) {
    labels[8 + i] = i % 10;
    images.fill(255, 16 + i * 784 + (i % 10) * 56, 16 + i * 784 + (i % 10) * 56 + 56);
  }
  writeFileSync(join(data, `${part}-images-idx3-ubyte`), images);
  writeFileSync(join(data, `${part}-labels-idx1-ubyte`), labels);
}

function run(...args: string[]): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [program, ...args], { encoding: 'utf8' });
}

const line = /^epoch \d+, loss \d+\.\d{4}, train acc [01]\.\d{3}, test acc [01]\.\d{3}, time \d+\.\d sec$/;

describe('npm run mnist', () => {
  test('prints a line per epoch and leaves weights, curve and confusion matrix', () => {
    const out = join(root, 'out');
    const args = '--variant relu --epochs 3 --batch-size 24 --threads 1 --seed 4'.split(' ');
    const { stdout, stderr, status } = run(...args, '--data', data, '--out', out);
    expect([stderr, status]).toEqual(['', 0]);
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(4);
    for (const epoch of lines.slice(0, 3)) expect(epoch).toMatch(line);
    expect(lines[3]).toBe(`wrote weights.safetensors, curve.svg, confusion.svg to ${out}`);
    const { metadata, entries } = parseSafetensors(readFileSync(join(out, 'weights.safetensors')));
    expect(metadata).toEqual({ model: 'lenet', variant: 'relu', dataset: 'mnist', epochs: '3', seed: '4' });
    const parameters = [...entries.values()].reduce((sum, { bytes }) => sum + bytes.length / 4, 0);
    expect(parameters).toBe(61_706);
    expect(readFileSync(join(out, 'curve.svg'), 'utf8')).toContain('LeNet (relu) on mnist');
    expect(readFileSync(join(out, 'confusion.svg'), 'utf8')).toContain('accuracy');
  });

  test('the seed decides the weights, the number of threads does not', () => {
    const weights = (seed: number, threads: number): Buffer => {
      const out = join(root, `seed-${seed}-${threads}`);
      const { stderr } = run(
        '--epochs',
        '1',
        '--seed',
        String(seed),
        '--threads',
        String(threads),
        '--data',
        data,
        '--out',
        out,
      );
      expect(stderr).toBe('');
      return readFileSync(join(out, 'weights.safetensors'));
    };
    const first = weights(1, 1);
    expect(weights(1, 2).equals(first)).toBe(true);
    expect(weights(2, 1).equals(first)).toBe(false);
  });

  test.each([
    ['--optimiser sgd', 2, "Unknown option '--optimiser' (--help lists the options)\n"],
    ['--epochs none', 2, "--epochs must be a whole number from 1 to 100000, got 'none' (--help lists the options)\n"],
    ['--data /nowhere', 1, /^mnist: cannot read the folder \/nowhere: .*\n$/],
  ])('%s', (args, code, message) => {
    const { stdout, stderr, status } = run(...args.split(' '));
    expect([stdout, status]).toEqual(['', code]);
    expect(stderr).toMatch(message);
  });

  test('--help', () => {
    const { stdout, status } = run('--help');
    expect(status).toBe(0);
    expect(stdout).toContain('--variant sigmoid|relu');
  });
});
