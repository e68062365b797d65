// What the package exports: each function is documented with an example (tests/examples.test.ts runs them), each class described,
// and each error that has a name of its own can be caught by it.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import * as data from '../ts/data/index.ts';
import * as safetensors from '../ts/exchange/safetensors.ts';
import * as functional from '../ts/functional.ts';
import * as feathermap from '../ts/index.ts';
import * as models from '../ts/models/index.ts';
import * as train from '../ts/train/index.ts';
import * as viz from '../ts/viz/index.ts';

const { nn, optim } = feathermap;
const ENTRIES: Record<string, object> = {
  feathermap,
  functional,
  models,
  data,
  train,
  safetensors,
  viz,
  nn,
  'nn.init': nn.init,
  'nn.utils': nn.utils,
  optim,
};
const names = new Map(Object.values(ENTRIES).flatMap((entry) => Object.entries(entry)));

const sources = readdirSync('ts', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.includes('generated'))
  .map((file) => readFileSync(join('ts', file), 'utf8'));

/** The comments in front of all declarations of a name, empty where there is none. */
function documentation(name: string): string[] {
  const declaration = new RegExp(`^export (?:abstract )?(?:async )?(?:function\\*?|const|class) ${name}\\b`, 'm');
  return sources.flatMap((text) => {
    const at = text.search(declaration);
    if (at < 0) return [];
    const before = text.slice(0, at).trimEnd();
    return [before.endsWith('*/') ? before.slice(before.lastIndexOf('/**')) : ''];
  });
}

const isClass = (value: unknown): boolean => typeof value === 'function' && /^class\b/.test(String(value));
const isError = (value: unknown): boolean => isClass(value) && (value as typeof Error).prototype instanceof Error;

test.each(Object.entries(ENTRIES))('%s: every function has an example, every class a description', (_, entry) => {
  const without = Object.entries(entry)
    .filter(([, value]) => typeof value === 'function')
    .filter(([name, value]) => {
      const wanted = isClass(value) ? '/**' : '@example';
      return !documentation(name).some((comment) => comment.includes(wanted));
    });
  expect(without.map(([name]) => name)).toEqual([]);
});

test('every error with a name of its own is exported, described, and says its name', () => {
  const declared = sources.flatMap((text) =>
    [...text.matchAll(/^export class (\w+Error)\b/gm)].map(([, name]) => name!),
  );
  expect(declared).toContain('MemoryLimitError');
  // The command line catches its own.
  for (const name of declared.filter((one) => one !== 'UsageError')) {
    const error = names.get(name) as new (message: string, offset: number) => Error;
    expect(isError(error), `${name} is not exported`).toBe(true);
    expect(new error('what', 0).name).toBe(name);
    expect(documentation(name)[0]).toMatch(/^\/\*\* \w/);
  }
});
