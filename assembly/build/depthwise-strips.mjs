// Writes assembly/generated/depthwise-strips.ts: neighbouring outputs of a depthwise convolution, eight or four channels at a time.
//
//   x  q = 0 1 2 3 4 5 ...          one kernel row of three taps, stride 1: column q is loaded once and meets three sums
//      [ w0 w1 w2          ]  a0
//      [    w0 w1 w2       ]  a1    a0 += x0 w0                               (q = 0)
//      [       w0 w1 w2    ]  a2    a1 += x1 w0, a0 += x1 w1                  (q = 1)
//                                   a2 += x2 w0, a1 += x2 w1, a0 += x2 w2     (q = 2) ...
//
// Sums, the weights of one kernel row and a column are what fifteen vector registers hold. Every sum runs through rows and taps in order,
// whatever the strip's width. Columns outside the source are left out: only the first and last taps - 1 columns can be, so only they ask.
//
// Pairs: a column is two vectors side by side, eight channels, where their weights fit the registers. 256-bit mode takes them as one vector and is
// 1.2 to 1.4 times as fast with them. On 128 bits narrow strips have few sums in flight, but half as many pixels at a time are half as many lines
// of the first-level cache: with stride 2, where a pixel meets few sums, that is 1 to 2 % alone and a fifth beside another thread of the core
// (fused multiply-add; without it the product needs a register that is not there); with stride 1 wide strips are better.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Taps per kernel row, stride, and the widths of strips of one vector and, where there are some, of pairs. */
export const STRIPS = [
  { taps: 1, stride: 1, widths: [4, 5, 6, 7, 8] },
  { taps: 2, stride: 1, widths: [4, 5, 6, 7, 8] },
  { taps: 3, stride: 1, widths: [1, 2, 3, 4, 5, 6, 7, 8], pairs: [1, 2, 3, 4] },
  { taps: 3, stride: 2, widths: [1, 2, 3, 4, 5, 6, 7, 8], pairs: [1, 2, 3, 4] },
  { taps: 5, stride: 1, widths: [4, 5, 6, 7, 8] },
  { taps: 5, stride: 2, widths: [4, 5, 6, 7, 8] },
  { taps: 7, stride: 1, widths: [4, 5, 6] },
];

const PAIRED = STRIPS.flatMap(({ pairs, ...shape }) => (pairs ? { ...shape, widths: pairs } : []));

/** Strips that pairs replace where there is fused multiply-add. */
const plainOnly = ({ stride, pairs }, width) => stride > 1 && pairs !== undefined && width > Math.max(...pairs);

/** Outputs of the widest strip of all. */
const WIDEST = 8;

const range = (count) => [...Array(count).keys()];
const flatten = (items) => items.flat(9).filter(Boolean);
const lines = (items) =>
  flatten(items)
    .map((line) => `  ${line}`)
    .join('\n');
const indent = (items) => flatten(items).map((line) => `  ${line}`);

/** Column q of the source, with every sum that it reaches, one vector of channels after the other. */
function column(q, { taps, stride }, width, halves) {
  const last = (width - 1) * stride + taps - 1;
  const met = range(taps).filter((tap) => (q - tap) % stride === 0 && q >= tap && (q - tap) / stride < width);
  if (!met.length) return '';
  const work = halves.map((h) => [
    `v = v128.load(p, ${16 * h});`,
    met.map((tap) => `a${(q - tap) / stride}${h} = madd(v, w${tap}${h}, a${(q - tap) / stride}${h});`),
  ]);
  const guards = [q < taps - 1 ? `left <= ${q}` : '', q > last - taps + 1 ? `right > ${q}` : ''].filter(Boolean);
  return guards.length ? [`if (${guards.join(' && ')}) {`, indent(work), '}'] : work;
}

/** Residual, clamp, and the stores of each pixel side by side, as 256-bit mode wants them. */
function finish(width, halves) {
  return [
    'let at = from + result;',
    'if (residual) {',
    indent([
      'let z = at + added;',
      range(width).map((j) => [
        j ? 'z += next;' : '',
        halves.map((h) => `a${j}${h} = f32x4.add(a${j}${h}, v128.load(z, ${16 * h}));`),
      ]),
    ]),
    '}',
    'const low = f32x4.splat(lo);',
    'const high = f32x4.splat(hi);',
    range(width).map((j) => [
      j ? 'at += next;' : '',
      halves.map((h) => `a${j}${h} = clamp(a${j}${h}, low, high);`),
      halves.map((h) => `v128.store(at, a${j}${h}, ${16 * h});`),
    ]),
  ];
}

