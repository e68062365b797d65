// Writes assembly/generated/micro-kernels.ts: the innermost loops of every matrix product, one function per tile shape.
//
// A micro-kernel keeps a tile of C in registers while it walks k: per step it loads eight floats of a B panel, broadcasts one
// float of each row of A and multiplies. V8 has 15 vector registers on x64, so the tallest tile is 6 x 8: 12 accumulators, 2 for
// B, 1 for the broadcast. asc never unrolls, hence a generator: the loop takes eight steps of k at a time, with all offsets
// immediate. Rows of A are addressed by one pointer each (a packed A would cost an address computation per broadcast).
//
// Every step ends with a test that leaves the loop. The tests spare a second loop for the rest of k, and they keep the code in the
// order written here: V8 11 moves arithmetic to the end of a basic block and loads to its beginning, and without a block border
// after each step it spills half the accumulators (mul + add, Zen 4: 50 % of the peak, with borders 80 %). Tall strips need two more
// borders inside a step, tests that are never true. Numbers of a 120 x 64 x 256 product on Zen 4, in percent of the peak: 6 x 8 with
// fused multiply-add 97; mul + add 4 x 8 79, 5 x 8 85, 6 x 8 49 (one accumulator spills).
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Steps of k per turn of the loop: over one panel, over two, over the four of a lone row; pixels of an outer product with one panel's columns, with two. */
const UNROLL = 8;
const PAIR_UNROLL = 4;
const WIDE_UNROLL = 4;
const OUTER_UNROLL = 4;
const PAIR_OUTER_UNROLL = 2;
const TALLEST = 6;
/**
 * Independent sums per element. A multiply-add takes four cycles and two start per cycle, so eight accumulators keep it busy; an
 * addition takes three. Without fused multiply-add a product needs a register, and twelve accumulators are too many.
 */
const CHAINS = { 1: 4, 2: 2, 3: 1, 4: 1, 5: 1, 6: 1 };
const CHAINS_FUSED = { ...CHAINS, 3: 2 };

/** Parameters of a micro-kernel over one or two panels. */
function parametersOf(panels) {
  return panels === 1
    ? 'runs: i32, k: i32, jump: usize, a: usize, lda: usize, b: usize, init: usize, ldi: usize, c: usize, ldc: usize, columns: i32, lo: f32, hi: f32,'
    : 'runs: i32, k: i32, jump: usize, a: usize, lda: usize, b: usize, size: usize, init: usize, ldi: usize, step: usize, c: usize, ldc: usize, columns: i32, lo: f32, hi: f32,';
}

const range = (count) => [...Array(count).keys()];
const lines = (items) =>
  items
    .flat(9)
    .filter(Boolean)
    .map((line) => `  ${line}`)
    .join('\n');
const indent = (items) =>
  items
    .flat(9)
    .filter(Boolean)
    .map((line) => `  ${line}`);

/** One step of k, with its inner borders: `u` counts inside the unrolled body; it picks the chain and the immediate offsets. */
function step(rows, panels, chains, u) {
  const quarters = range(2 * panels);
  const sum = (row, quarter) => `c${row}${quarter}${'xyzw'[u % chains]}`;
  const inner = panels === 1 && rows > 4;
  return [
    quarters.map((q) => `b${q} = v128.load(${q < 2 ? 'b' : 'second'}, ${32 * u + 16 * (q & 1)});`),
    range(rows).map((row) => [
      `s = v128.load32_splat(a${row}, ${4 * u});`,
      quarters.map((q) => `${sum(row, q)} = madd(s, b${q}, ${sum(row, q)});`),
      inner && (row === 1 || row === 3) ? `if (left == ${-1 - 2 * u - (row >> 1)}) break;` : '',
    ]),
  ];
}

function advance(rows, panels, steps) {
  return [
    `b += ${32 * steps};`,
    panels > 1 ? `second += ${32 * steps};` : '',
    range(rows).map((row) => `a${row} += ${4 * steps};`),
    `left -= ${steps};`,
  ];
}

/** Sums the chains of one accumulator into the first. */
function joined(name, chains) {
  if (chains === 2) return `${name}x = f32x4.add(${name}x, ${name}y);`;
  if (chains === 4) return `${name}x = f32x4.add(f32x4.add(${name}x, ${name}y), f32x4.add(${name}z, ${name}w));`;
  return '';
}

