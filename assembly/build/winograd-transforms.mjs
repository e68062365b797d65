// Writes assembly/generated/winograd-transforms.ts: the transforms of Winograd convolution, one function per pass.
//
// A square tile is transformed along its columns into a small block in scratch, then along its rows out of it. Each one-dimensional
// transform is written down once, below; both passes are made from it. Vectors go in pairs (eight channels), the two stores of a pair
// next to each other, so that V8 can join them to 256 bits; inputs are loaded where they are first used, so that few registers are live.
//
// With alpha = 6 polynomials are evaluated at 0, a, -a, b, -b and infinity, a = 5/8, b = 3/2: their powers are exact in f32. The usual
// points 0, 1, -1, 2, -2 lose four times as much at the corner of the tile (64 channels, largest error over largest output: 4.6e-6
// against 1.2e-6). With alpha = 4 the points are 0, 1, -1 and infinity.
// Sources: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2015; on points, Barabasz et al., "Error Analysis and
// Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2018.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const a = 5 / 8;
const b = 3 / 2;
/** Denominators of the Lagrange polynomials at a and b. */
const da = 2 * a * a * (a * a - b * b);
const db = 2 * b * b * (b * b - a * a);

const CONSTANTS = {
  A: a,
  B: b,
  A2: a ** 2,
  B2: b ** 2,
  A3: a ** 3,
  B3: b ** 3,
  A4: a ** 4,
  B4: b ** 4,
  MINUS_A2: -(a ** 2),
  MINUS_B2: -(b ** 2),
  MINUS_SUM: -(a ** 2 + b ** 2),
  PRODUCT: (a * b) ** 2,
  G0: 1 / (a * b) ** 2,
  GA: 1 / da,
  GA1: a / da,
  GA2: a ** 2 / da,
  GA3: a ** 3 / da,
  GA4: a ** 4 / da,
  GB: 1 / db,
  GB1: b / db,
  GB2: b ** 2 / db,
  GB3: b ** 3 / db,
  GB4: b ** 4 / db,
  HALF: 1 / 2,
};

/**
 * One-dimensional transforms, `from` values to `to`. `x <- 2` loads the third input, `2 <- x` stores the third output; capitals are
 * constants. A name ends in alpha, or in `from` and `to`. Outputs of alpha = 6 are in the order of the points 0, a, -a, b, -b, infinity.
 */
