// Functions of one and two numbers with their derivatives, in float64.
import { broadcast, broadcastShapes, sumTo } from './broadcast.ts';
import type { Numbers, Shape } from './values.ts';

/** y = f(x), and the factor or rule by which dy becomes dx. */
export interface Unary {
  f: (x: number) => number;
  dx: (x: number, dy: number) => number;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** PyTorch's conventions at the kinks: abs' is 0 at 0 and NaN, relu'(0) = 0; NaN goes through relu and clamp. */
export const unary: Record<'neg' | 'abs' | 'sqrt' | 'exp' | 'log' | 'relu' | 'sigmoid' | 'tanh', Unary> = {
  neg: { f: (x) => -x, dx: (_, dy) => -dy },
  abs: { f: Math.abs, dx: (x, dy) => dy * (Math.sign(x) || 0) },
  sqrt: { f: Math.sqrt, dx: (x, dy) => dy / (2 * Math.sqrt(x)) },
  exp: { f: Math.exp, dx: (x, dy) => dy * Math.exp(x) },
  log: { f: Math.log, dx: (x, dy) => dy / x },
  relu: { f: (x) => Math.max(x, 0), dx: (x, dy) => (x <= 0 ? 0 : dy) },
  sigmoid: { f: sigmoid, dx: (x, dy) => dy * sigmoid(x) * (1 - sigmoid(x)) },
  tanh: { f: Math.tanh, dx: (x, dy) => dy * (1 - Math.tanh(x) ** 2) },
};

/** Between both bounds; the gradient passes at the bounds themselves. */
export function clamp({ min = -Infinity, max = Infinity }: { min?: number; max?: number }): Unary {
  return {
    f: (x) => (Number.isNaN(x) ? x : Math.min(Math.max(x, min), max)),
    dx: (x, dy) => (x >= min && x <= max ? dy : 0),
  };
}

/** x to a constant power. */
export function power(exponent: number): Unary {
  return {
    f: (x) => x ** exponent,
    dx: (x, dy) => (exponent === 0 ? 0 : dy * exponent * x ** (exponent - 1)),
  };
}

/** y = f(a, b), and its two partial derivatives; comparisons have none. */
export interface Binary {
  f: (a: number, b: number) => number;
  da?: (a: number, b: number) => number;
  db?: (a: number, b: number) => number;
}

/** NaN wins. Of two equal numbers each gets half the gradient; beside a NaN neither is the worse one, so both get all of it. */
function choose(better: (a: number, b: number) => boolean): Binary {
  const share = (a: number, b: number): number => (a === b ? 0.5 : better(b, a) ? 0 : 1);
  return {
    f: (a, b) => (Number.isNaN(a) || better(a, b) ? a : b),
    da: share,
    db: (a, b) => share(b, a),
  };
}

export const binary: Record<
  'add' | 'sub' | 'mul' | 'div' | 'pow' | 'minimum' | 'maximum' | 'eq' | 'ne' | 'gt' | 'lt',
  Binary
> = {
  add: { f: (a, b) => a + b, da: () => 1, db: () => 1 },
  sub: { f: (a, b) => a - b, da: () => 1, db: () => -1 },
  mul: { f: (a, b) => a * b, da: (_, b) => b, db: (a) => a },
  div: { f: (a, b) => a / b, da: (_, b) => 1 / b, db: (a, b) => -a / (b * b) },
  pow: { f: (a, b) => a ** b, da: (a, b) => b * a ** (b - 1), db: (a, b) => a ** b * Math.log(a) },
  minimum: choose((a, b) => a < b),
  maximum: choose((a, b) => a > b),
  eq: { f: (a, b) => Number(a === b) },
  ne: { f: (a, b) => Number(a !== b) },
  gt: { f: (a, b) => Number(a > b) },
  lt: { f: (a, b) => Number(a < b) },
};

/** Two tensors and their shapes. */
export interface Operands {
  a: Numbers;
  b: Numbers;
  shapes: { a: Shape; b: Shape };
}

function aligned({ a, b, shapes }: Operands): { y: number[]; a: Float64Array; b: Float64Array } {
  const y = broadcastShapes(shapes.a, shapes.b);
  return { y, a: broadcast(a, shapes.a, y), b: broadcast(b, shapes.b, y) };
}

export function applyBinary(op: Binary, operands: Operands): Float64Array {
  const { a, b } = aligned(operands);
  return a.map((number, i) => op.f(number, b[i]!));
}

export function binaryGrad(
  op: Required<Binary>,
  dy: Numbers,
  operands: Operands,
): { da: Float64Array; db: Float64Array } {
  const { y, a, b } = aligned(operands);
  const toA = a.map((number, i) => dy[i]! * op.da(number, b[i]!));
  const toB = a.map((number, i) => dy[i]! * op.db(number, b[i]!));
  return { da: sumTo(toA, y, operands.shapes.a), db: sumTo(toB, y, operands.shapes.b) };
}

/** Where the condition (already in the output's shape) is not zero a, else b. */
export function where(condition: Numbers, operands: Operands): Float64Array {
  const { a, b } = aligned(operands);
  return a.map((number, i) => (condition[i] ? number : b[i]!));
}

export function whereGrad(
  dy: Numbers,
  condition: Numbers,
  { shapes }: Operands,
): { da: Float64Array; db: Float64Array } {
  const y = broadcastShapes(shapes.a, shapes.b);
  const masked = (wanted: boolean): Float64Array =>
    Float64Array.from(dy, (g, i) => (!!condition[i] === wanted ? g : 0));
  return { da: sumTo(masked(true), y, shapes.a), db: sumTo(masked(false), y, shapes.b) };
}
