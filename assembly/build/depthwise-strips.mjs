// Writes assembly/generated/depthwise-strips.ts: neighbouring outputs of a depthwise convolution, four channels at a time.
//
//   x  q = 0 1 2 3 4 5 ...          one kernel row of three taps, stride 1: column q is loaded once and meets three sums
//      [ w0 w1 w2          ]  a0
//      [    w0 w1 w2       ]  a1    a0 += x0 w0                               (q = 0)
//      [       w0 w1 w2    ]  a2    a1 += x1 w0, a0 += x1 w1                  (q = 1)
//                                   a2 += x2 w0, a1 += x2 w1, a0 += x2 w2     (q = 2) ...
//
// Sums, the weights of one kernel row and a column are what fifteen vector registers hold. Every sum runs through rows and taps in order,
// whatever the strip's width. Columns outside the source are left out: only the first and last taps - 1 columns can be, so only they ask.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Taps per kernel row, stride, and the widths for which a strip is generated. */
export const STRIPS = [
  { taps: 1, stride: 1, widths: [4, 5, 6, 7, 8] },
  { taps: 2, stride: 1, widths: [4, 5, 6, 7, 8] },
  { taps: 3, stride: 1, widths: [1, 2, 3, 4, 5, 6, 7, 8] },
  { taps: 3, stride: 2, widths: [1, 2, 3, 4, 5, 6, 7, 8] },
  { taps: 5, stride: 1, widths: [4, 5, 6, 7, 8] },
  { taps: 5, stride: 2, widths: [4, 5, 6, 7, 8] },
  { taps: 7, stride: 1, widths: [4, 5, 6] },
];

/** Outputs of the widest strip of all. */
const WIDEST = 8;

const range = (count) => [...Array(count).keys()];
const flatten = (items) => items.flat(9).filter(Boolean);
const lines = (items) =>
  flatten(items)
    .map((line) => `  ${line}`)
    .join('\n');
const indent = (items) => flatten(items).map((line) => `  ${line}`);

/** Column q of the source, with every sum that it reaches. */
function column(q, { taps, stride }, width) {
  const last = (width - 1) * stride + taps - 1;
  const sums = range(taps)
    .filter((tap) => (q - tap) % stride === 0 && q >= tap && (q - tap) / stride < width)
    .map((tap) => `a${(q - tap) / stride} = madd(v, w${tap}, a${(q - tap) / stride});`);
  if (!sums.length) return '';
  const guards = [q < taps - 1 ? `left <= ${q}` : '', q > last - taps + 1 ? `right > ${q}` : ''].filter(Boolean);
  const work = ['v = v128.load(p);', sums];
  return guards.length ? [`if (${guards.join(' && ')}) {`, indent(work), '}'] : work;
}

function strip(shape, width) {
  const { taps, stride } = shape;
  const columns = (width - 1) * stride + taps;
  return `
/** ${width} outputs, ${taps} taps per kernel row, stride ${stride}. */
function taps${taps}Stride${stride}Width${width}(
  vectors: i32, rows: i32, x: usize, pixel: usize, row: usize, w: usize, skip: usize, size: usize, y: usize, next: usize, residual: usize,
  left: i32, right: i32, lo: f32, hi: f32,
): void {
${lines([
  'do {',
  indent([
    'let a0 = v128.load(w);',
    range(width)
      .slice(1)
      .map((j) => `let a${j} = a0;`),
    'let k = w + skip;',
    'let line = x;',
    'let r = rows;',
    'while (r > 0) {',
    indent([
      range(taps).map((tap) => `const w${tap} = v128.load(k, ${16 * tap});`),
      'let p = line;',
      'let v: v128;',
      range(columns).map((q) => [
        q ? 'p += pixel;' : '',
        column(q, shape, width),
        q % 2 ? `if (r == ${-1 - q}) break;` : '',
      ]),
      `k += ${16 * taps};`,
      'line += row;',
      'r--;',
    ]),
    '}',
    'if (residual) {',
    indent([
      'let z = residual;',
      range(width).map((j) => [j ? 'z += next;' : '', `a${j} = f32x4.add(a${j}, v128.load(z));`]),
      'residual += 16;',
    ]),
    '}',
    'const low = f32x4.splat(lo);',
    'const high = f32x4.splat(hi);',
    'let to = y;',
    range(width).map((j) => [j ? 'to += next;' : '', `v128.store(to, clamp(a${j}, low, high));`]),
    'x += 16;',
    'y += 16;',
    'w += size;',
  ]),
  '} while (--vectors > 0);',
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
        'k += 16;',
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
    'w += size;',
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
  const parameters = 'vectors, rows, x, pixel, row, w, skip, size, y, next, residual, left, right, lo, hi';
  const cases = STRIPS.flatMap(({ taps, stride, widths }) =>
    widths.map(
      (width) =>
        `    case ${(taps * 2 + stride - 1) * 8 + width}: taps${taps}Stride${stride}Width${width}(${parameters}); break;`,
    ),
  );
  const widest = STRIPS.map(
    ({ taps, stride, widths }) => `    case ${taps * 2 + stride - 1}: return ${Math.max(...widths)};`,
  );
  const narrowest = STRIPS.map(
    ({ taps, stride, widths }) => `    case ${taps * 2 + stride - 1}: return ${Math.min(...widths)};`,
  );
  return `
/** Outputs of the widest strip with so many taps per kernel row; 0 if there is none with these taps and stride. */
export function widestStrip(taps: i32, stride: i32): i32 {
  if (stride > 2) return 0;
  switch (taps * 2 + stride - 1) {\n${widest.join('\n')}\n  }\n  return 0;\n}

/** Outputs of the narrowest. */
export function narrowestStrip(taps: i32, stride: i32): i32 {
  switch (taps * 2 + stride - 1) {\n${narrowest.join('\n')}\n  }\n  return 0;\n}

/**
 * \`width\` neighbouring outputs of \`vectors\` x 4 channels.
 *
 * x: column 0 of the first kernel row; columns \`pixel\`, kernel rows \`row\` bytes apart. Columns below \`left\` and from \`right\` on are not read.
 * w: per four channels \`size\` bytes: bias, then the taps of all kernel rows; \`skip\` leads from the bias to the first of \`rows\` kernel rows.
 * y: first output, the others \`next\` bytes apart; \`residual\` lies alike, 0 if there is none.
 */
export function depthwiseStrip(
  taps: i32, stride: i32, width: i32,
  vectors: i32, rows: i32, x: usize, pixel: usize, row: usize, w: usize, skip: usize, size: usize, y: usize, next: usize, residual: usize,
  left: i32, right: i32, lo: f32, hi: f32,
): void {
  switch ((taps * 2 + stride - 1) * 8 + width) {\n${cases.join('\n')}\n  }\n}\n`;
}

/** Writes the generated file. */
export function generateDepthwiseStrips(root) {
  const folder = join(root, 'assembly/generated');
  mkdirSync(folder, { recursive: true });
  const text = [
    HEADER,
    ...STRIPS.flatMap((shape) => shape.widths.map((width) => strip(shape, width))),
    dispatch(),
    anyStrip(),
  ].join('');
  writeFileSync(join(folder, 'depthwise-strips.ts'), text);
}
