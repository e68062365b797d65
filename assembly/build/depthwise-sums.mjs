// Writes assembly/generated/depthwise-sums.ts: the weight gradient of a depthwise convolution for four channels, a few kernel rows and taps. Their
// sums stay in registers while rows of pixels pass by.
//
//   next to each other (stride 1): a column of x meets the gradients of all outputs that read it,
//     sum[r][s] += x[r][q] dy[q + left - s]
//   apart (any stride and dilation): an output meets all columns that it read,
//     sum[r][s] += dy[j] x[r][start + j step + s dilation]
//
// Products with a pixel or an output outside are left out; only the first and the last columns have to ask.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Kernel rows at most, by taps: what fits the registers. */
const ADJACENT = { 3: 3, 5: 2 };
const APART = { 1: 3, 2: 3, 3: 3 };

const range = (count) => [...Array(count).keys()];
const flatten = (items) => items.flat(9).filter(Boolean);
const lines = (items) =>
  flatten(items)
    .map((line) => `  ${line}`)
    .join('\n');
const indent = (items) => flatten(items).map((line) => `  ${line}`);

/** Loads or stores the sums. */
function sums(taps, rows, make) {
  return range(rows).map((r) => [
    r ? 'at += sumRow;' : 'at = sums;',
    range(taps).map((s) => make(`a${r}${s}`, 16 * s)),
  ]);
}

/** The function around a loop over pixel rows: sums are loaded, `body` runs per row, sums are stored. */
function accumulate(taps, rows, before, body) {
  return lines([
    'let at: usize;',
    sums(taps, rows, (name, offset) => `let ${name} = v128.load(at, ${offset});`),
    before,
    'let v: v128, w: v128;',
    'for (; lines > 0; lines--) {',
    indent([
      range(rows).map((r) => `let p${r} = ${r ? `p${r - 1} + kernelRow` : 'x'};`),
      body,
      'x += xLine;',
      'dy += dyLine;',
    ]),
    '}',
    sums(taps, rows, (name, offset) => `v128.store(at, ${name}, ${offset});`),
  ]);
}

