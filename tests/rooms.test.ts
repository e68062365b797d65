// Imports point one way: inside ts/ a room may use the rooms before it and never those behind, and no files need each other.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';

/** The rooms of ts/ in order; those of one line count as one. */
const ROOMS = [
  'generated runtime',
  'tensor',
  'ops',
  'autograd',
  'graph',
  'nn',
  'optim',
  'models',
  'data',
  'train',
  'exchange',
  'viz',
  'methods.ts functional.ts internal.ts',
  'index.ts',
  'cli',
];
const place = new Map(ROOMS.flatMap((names, i) => names.split(' ').map((name) => [name, i] as const)));

/** The files that each file of a folder imports, types included. */
function importsOf(folder: string): Map<string, string[]> {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.includes('__tests__'))
    .map((name) => join(folder, name));
  const found = files.map((file): [string, string[]] => {
    const lines = readFileSync(file, 'utf8').matchAll(/(?:from|^import|import\() ?["'](\.[^"']+)["']/gm);
    return [file, [...lines].map(([, name]) => join(dirname(file), name!.endsWith('.ts') ? name! : `${name}.ts`))];
  });
  return new Map(found);
}

/** The first way found from a file back to itself. */
function cycle(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const finished = new Set<string>();
  const path: string[] = [];
  function visit(file: string): string[] {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (finished.has(file)) return [];
    path.push(file);
    for (const next of graph.get(file) ?? []) {
      const found = visit(next);
      if (found.length) return found;
    }
    path.pop();
    finished.add(file);
    return [];
  }
  for (const file of graph.keys()) {
    const found = visit(file);
    if (found.length) return found;
  }
  return [];
}

describe.each(['ts', 'assembly'])('%s/', (folder) => {
  const graph = importsOf(folder);

  test('imports what is there', () => {
    expect([...graph.values()].flat().length).toBeGreaterThan(graph.size);
    expect([...graph.values()].flat().filter((file) => !graph.has(file))).toEqual([]);
  });

  test('has no files that need each other', () => {
    expect(cycle(graph)).toEqual([]);
  });
});

test('rooms of ts/ use only those before them', () => {
  const roomOf = (file: string): string => file.split('/')[1]!;
  for (const [file, names] of importsOf('ts')) {
    const mine = place.get(roomOf(file));
    expect(mine, `${file} is in no room`).toBeDefined();
    for (const name of names) expect(place.get(roomOf(name))!, `${file} imports ${name}`).toBeLessThanOrEqual(mine!);
  }
});

test('the search finds a cycle where there is one', () => {
  const graph = new Map([
    ['a', ['b']],
    ['b', ['c', 'd']],
    ['c', []],
    ['d', ['b']],
  ]);
  expect(cycle(graph)).toEqual(['b', 'd', 'b']);
});