const PARAMETERS =
  'lines: i32, xLine: usize, yLine: usize, vectors: i32, rows: i32, x: usize, pixel: usize, row: usize, w: usize, skip: usize, size: usize, y: usize, next: usize, residual: usize, left: i32, right: i32, lo: f32, hi: f32,';

function nameOf({ taps, stride }, width, pair) {
  return `taps${taps}Stride${stride}Width${width}${pair ? 'Pair' : ''}`;
}

/** A strip of `count` vectors of channels at a time. */
function strip(shape, width, count) {
  const { taps, stride } = shape;
  const columns = (width - 1) * stride + taps;
  const halves = range(count);
  const pair = count > 1;
  return `
/** ${width} outputs, ${taps} taps per kernel row, stride ${stride}${pair ? ', eight channels at a time' : ''}. */
function ${nameOf(shape, width, pair)}(
  ${PARAMETERS}
): void {
${lines([
  'do {',
  indent([
    // Everything else is told by its distance from the source: the loop over channels carries as little as it can.
    'let from = x;',
    `const end = x + ((<usize>vectors) << ${pair ? 5 : 4});`,
    'const result = y - x;',
    'const added = residual - y;',
    'let panel = w;',
    pair ? '' : 'let step: usize = 16;',
    'do {',
    indent([
      halves.map((h) => `let a0${h} = v128.load(panel, ${16 * h});`),
      range(width)
        .slice(1)
        .map((j) => halves.map((h) => `let a${j}${h} = a0${h};`)),
      'let k = panel + skip;',
      'let line = from;',
      'let r = rows;',
      'while (r > 0) {',
      indent([
        range(taps).map((tap) => halves.map((h) => `const w${tap}${h} = v128.load(k, ${32 * tap + 16 * h});`)),
        'let p = line;',
        'let v: v128;',
        range(columns).map((q) => [
          q ? 'p += pixel;' : '',
          column(q, shape, width, halves),
          pair || q % 2 ? `if (r == ${-1 - q}) break;` : '',
        ]),
        `k += ${32 * taps};`,
        'line += row;',
        'r--;',
      ]),
      '}',
      finish(width, halves),
      `from += ${16 * count};`,
      pair ? 'panel += size;' : ['panel += step;', 'step = size - step;'],
    ]),
    '} while (from != end);',
    'x += xLine;',
    'y += yLine;',
    'if (residual) residual += yLine;',
  ]),
  '} while (--lines > 0);',
])}
}
`;
}