const TRANSFORMS = {
  /** Pixels of the source: B^T x. */
  input6: {
    from: 6,
    to: 6,
    steps: `
      x2 <- 2
      x4 <- 4
      x0 <- 0
      0 <- madd(PRODUCT, x0, madd(MINUS_SUM, x2, x4))
      x3 <- 3
      x1 <- 1
      x5 <- 5
      5 <- madd(PRODUCT, x1, madd(MINUS_SUM, x3, x5))
      even = madd(MINUS_B2, x2, x4)
      odd = mul(A, madd(MINUS_B2, x1, x3))
      1 <- add(even, odd)
      2 <- sub(even, odd)
      even = madd(MINUS_A2, x2, x4)
      odd = mul(B, madd(MINUS_A2, x1, x3))
      3 <- add(even, odd)
      4 <- sub(even, odd)`,
  },
  input4: {
    from: 4,
    to: 4,
    steps: `
      x2 <- 2
      x0 <- 0
      0 <- sub(x0, x2)
      x1 <- 1
      1 <- add(x1, x2)
      2 <- sub(x2, x1)
      x3 <- 3
      3 <- sub(x1, x3)`,
  },
  /** Sums of products to pixels of the output: A^T m. */
  output6to4: {
    from: 6,
    to: 4,
    steps: `
      m1 <- 1
      m2 <- 2
      sa = add(m1, m2)
      da = sub(m1, m2)
      m3 <- 3
      m4 <- 4
      sb = add(m3, m4)
      db = sub(m3, m4)
      m0 <- 0
      0 <- add(m0, add(sa, sb))
      2 <- madd(B2, sb, mul(A2, sa))
      1 <- madd(B, db, mul(A, da))
      m5 <- 5
      3 <- madd(B3, db, madd(A3, da, m5))`,
  },
  output4to2: {
    from: 4,
    to: 2,
    steps: `
      m1 <- 1
      m2 <- 2
      m0 <- 0
      0 <- add(m0, add(m1, m2))
      m3 <- 3
      1 <- sub(sub(m1, m2), m3)`,
  },
  output6to2: {
    from: 6,
    to: 2,
    steps: `
      m1 <- 1
      m2 <- 2
      m3 <- 3
      m4 <- 4
      m0 <- 0
      0 <- add(m0, add(add(m1, m2), add(m3, m4)))
      m5 <- 5
      1 <- madd(B, sub(m3, m4), madd(A, sub(m1, m2), m5))`,
  },
  /** Weights: G w. */
  weight3to6: {
    from: 3,
    to: 6,
    steps: `
      w0 <- 0
      0 <- mul(G0, w0)
      w1 <- 1
      w2 <- 2
      5 <- w2
      even = madd(GA2, w2, mul(GA, w0))
      odd = mul(GA1, w1)
      1 <- add(even, odd)
      2 <- sub(even, odd)
      even = madd(GB2, w2, mul(GB, w0))
      odd = mul(GB1, w1)
      3 <- add(even, odd)
      4 <- sub(even, odd)`,
  },
  weight3to4: {
    from: 3,
    to: 4,
    steps: `
      w0 <- 0
      0 <- w0
      w2 <- 2
      3 <- w2
      w1 <- 1
      even = mul(HALF, add(w0, w2))
      odd = mul(HALF, w1)
      1 <- add(even, odd)
      2 <- sub(even, odd)`,
  },
  weight5to6: {
    from: 5,
    to: 6,
    steps: `
      w0 <- 0
      0 <- mul(G0, w0)
      w4 <- 4
      5 <- w4
      w2 <- 2
      w1 <- 1
      w3 <- 3
      even = madd(GA4, w4, madd(GA2, w2, mul(GA, w0)))
      odd = madd(GA3, w3, mul(GA1, w1))
      1 <- add(even, odd)
      2 <- sub(even, odd)
      even = madd(GB4, w4, madd(GB2, w2, mul(GB, w0)))
      odd = madd(GB3, w3, mul(GB1, w1))
      3 <- add(even, odd)
      4 <- sub(even, odd)`,
  },
  /** Weight gradient F(3x3, 4x4): four gradients of outputs play the weights. */
  gradient4to6: {
    from: 4,
    to: 6,
    steps: `
      w0 <- 0
      0 <- mul(G0, w0)
      w3 <- 3
      5 <- w3
      w2 <- 2
      w1 <- 1
      even = madd(GA2, w2, mul(GA, w0))
      odd = madd(GA3, w3, mul(GA1, w1))
      1 <- add(even, odd)
      2 <- sub(even, odd)
      even = madd(GB2, w2, mul(GB, w0))
      odd = madd(GB3, w3, mul(GB1, w1))
      3 <- add(even, odd)
      4 <- sub(even, odd)`,
  },
  /** Weight gradient F(5x5, 2x2), which has the points of F(2x2, 5x5). */
  gradient2to6: {
    from: 2,
    to: 6,
    steps: `
      w0 <- 0
      0 <- mul(G0, w0)
      w1 <- 1
      5 <- w1
      even = mul(GA, w0)
      odd = mul(GA1, w1)
      1 <- add(even, odd)
      2 <- sub(even, odd)
      even = mul(GB, w0)
      odd = mul(GB1, w1)
      3 <- add(even, odd)
      4 <- sub(even, odd)`,
  },
  /** Sums of products of a weight gradient to its three, or five, taps. */
  taps6to3: {
    from: 6,
    to: 3,
    steps: `
      m1 <- 1
      m2 <- 2
      sa = add(m1, m2)
      m3 <- 3
      m4 <- 4
      sb = add(m3, m4)
      m0 <- 0
      0 <- add(m0, add(sa, sb))
      m5 <- 5
      2 <- madd(B2, sb, madd(A2, sa, m5))
      1 <- madd(B, sub(m3, m4), mul(A, sub(m1, m2)))`,
  },
  taps6to5: {
    from: 6,
    to: 5,
    steps: `
      m1 <- 1
      m2 <- 2
      sa = add(m1, m2)
      da = sub(m1, m2)
      m3 <- 3
      m4 <- 4
      sb = add(m3, m4)
      db = sub(m3, m4)
      m0 <- 0
      0 <- add(m0, add(sa, sb))
      1 <- madd(B, db, mul(A, da))
      2 <- madd(B2, sb, mul(A2, sa))
      3 <- madd(B3, db, mul(A3, da))
      m5 <- 5
      4 <- madd(B4, sb, madd(A4, sa, m5))`,
  },
};

