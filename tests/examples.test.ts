// Runs every `@example` of the sources, and the programs in examples/, against the built package.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';

const FOLDER = resolve('build/examples');

interface Example {
  name: string;
  code: string;
}

/** The code of all `@example` blocks of a file, named by the line they stand in. */
function examplesOf(file: string): Example[] {
  const text = readFileSync(file, 'utf8');
  return [...text.matchAll(/@example\s*\n\s*\* ```ts\n([\s\S]*?)\* ```/g)].map((match) => ({
    name: `${file}:${text.slice(0, match.index).split('\n').length}`,
    code: match[1]!.replace(/^\s*\* ?/gm, ''),
  }));
}

function sources(): string[] {
  return readdirSync('ts', { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.includes('generated'))
    .map((name) => join('ts', name))
    .sort();
}

/** All examples run in one process, one after the other, each with an engine of its own. */
const DRIVER = `
import { shutdown } from 'feathermap';
const results = {};
for (const file of process.argv.slice(2)) {
  try {
    await import(file);
    results[file] = '';
  } catch (error) {
    results[file] = String(error?.stack ?? error);
  }
  await shutdown();
}
console.log('\\nRESULTS' + JSON.stringify(results));
`;

const examples = sources().flatMap(examplesOf);
rmSync(FOLDER, { recursive: true, force: true });
mkdirSync(FOLDER, { recursive: true });
examples.forEach(({ code }, i) => {
  writeFileSync(join(FOLDER, `${i}.mjs`), code);
});
writeFileSync(join(FOLDER, 'driver.mjs'), DRIVER);
const files = examples.map((_, i) => join(FOLDER, `${i}.mjs`));
const { stdout, stderr } = spawnSync(process.execPath, [join(FOLDER, 'driver.mjs'), ...files], { encoding: 'utf8' });
const results: Record<string, string> = JSON.parse(stdout.split('RESULTS')[1] ?? '{}');

it('finds examples and runs them to the end', () => {
  expect(examples.length).toBeGreaterThan(50);
  expect(Object.keys(results).length, stderr).toBe(examples.length);
});

examples.forEach(({ name }, i) => {
  it(`example in ${name}`, () => {
    expect(results[files[i]!]).toBe('');
  });
});