/** Any taps, stride and dilation: a tap at a time, its columns one by one where some of them lie outside the source. */
function anyStrip() {
  return `
/**
 * \`width\` (1 to ${WIDEST}) neighbouring outputs of \`vectors\` x 4 channels for any kernel. x is the pixel of the first tap of the first output, in source
 * column \`start\` of \`columns\`. Outputs are \`step\` columns and \`pixel\` bytes apart on x, taps \`dilation\` columns and \`tap\` bytes. The others as in
 * depthwiseStrip.
 */
export function depthwiseAnyStrip(
  taps: i32, step: i32, width: i32, dilation: i32,
  vectors: i32, rows: i32, x: usize, pixel: usize, tap: usize, row: usize, w: usize, skip: usize, size: usize, y: usize, next: usize, residual: usize,
  start: i32, columns: i32, lo: f32, hi: f32,
): void {
${lines([
  'const reach = (width - 1) * step;',
  'let toNext: usize = 16;',
  'do {',
  indent([
    'let a0 = v128.load(w);',
    range(WIDEST - 1).map((j) => `let a${j + 1} = a0;`),
    'let k = w + skip;',
    'let line = x;',
    'for (let r = rows; r > 0; r--) {',
    indent([
      'let first = line;',
      'let at = start;',
      'for (let t = taps; t > 0; t--) {',
      indent([
        'const v = v128.load(k);',
        'let p = first;',
        `if (width == ${WIDEST} && at >= 0 && at + reach < columns) {`,
        indent(range(WIDEST).map((j) => [j ? 'p += pixel;' : '', `a${j} = madd(v128.load(p), v, a${j});`])),
        '} else {',
        indent([
          'const end = min(columns, at + reach + 1);',
          'let q = at;',
          range(WIDEST).map((j) => [
            j ? ['q += step;', 'p += pixel;'] : '',
            `if (q >= 0 && q < end) a${j} = madd(v128.load(p), v, a${j});`,
          ]),
        ]),
        '}',
        'k += 32;',
        'first += tap;',
        'at += dilation;',
      ]),
      '}',
      'line += row;',
    ]),
    '}',
    'const low = f32x4.splat(lo);',
    'const high = f32x4.splat(hi);',
    'let to = y;',
    'let z = residual;',
    range(WIDEST).map((j) => [
      `if (width > ${j}) {`,
      indent([
        `if (residual) {`,
        indent([`a${j} = f32x4.add(a${j}, v128.load(z));`, 'z += next;']),
        '}',
        `v128.store(to, clamp(a${j}, low, high));`,
        'to += next;',
      ]),
      '}',
    ]),
    'if (residual) residual += 16;',
    'x += 16;',
    'y += 16;',
    'w += toNext;',
    'toNext = size - toNext;',
  ]),
  '} while (--vectors > 0);',
])}
}
`;
}

const HEADER = `// Generated by assembly/build/depthwise-strips.mjs.
import { clamp, madd } from '../vector';
`;

function dispatch() {
  const parameters = PARAMETERS.replace(/: \w+|,$/g, '');
  const key = ({ taps, stride }, width) => (taps * 2 + stride - 1) * 8 + width;
  const cases = (shapes, pair) =>
    shapes.flatMap((shape) =>
      shape.widths.map((width) => {
        const build = plainOnly(shape, width) ? 'if (!ASC_FEATURE_RELAXED_SIMD) ' : '';
        return `    case ${key(shape, width)}: ${build}${nameOf(shape, width, pair)}(${parameters}); break;`;
      }),
    );
  const ofShape = (shapes, value) =>
    shapes.map((shape) => `    case ${key(shape, 0) / 8}: return ${value(shape)};`).join('\n');
  return `
/** Outputs of the widest strip with so many taps per kernel row; 0 if there is none with these taps and stride. */
export function widestStrip(taps: i32, stride: i32): i32 {
  if (stride > 2) return 0;
  switch (taps * 2 + stride - 1) {\n${ofShape(STRIPS, ({ widths }) => Math.max(...widths))}\n  }\n  return 0;\n}

/** Outputs of the narrowest. */
export function narrowestStrip(taps: i32, stride: i32): i32 {
  switch (taps * 2 + stride - 1) {\n${ofShape(STRIPS, ({ widths }) => Math.min(...widths))}\n  }\n  return 0;\n}

/** Outputs of the widest pair; 0 if there is none. */
export function widestPair(taps: i32, stride: i32): i32 {
  if (stride > 2) return 0;
  switch (taps * 2 + stride - 1) {\n${ofShape(PAIRED, ({ widths }) => Math.max(...widths))}\n  }\n  return 0;\n}

/**
 * \`lines\` rows (xLine and yLine bytes apart) of \`width\` neighbouring outputs of \`vectors\` x 4 channels.
 *
 * x: column 0 of the first kernel row; columns \`pixel\`, kernel rows \`row\` bytes apart. Columns below \`left\` and from \`right\` on are not read.
 * w: per eight channels \`size\` bytes: bias, then the taps of all kernel rows, 32 bytes each; \`skip\` leads from the bias to the first of \`rows\`
 *    kernel rows. The first vector is the lower half of its eight channels.
 * y: first output, the others \`next\` bytes apart; \`residual\` lies alike, 0 if there is none.
 */
export function depthwiseStrip(
  taps: i32, stride: i32, width: i32,
  ${PARAMETERS}
): void {
  switch ((taps * 2 + stride - 1) * 8 + width) {\n${cases(STRIPS, false).join('\n')}\n  }\n}

/** The same of \`vectors\` x 8 channels. */
export function depthwisePairs(
  taps: i32, stride: i32, width: i32,
  ${PARAMETERS}
): void {
  switch ((taps * 2 + stride - 1) * 8 + width) {\n${cases(PAIRED, true).join('\n')}\n  }\n}\n`;
}

/** Writes the generated file. */
export function generateDepthwiseStrips(root) {
  const folder = join(root, 'assembly/generated');
  mkdirSync(folder, { recursive: true });
  const strips = (shapes, count) => shapes.flatMap((shape) => shape.widths.map((width) => strip(shape, width, count)));
  const text = [HEADER, ...strips(STRIPS, 1), ...strips(PAIRED, 2), dispatch(), anyStrip()].join('');
  writeFileSync(join(folder, 'depthwise-strips.ts'), text);
}