function adjacent(taps, rows) {
  const products = (s) => range(rows).map((r) => `a${r}${s} = madd(x${r}, v, a${r}${s});`);
  const load = range(rows).map((r) => `const x${r} = v128.load(p${r});`);
  const advance = [range(rows).map((r) => `p${r} += pixel;`), 'd += dyPixel;', 'q++;'];
  return `
/** ${rows} kernel rows of ${taps} neighbouring taps, stride 1. */
function adjacent${taps}x${rows}(
  lines: i32, width: i32, outputs: i32, left: i32, x: usize, xLine: usize, kernelRow: usize, pixel: usize, dy: usize, dyLine: usize, dyPixel: usize,
  sums: usize, sumRow: usize,
): void {
${accumulate(
  taps,
  rows,
  [
    'const start = max(0, -left);',
    `const from = max(start, ${taps - 1} - left);`,
    'const to = min(width, outputs - left);',
    `const end = min(width, outputs + ${taps - 1} - left);`,
    'x += <usize>start * pixel;',
    'dy += <usize>(start + left) * dyPixel;',
  ],
  [
    'let d = dy;',
    'let q = start;',
    'while (q < end) {',
    indent([
      'if (q >= from && q < to) {',
      indent([
        'do {',
        indent([
          load,
          'let e = d;',
          range(taps).map((s) => [
            s ? 'e -= dyPixel;' : '',
            'v = v128.load(e);',
            products(s),
            `if (q == ${-1 - s}) break;`,
          ]),
          advance,
        ]),
        '} while (q < to);',
      ]),
      '} else {',
      indent([
        load,
        'let e = d;',
        'const j = q + left;',
        range(taps).map((s) => [
          s ? 'e -= dyPixel;' : '',
          `if (j >= ${s} && j < outputs + ${s}) {`,
          indent(['v = v128.load(e);', products(s)]),
          '}',
        ]),
        advance,
      ]),
      '}',
    ]),
    '}',
  ],
)}
}
`;
}

function apart(taps, rows) {
  const walk = (make) =>
    range(rows).map((r) => [`p = p${r};`, range(taps).map((s) => [s ? 'p += tap;' : '', make(r, s)])]);
  return `
/** ${rows} kernel rows of ${taps} taps at any distance. */
function apart${taps}x${rows}(
  lines: i32, width: i32, outputs: i32, start: i32, step: i32, dilation: i32, x: usize, xLine: usize, kernelRow: usize, xStep: usize, tap: usize,
  dy: usize, dyLine: usize, dyPixel: usize, sums: usize, sumRow: usize,
): void {
${accumulate(
  taps,
  rows,
  [`const last = width - ${taps - 1} * dilation;`, 'let p: usize;'],
  [
    'let d = dy;',
    'let j = 0;',
    'let column = start;',
    'while (j < outputs) {',
    indent([
      'v = v128.load(d);',
      'if (column >= 0 && column < last) {',
      indent([
        walk((r, s) => [
          'w = v128.load(p);',
          `a${r}${s} = madd(w, v, a${r}${s});`,
          s === taps - 1 && r < rows - 1 ? `if (j == ${-1 - r}) break;` : '',
        ]),
      ]),
      '} else {',
      indent(
        walk(
          (r, s) =>
            `if (column + ${s} * dilation >= 0 && column + ${s} * dilation < width) a${r}${s} = madd(v128.load(p), v, a${r}${s});`,
        ),
      ),
      '}',
      range(rows).map((r) => `p${r} += xStep;`),
      'd += dyPixel;',
      'column += step;',
      'j++;',
    ]),
    '}',
  ],
)}
}
`;
}

const kinds = (table) => Object.entries(table).flatMap(([taps, most]) => range(most).map((r) => [Number(taps), r + 1]));

function dispatch(name, table, parameters) {
  const names = parameters.replace(/: \w+/g, '');
  const cases = kinds(table).map(
    ([taps, rows]) => `    case ${taps * 4 + rows}: ${name}${taps}x${rows}(${names}); break;`,
  );
  return `export function ${name}Sums(taps: i32, kernelRows: i32, ${parameters}): void {
  switch (taps * 4 + kernelRows) {\n${cases.join('\n')}\n  }\n}\n`;
}

const text = `// Generated by assembly/build/depthwise-sums.mjs.
import { madd } from '../vector';

/** Kernel rows whose sums fit the registers with so many neighbouring taps; 0 if there is no such function. */
export function adjacentRows(taps: i32): i32 {
  return ${Object.entries(ADJACENT)
    .map(([taps, rows]) => `taps == ${taps} ? ${rows} : `)
    .join('')}0;
}

/** Taps and kernel rows at most of \`apartSums\`. */
export const APART_TAPS: i32 = ${Math.max(...Object.keys(APART))};
export const APART_ROWS: i32 = ${APART[1]};
${kinds(ADJACENT)
  .map(([taps, rows]) => adjacent(taps, rows))
  .join('')}
/**
 * Adds the products of \`lines\` rows of pixels to kernel rows x taps sums, \`sumRow\` bytes from row to row. x: column 0 of the first kernel row, dy: output 0;
 * \`left\` columns of padding lie in front of x. Strides in bytes: xLine and dyLine from line to line, kernelRow, pixel and dyPixel.
 */
${dispatch('adjacent', ADJACENT, 'lines: i32, width: i32, outputs: i32, left: i32, x: usize, xLine: usize, kernelRow: usize, pixel: usize, dy: usize, dyLine: usize, dyPixel: usize, sums: usize, sumRow: usize')}
${kinds(APART)
  .map(([taps, rows]) => apart(taps, rows))
  .join('')}
/** The same for any distances: x is column \`start\` (of \`width\`), the first tap of output 0; outputs are \`step\` columns and xStep bytes apart, taps \`dilation\` columns and \`tap\` bytes. */
${dispatch('apart', APART, 'lines: i32, width: i32, outputs: i32, start: i32, step: i32, dilation: i32, x: usize, xLine: usize, kernelRow: usize, xStep: usize, tap: usize, dy: usize, dyLine: usize, dyPixel: usize, sums: usize, sumRow: usize')}`;

/** Writes the generated file. */
export function generateDepthwiseSums(root) {
  const folder = join(root, 'assembly/generated');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'depthwise-sums.ts'), text);
}