/** Clamps and stores the columns of a lone panel: all eight of every row, or the first few. */
function storeOne(rows) {
  const value = (row, half) => `clamp(c${row}${half}x, low, high)`;
  const nextRow = (row) => (row ? 'c += ldc;' : '');
  return [
    'if (columns >= 8) {',
    indent(
      range(rows).map((row) => [
        nextRow(row),
        range(2).map((half) => `v128.store(c, ${value(row, half)}, ${16 * half});`),
      ]),
    ),
    '} else {',
    indent(range(rows).map((row) => [nextRow(row), `storeRow(c, ${value(row, 0)}, ${value(row, 1)}, columns);`])),
    '}',
  ];
}

/** The same for two panels, of which the first is whole. The rest of the second is rare: a call keeps the code small. */
function storePair(rows) {
  const store = (row, quarter) => `v128.store(at, clamp(c${row}${quarter}x, low, high), ${16 * quarter});`;
  const eachRow = (make) => range(rows).map((row) => [row ? 'at += ldc;' : 'at = c;', make(row)]);
  return [
    eachRow((row) => [0, 1].map((quarter) => store(row, quarter))),
    'if (columns == 16) {',
    indent(eachRow((row) => [2, 3].map((quarter) => store(row, quarter)))),
    '} else {',
    indent(
      eachRow((row) => `storeRest(at + 32, clamp(c${row}2x, low, high), clamp(c${row}3x, low, high), columns - 8);`),
    ),
    '}',
  ];
}

function tall(rows, panels, chains, name) {
  const unroll = panels > 1 ? PAIR_UNROLL : UNROLL;
  const extra = range(chains).slice(1);
  const accumulators = (make) => range(rows).flatMap((row) => range(2 * panels).map((quarter) => make(row, quarter)));
  return `
/** ${rows} rows x ${8 * panels} columns. */
function ${name}(
  ${parametersOf(panels)}
): void {
${lines([
  range(rows).map((row) => `let a${row} = ${row ? `a${row - 1} + lda` : 'a'};`),
  range(panels).map((panel) => [
    panel ? ['let second = b + size;', 'init += step;'] : '',
    `let from${panel} = init;`,
    range(rows).map((row) => [
      row ? `from${panel} += ldi;` : '',
      range(2).map((half) => `let c${row}${2 * panel + half}x = v128.load(from${panel}, ${16 * half});`),
    ]),
  ]),
  unroll < UNROLL ? `jump -= <usize>((k & ${UNROLL - unroll}) << 2);` : '',
  extra.length ? 'const zero = i32x4.splat(0);' : '',
  extra.map((chain) => accumulators((row, quarter) => `let c${row}${quarter}${'xyzw'[chain]} = zero;`)),
  `let ${range(2 * panels)
    .map((q) => `b${q}: v128, `)
    .join('')}s: v128${panels > 1 ? ', at: usize' : ''};`,
  'do {',
  indent([
    'let left = k;',
    'while (left > 0) {',
    indent([
      range(unroll).map((u) => [step(rows, panels, chains, u), u < unroll - 1 ? `if (left == ${u + 1}) break;` : '']),
      advance(rows, panels, unroll),
    ]),
    '}',
    'if (--runs <= 0) break;',
    'b += <usize>left << 5;',
    panels > 1 ? 'second += <usize>left << 5;' : '',
    range(rows).map((row) => `a${row} += jump;`),
  ]),
  '} while (true);',
  accumulators((row, quarter) => joined(`c${row}${quarter}`, chains)),
  'const low = f32x4.splat(lo);',
  'const high = f32x4.splat(hi);',
  panels > 1 ? storePair(rows) : storeOne(rows),
])}
}
`;
}

