// The programs of README.md, run as they stand against the built package. Needs `npm run build`; `npm test` does that first.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const text = readFileSync(resolve(root, 'README.md'), 'utf8');
const programs = [...text.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(([, code]) => code!);

test('there are some', () => {
  expect(programs.length).toBeGreaterThan(2);
});

test.each(programs)('program %# runs', (code) => {
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', code], { cwd: root, encoding: 'utf8' });
  expect(printed).not.toMatch(/NaN|undefined|null/);
});