/** Bytes from one column and one row to the next in the block between the passes. */
const COLUMN = 128;
const ROW = 6 * COLUMN;

const range = (count) => [...Array(count).keys()];
const capitalised = (name) => name[0].toUpperCase() + name.slice(1);

const CONSTANT = /\b[A-Z][A-Z0-9_]*\b/g;

/** An expression of the notation above for half `h` of a pair; `names` are the locals that hold its constants. */
function expression(text, h, names) {
  return text
    .replace(/\b(add|sub|mul)\(/g, 'f32x4.$1(')
    .replace(/\b([xmw]\d|[sd][ab]|even|odd)\b/g, (name) => `${name}_${h}`)
    .replace(CONSTANT, (name) => names[name]);
}

/** The body of a transform; `load(k, h)` and `store(k, h, value)` say where its values lie. */
function body({ steps }, load, store) {
  const declared = new Set();
  const assign = (name, value) => {
    const keyword = declared.has(name) ? '' : 'let ';
    declared.add(name);
    return `${keyword}${name} = ${value};`;
  };
  return steps
    .trim()
    .split('\n')
    .flatMap((line, number) => {
      const [left, arrow, right] = line.trim().split(/ (<-|=) /);
      const isStore = /^\d$/.test(left);
      if (arrow === '<-' && !isStore) return range(2).map((h) => assign(`${left}_${h}`, load(Number(right), h)));
      const names = Object.fromEntries(
        [...new Set(right.match(CONSTANT) ?? [])].map((name, i) => [name, `c${number}${'xyz'[i]}`]),
      );
      const constants = Object.entries(names).map(([name, local]) => assign(local, `constant(${name})`));
      const values = range(2).map((h) => expression(right, h, names));
      if (!isStore) return [constants, values.map((value, h) => assign(`${left}_${h}`, value))].flat();
      const results = values.map((value, h) =>
        assign(`y${h}`, store.value ? store.value(Number(left), h, value) : value),
      );
      return [constants, results, range(2).map((h) => store(Number(left), h, `y${h}`))].flat();
    })
    .map((line) => `      ${line}`)
    .join('\n');
}

const fromPointers = (k, h) => `v128.load(p${k}, ${16 * h})`;
const fromBlock = (k, h) => `v128.load(from, ${COLUMN * k + 16 * h})`;
const toBlock = (k, h, value) => `v128.store(to, ${value}, ${ROW * k + 16 * h});`;
const toPointers = (k, h, value) => `v128.store(p${k}, ${value}, ${16 * h});`;
/** Pixels are finished on their way out. */
const toPixels = Object.assign(toPointers.bind(null), {
  value: (k, h, value) => `clamp(f32x4.add(${value}, v128.load(init, ${COLUMN * k + 16 * h})), low, high)`,
});

const advance = (count) => range(count).map((k) => `      p${k} += 32;`);
const lines = (...items) => items.flat(9).join('\n');

/** One column of pairs to the block, and on to the next column. */
function columnToBlock(transform) {
  return [
    '    for (let pair = 0; pair < pairs; pair++) {',
    body(transform, fromPointers, toBlock),
    advance(transform.from),
    '      to += 32;',
    '    }',
    `    to += ${COLUMN} - ((<usize>pairs) << 5);`,
  ];
}

function columnsOfPixels(name, transform) {
  return lines(
    `/** Columns first .. last - 1 of the pixels that \`rows\` points at (openTile) to the block; column j lies j * pixel bytes further. */`,
    `export function columnsOf${capitalised(name)}(rows: usize, pixel: usize, offset: usize, first: i32, last: i32, to: usize, pairs: i32): void {`,
    `  to += <usize>first * ${COLUMN};`,
    '  offset += <usize>first * pixel;',
    '  for (let j = first; j < last; j++) {',
    range(transform.from).map(
      (k) => `    let p${k} = load<usize>(rows, ${8 * k}) + (offset & load<usize>(rows, ${8 * k + 4}));`,
    ),
    columnToBlock(transform),
    '    offset += pixel;',
    '  }',
    '}\n',
  );
}

function columnsOfPlanes(name, transform) {
  return lines(
    `/** ${transform.from} x ${transform.from} planes, \`plane\` bytes apart, to the block. */`,
    `export function columnsOf${capitalised(name)}(from: usize, plane: usize, to: usize, pairs: i32): void {`,
    `  for (let j = 0; j < ${transform.from}; j++) {`,
    range(transform.from).map((k) => `    let p${k} = ${k ? `p${k - 1} + ${transform.from} * plane` : 'from'};`),
    columnToBlock(transform),
    '    from += plane;',
    '  }',
    '}\n',
  );
}

function rowsToPlanes(name, transform) {
  return lines(
    `/** The block to ${transform.to} x ${transform.to} planes, \`plane\` bytes apart. */`,
    `export function rowsOf${capitalised(name)}(from: usize, to: usize, plane: usize, pairs: i32): void {`,
    `  for (let i = 0; i < ${transform.to}; i++) {`,
    range(transform.to).map((k) => `    let p${k} = ${k ? `p${k - 1} + plane` : 'to'};`),
    '    for (let pair = 0; pair < pairs; pair++) {',
    body(transform, fromBlock, toPointers),
    '      from += 32;',
    advance(transform.to),
    '    }',
    `    from += ${ROW} - ((<usize>pairs) << 5);`,
    `    to += ${transform.to} * plane;`,
    '  }',
    '}\n',
  );
}

function rowToPixels(name, transform) {
  const pixels = range(transform.to).map((k) => `p${k}: usize`);
  return lines(
    `/** One row of the block to ${transform.to} pixels: clamp(transform + init, lo, hi). */`,
    `export function rowOf${capitalised(name)}(from: usize, init: usize, ${pixels.join(', ')}, lo: f32, hi: f32, pairs: i32): void {`,
    '  const low = f32x4.splat(lo);',
    '  const high = f32x4.splat(hi);',
    '    for (let pair = 0; pair < pairs; pair++) {',
    body(transform, fromBlock, toPixels),
    '      from += 32;',
    '      init += 32;',
    advance(transform.to),
    '    }',
    '}\n',
  );
}

const FORMS = {
  input6: [columnsOfPixels, rowsToPlanes],
  input4: [columnsOfPixels, rowsToPlanes],
  gradient4to6: [columnsOfPixels, rowsToPlanes],
  gradient2to6: [columnsOfPixels, rowsToPlanes],
  output6to4: [columnsOfPlanes, rowToPixels],
  output4to2: [columnsOfPlanes, rowToPixels],
  output6to2: [columnsOfPlanes, rowToPixels],
  weight3to6: [columnsOfPlanes, rowsToPlanes],
  weight3to4: [columnsOfPlanes, rowsToPlanes],
  weight5to6: [columnsOfPlanes, rowsToPlanes],
  taps6to3: [columnsOfPlanes, rowsToPlanes],
  taps6to5: [columnsOfPlanes, rowsToPlanes],
};

const HEADER = `// Generated by assembly/build/winograd-transforms.mjs.
import { clamp, madd } from '../vector';

/** Channels that are transformed at a time, four to a pair's half: the block is [row][column][WINOGRAD_CHUNK]. */
export const WINOGRAD_CHUNK: i32 = ${COLUMN / 4};
/** Bytes from one column and one row of the block to the next, and of the whole block. */
export const BLOCK_COLUMN: usize = ${COLUMN};
export const BLOCK_ROW: usize = ${ROW};
export const BLOCK_BYTES: usize = ${6 * ROW};

/** Constants are read where they are used: a splat literal is built anew at each use, and registers are few. */
// @ts-ignore: decorator
@inline
function constant(address: usize): v128 {
  return v128.load32_splat(address);
}

${Object.entries(CONSTANTS)
  .map(([name, value]) => `const ${name} = memory.data<f32>([${value}]);`)
  .join('\n')}

`;

/** Writes the generated file. */
export function generateWinogradTransforms(root) {
  const folder = join(root, 'assembly/generated');
  mkdirSync(folder, { recursive: true });
  const functions = Object.entries(TRANSFORMS).flatMap(([name, transform]) =>
    FORMS[name].map((form) => form(name, transform)),
  );
  writeFileSync(join(folder, 'winograd-transforms.ts'), HEADER + functions.join('\n'));
}