/** One row times several neighbouring panels: a row has two chains only, so a lone panel would wait for every sum. */
function wide(panels) {
  const chains = range(panels);
  const value = (p, half) => `clamp(c${p}${half}, low, high)`;
  const storePanel = (p) => range(2).map((half) => `v128.store(c, ${value(p, half)}, ${32 * p + 16 * half});`);
  return `
/** 1 row x ${8 * panels} columns: ${panels} panels, \`ldb\` bytes apart; \`init\` steps from one panel's columns to the next by \`ldi\`. All panels but the last are stored whole. */
export function row1x${8 * panels}(
  k: i32, a: usize, b: usize, ldb: usize, init: usize, ldi: usize, c: usize, columns: i32, lo: f32, hi: f32,
): void {
${lines([
  chains.map((p) => [
    p ? `init += ldi;` : '',
    range(2).map((half) => `let c${p}${half} = v128.load(init, ${16 * half});`),
    `let b${p} = ${p ? `b${p - 1} + ldb` : 'b'};`,
  ]),
  'let s: v128;',
  'while (k > 0) {',
  indent([
    range(WIDE_UNROLL).map((u) => [
      `s = v128.load32_splat(a, ${4 * u});`,
      chains.map((p) => [
        range(2).map((half) => `c${p}${half} = madd(s, v128.load(b${p}, ${32 * u + 16 * half}), c${p}${half});`),
        p === 1 ? `if (k == ${-1 - u}) break;` : '',
      ]),
      u < WIDE_UNROLL - 1 ? `if (k == ${u + 1}) break;` : '',
    ]),
    `a += ${4 * WIDE_UNROLL};`,
    chains.map((p) => `b${p} += ${32 * WIDE_UNROLL};`),
    `k -= ${WIDE_UNROLL};`,
  ]),
  '}',
  'const low = f32x4.splat(lo);',
  'const high = f32x4.splat(hi);',
  chains.slice(0, -1).map((p) => storePanel(p)),
  `if (columns >= ${8 * panels}) {`,
  indent(storePanel(panels - 1)),
  '} else {',
  indent([
    `storeRest(c + ${32 * (panels - 1)}, ${[0, 1].map((half) => value(panels - 1, half)).join(', ')}, columns - ${8 * (panels - 1)});`,
  ]),
  '}',
])}
}
`;
}

/** One pixel of an outer product; its borders serve as in `step`. */
function outerStep(rows, quarters, u) {
  const inner = quarters === 2 && rows > 4;
  return [
    range(quarters).map((q) => `b${q} = v128.load(b, ${16 * q});`),
    range(rows).map((row) => [
      `s = v128.load32_splat(a, ${4 * row});`,
      range(quarters).map((q) => `c${row}${q} = madd(s, b${q}, c${row}${q});`),
      inner && (row === 1 || row === 3) ? `if (left == ${-1 - 2 * u - (row >> 1)}) break;` : '',
    ]),
    'a += lda;',
    'b += ldb;',
  ];
}

const OUTER_PARAMETERS =
  'runs: i32, m: i32, a: usize, lda: usize, jumpA: usize, b: usize, ldb: usize, jumpB: usize, c: usize, ldc: usize,';

/** Sum of outer products, for weight gradients: both operands advance by pixels, nothing is transposed. */
function outer(rows, columns, name) {
  const quarters = columns / 4;
  const unroll = columns > 8 ? PAIR_OUTER_UNROLL : OUTER_UNROLL;
  const accumulators = (make) =>
    range(rows).map((row) => [row ? 'at += ldc;' : 'at = c;', range(quarters).map((q) => make(row, q))]);
  return `
/** ${rows} k x ${columns} output channels. */
function ${name}(
  ${OUTER_PARAMETERS}
): void {
${lines([
  'let at: usize;',
  accumulators((row, q) => `let c${row}${q} = v128.load(at, ${16 * q});`),
  `let ${range(quarters)
    .map((q) => `b${q}: v128, `)
    .join('')}s: v128;`,
  'do {',
  indent([
    'let left = m;',
    'while (left > 0) {',
    indent([
      range(unroll).map((u) => [outerStep(rows, quarters, u), u < unroll - 1 ? `if (left == ${u + 1}) break;` : '']),
      `left -= ${unroll};`,
    ]),
    '}',
    'a += jumpA;',
    'b += jumpB;',
  ]),
  '} while (--runs > 0);',
  accumulators((row, q) => `v128.store(at, c${row}${q}, ${16 * q});`),
])}
}
`;
}

/** The function that picks the kernel of a height. */
function outerDispatch(name, kernel, heights, comment) {
  const cases = heights.map(
    (height) => `    case ${height - 1}: ${kernel}${height}(runs, m, a, lda, jumpA, b, ldb, jumpB, c, ldc); break;`,
  );
  return `
${comment}
export function ${name}(
  rows: i32,
  ${OUTER_PARAMETERS}
): void {
  switch (rows - 1) {\n${cases.join('\n')}\n  }\n}\n`;
}

const OUTER_COMMENT = `/**
 * C[k, 0..7] += sum of a[k] * b[0..7] over \`runs\` (at least 1) runs of m pixels, for 1 to ${TALLEST} neighbouring k. a and b advance by
 * \`lda\` and \`ldb\` bytes per pixel, and by \`jumpA\` and \`jumpB\` more at the end of a run.
 */`;
const HEIGHTS = range(TALLEST).map((i) => i + 1);
/** Lower ones are met at the ends of small weights only. */
const WIDE_OUTER_HEIGHTS = HEIGHTS.slice(3);
const WIDE_OUTER_COMMENT =
  '/** The same for sixteen columns and 4 to 6 neighbouring k: for engines that pair vectors. */';

const HEADER = `// Generated by assembly/build/micro-kernels.mjs.
//
//   tile of C = clamp(init + A rows x B panel, lo, hi)
//
// a: first row, the others \`lda\` bytes apart. A row is \`runs\` (at least 1) runs of k floats; \`jump\` bytes lead from one run to the
//    next, less the bytes of the whole groups of ${UNROLL} steps in a run (\`runJump\`).
// b: panel, [runs * k][8].
// init: eight floats per row, \`ldi\` bytes apart (0: the same eight for all rows, a bias; else an earlier partial C).
// c: first row, the others \`ldc\` bytes apart; \`columns\` of its eight columns are stored.
import { clamp, madd, storeLanes } from '../vector';

/** What the kernels take as \`jump\` for runs of k floats that begin \`distance\` bytes apart. */
// @ts-ignore: decorator
@inline
export function runJump(k: i32, distance: usize): usize {
  return distance - <usize>((k & ${-UNROLL}) << 2);
}

// @ts-ignore: decorator
@inline
function storeRow(c: usize, left: v128, right: v128, columns: i32): void {
  storeLanes(c, left, columns);
  if (columns > 4) storeLanes(c + 16, right, columns - 4);
}

function storeRest(c: usize, left: v128, right: v128, columns: i32): void {
  storeRow(c, left, right, columns);
}
`;

const isSplit = (rows) => CHAINS[rows] !== CHAINS_FUSED[rows];

/** The kernels of one height: one for both builds, or one each. */
function height(rows) {
  const plain = tall(rows, 1, CHAINS[rows], `rows${rows}`);
  return isSplit(rows) ? plain + tall(rows, 1, CHAINS_FUSED[rows], `rows${rows}Fused`) : plain;
}

function dispatch() {
  const parameters = '(runs, k, jump, a, lda, b, init, ldi, c, ldc, columns, lo, hi)';
  const call = (rows) =>
    isSplit(rows)
      ? `if (ASC_FEATURE_RELAXED_SIMD) rows${rows}Fused${parameters};\n      else rows${rows}${parameters};\n      `
      : `rows${rows}${parameters}; `;
  const cases = range(TALLEST).map((i) => `    case ${i}: ${call(i + 1)}break;`);
  return `
/** The micro-kernel for 1 to ${TALLEST} rows. */
export function multiplyStrip(
  rows: i32,
  ${parametersOf(1)}
): void {
  switch (rows - 1) {\n${cases.join('\n')}\n  }\n}\n`;
}

function wideDispatch() {
  const cases = range(TALLEST).map(
    (i) =>
      `    case ${i}: wide${i + 1}(runs, k, jump, a, lda, b, size, init, ldi, step, c, ldc, columns, lo, hi); break;`,
  );
  return `
/**
 * The same over two panels, \`size\` bytes apart, of whose sixteen columns nine or more are stored; \`step\` leads from one panel's
 * \`init\` to the other's. The sums are those of \`multiplyStrip\`, in the same order: for engines that pair vectors.
 */
export function multiplyWideStrip(
  rows: i32,
  ${parametersOf(2)}
): void {
  switch (rows - 1) {\n${cases.join('\n')}\n  }\n}\n`;
}

/** Writes the generated file. */
export function generateMicroKernels(root) {
  const folder = join(root, 'assembly/generated');
  mkdirSync(folder, { recursive: true });
  const text = [
    HEADER,
    ...range(TALLEST).map((i) => height(i + 1)),
    wide(3),
    wide(4),
    dispatch(),
    ...range(TALLEST).map((i) => tall(i + 1, 2, CHAINS_FUSED[i + 1], `wide${i + 1}`)),
    wideDispatch(),
    ...HEIGHTS.map((height) => outer(height, 8, `outer${height}`)),
    outerDispatch('multiplyOuter', 'outer', HEIGHTS, OUTER_COMMENT),
    ...WIDE_OUTER_HEIGHTS.map((height) => outer(height, 16, `wideOuter${height}`)),
    outerDispatch('multiplyWideOuter', 'wideOuter', WIDE_OUTER_HEIGHTS, WIDE_OUTER_COMMENT),
  ].join('');
  writeFileSync(join(folder, 'micro-kernels.ts'), text);
}
