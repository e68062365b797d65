// Tensors from values: tensor, zeros, ones, full, zerosLike, onesLike, arange.
import { FILL_TILE, fill, fillBytes, iota, iotaIntegers } from '../generated/kernels.ts';
import type { Emitter } from '../runtime/command.ts';
import { engine } from '../runtime/engine.ts';
import { Storage } from '../runtime/storage.ts';
import { activeRecorder, apply, checkReadable } from './apply.ts';
import { checkDType, type DType, elementBytes, type TypedArray } from './dtype.ts';
import { keep, track } from './lifetime.ts';
import type { Op } from './op.ts';
import { writeValues } from './read.ts';
import { checkShape, checkSize, show, sizeOf } from './shape.ts';
import { locationOf, Tensor } from './tensor.ts';

/** Numbers in nested arrays, `[[1, 2], [3, 4]]`, or a single number. */
export type NestedNumbers = number | readonly NestedNumbers[];

/** Options of the creating functions. */
export interface CreateOptions {
  dtype?: DType | undefined;
  requiresGrad?: boolean | undefined;
}

/** Options of `tensor`; `shape` goes with a typed array, whose length is the default. */
export interface TensorOptions extends CreateOptions {
  shape?: readonly number[] | undefined;
}

const TENSOR_OPTIONS = ['dtype', 'requiresGrad', 'shape'];
const CREATE_OPTIONS = ['dtype', 'requiresGrad'];

/** Throws TypeError for an option that `op` does not have. */
export function checkOptions(op: string, options: object | undefined, known: readonly string[]): void {
  if (options === undefined) return;
  if (options === null || typeof options !== 'object')
    throw new TypeError(
      `${op}: options must be an object, got ${options === null ? 'null' : typeof options}; write { ${known[0]}: ... }`,
    );
  for (const name of Object.keys(options))
    if (!known.includes(name))
      throw new TypeError(`${op}: unknown option '${name}', known are ${known.join(', ') || 'none'}`);
}

/** Throws TypeError unless an option is true, false or absent. */
export function checkFlag(op: string, name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'boolean')
    throw new TypeError(`${op}: ${name} must be true or false, got ${value === null ? 'null' : typeof value}`);
}

/** A tensor with memory of its own and undefined contents. For files that fill it at once. */
export function allocateTensor(shape: readonly number[], dtype: DType, strides?: readonly number[]): Tensor {
  const storage = new Storage(sizeOf(shape) * elementBytes(dtype));
  engine().allocate(storage);
  track(storage);
  return new Tensor({ storage, shape, dtype, strides });
}

function finish(tensor: Tensor, requiresGrad: boolean | undefined): Tensor {
  if (requiresGrad !== undefined) tensor.requiresGrad = requiresGrad;
  return tensor;
}

/** Canvas pixels are clamped bytes. */
function unclamped<T>(value: T | Uint8ClampedArray): T | Uint8Array {
  return value instanceof Uint8ClampedArray ? new Uint8Array(value.buffer, value.byteOffset, value.length) : value;
}

function isTypedArray(value: unknown): value is TypedArray {
  return value instanceof Float32Array || value instanceof Int32Array || value instanceof Uint8Array;
}

function shapeOfNested(values: NestedNumbers): number[] {
  const shape: number[] = [];
  for (let level = values; Array.isArray(level); level = level[0] as NestedNumbers) {
    shape.push(level.length);
    if (level.length === 0) break;
  }
  return shape;
}

function flattenNested(values: NestedNumbers, shape: readonly number[], into: number[], depth = 0): void {
  if (depth === shape.length) {
    if (typeof values !== 'number')
      throw new TypeError(`tensor: expected a number at depth ${depth}, got ${typeof values}`);
    into.push(values);
    return;
  }
  if (!Array.isArray(values) || values.length !== shape[depth])
    throw new RangeError(
      `tensor: ragged nested array: expected ${shape[depth]} entries at depth ${depth}, got ${Array.isArray(values) ? values.length : typeof values}`,
    );
  for (const inner of values) flattenNested(inner, shape, into, depth + 1);
}

/**
 * A tensor from nested arrays of numbers (f32 unless `dtype` says otherwise), or from a typed array with its `shape`.
 * The values are copied. Float64Array becomes f32, Uint8ClampedArray (canvas pixels) u8, BigInt arrays are refused. While a step is captured the values become a
 * constant of its program, which it keeps.
 *
 * Source: torch.tensor.
 *
 * @throws TypeError for values of another kind, RangeError for ragged arrays, a shape that does not fit, i32 or u8 values out of range
 * @example
 * ```ts
 * import { init, tensor } from 'feathermap';
 * await init();
 * const x = tensor([[0, 1], [2, 3]]);
 * const y = tensor(new Uint8Array(4), { shape: [2, 2] });
 * if (x.shape.join() !== '2,2' || y.dtype !== 'u8') throw new Error('wrong');
 * ```
 */
export function tensor(
  values: NestedNumbers | TypedArray | Float64Array | Uint8ClampedArray,
  options: TensorOptions = {},
): Tensor {
  checkOptions('tensor', options, TENSOR_OPTIONS);
  const { flat, shape, dtype } = interpret(unclamped<NestedNumbers | TypedArray | Float64Array>(values), options);
  const size = sizeOf(shape);
  if (flat.length !== size)
    throw new RangeError(`tensor: ${flat.length} values do not fill shape ${show(shape)}, which has ${size} elements`);
  if (dtype !== 'f32' && !isTypedArray(flat)) checkIntegers('tensor', flat, dtype);
  const result = allocateTensor(shape, dtype);
  // The program runs long after the scopes and steps that are open while it is captured.
  if (activeRecorder()) keep(result);
  writeValues(result, flat);
  return finish(result, options.requiresGrad);
}

interface Interpreted {
  flat: ArrayLike<number>;
  shape: readonly number[];
  dtype: DType;
}

function interpret(values: NestedNumbers | TypedArray | Float64Array, options: TensorOptions): Interpreted {
  if (options.shape !== undefined) checkShape('tensor', options.shape);
  if (options.dtype !== undefined) checkDType('tensor', options.dtype);
  if (isTypedArray(values) || values instanceof Float64Array) {
    const natural = values instanceof Int32Array ? 'i32' : values instanceof Uint8Array ? 'u8' : 'f32';
    const dtype = options.dtype ?? natural;
    const flat = dtype === natural ? values : Array.from<number>(values);
    return { flat, shape: [...(options.shape ?? [values.length])], dtype };
  }
  if (typeof values !== 'number' && !Array.isArray(values))
    throw new TypeError(
      `tensor: values must be numbers in nested arrays, a Float32Array, Float64Array, Int32Array or Uint8Array, got ${Object.prototype.toString.call(values)}`,
    );
  const nested = shapeOfNested(values);
  checkShape('tensor', nested);
  const flat: number[] = [];
  flattenNested(values, nested, flat);
  return { flat, shape: [...(options.shape ?? nested)], dtype: options.dtype ?? 'f32' };
}

type IntegerType = Exclude<DType, 'f32'>;

const LIMITS: Readonly<Record<IntegerType, readonly [number, number]>> = {
  i32: [-(2 ** 31), 2 ** 31 - 1],
  u8: [0, 255],
};

function holds(dtype: IntegerType, value: number): boolean {
  const [lo, hi] = LIMITS[dtype];
  return Number.isInteger(value) && value >= lo && value <= hi;
}

/** How errors say what an integer type holds. */
function wanted(dtype: IntegerType): string {
  const [lo, hi] = LIMITS[dtype];
  return `a whole number from ${lo} to ${hi}, as ${dtype} needs`;
}

function checkIntegers(op: string, values: ArrayLike<number>, dtype: IntegerType): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!holds(dtype, value)) throw new RangeError(`${op}: value ${value} at index ${i} is not ${wanted(dtype)}`);
  }
}

interface FullOptions {
  shape: readonly number[];
  dtype: DType;
  value: number;
}

const bits = new DataView(new ArrayBuffer(4));

/** The bits of `value`. */
function pattern(value: number, dtype: DType): number {
  if (dtype === 'f32') bits.setFloat32(0, value);
  else if (dtype === 'i32') bits.setInt32(0, value);
  else bits.setUint32(0, value & 255);
  return bits.getInt32(0);
}

/** Fills a new tensor with one value. */
export const fullOp: Op<FullOptions, FullOptions> = {
  name: 'full',
  infer: (_inputs, options) => ({ geometry: options, outputs: [{ shape: options.shape, dtype: options.dtype }] }),
  lower(emit, { value, dtype }, _inputs, [y]) {
    emitFill(emit, y!, value, dtype);
  },
  backward: { notDifferentiable: 'full has no tensor inputs' },
  saves: {},
};

/** Emits the command that fills a dense tensor with a value. */
export function emitFill(emit: Emitter, y: Tensor, value: number, dtype: DType): void {
  const { size: count } = y;
  const grid = { tiles: Math.ceil(count / FILL_TILE), work: count / 8 };
  emit.command(dtype === 'u8' ? fillBytes : fill, { y: locationOf(y), bits: pattern(value, dtype), count }, grid);
}

/**
 * A tensor filled with `value`. Source: torch.full.
 *
 * @throws RangeError for a bad shape or a value that the dtype cannot hold, TypeError for another kind
 * @example
 * ```ts
 * import { full, init } from 'feathermap';
 * await init();
 * if (full([2, 2], 7).data()[3] !== 7) throw new Error('wrong');
 * ```
 */
export function full(shape: readonly number[], value: number, options: CreateOptions = {}): Tensor {
  return filled('full', shape, value, options);
}

function filled(op: string, shape: readonly number[], value: number, options: CreateOptions): Tensor {
  checkOptions(op, options, CREATE_OPTIONS);
  checkShape(op, shape);
  const dtype = options.dtype ?? 'f32';
  checkDType(op, dtype);
  if (typeof value !== 'number') throw new TypeError(`${op}: value must be a number, got ${typeof value}`);
  if (dtype !== 'f32') checkIntegers(op, [value], dtype);
  const [y] = apply(fullOp, [], { shape: [...shape], dtype, value });
  return finish(y!, options.requiresGrad);
}

/**
 * A tensor of zeros. Source: torch.zeros.
 *
 * @throws as `full`
 * @example
 * ```ts
 * import { init, zeros } from 'feathermap';
 * await init();
 * if (zeros([3]).sum().item() !== 0) throw new Error('wrong');
 * ```
 */
export function zeros(shape: readonly number[], options: CreateOptions = {}): Tensor {
  return filled('zeros', shape, 0, options);
}

/**
 * A tensor of ones. Source: torch.ones.
 *
 * @throws as `full`
 * @example
 * ```ts
 * import { init, ones } from 'feathermap';
 * await init();
 * if (ones([3]).sum().item() !== 3) throw new Error('wrong');
 * ```
 */
export function ones(shape: readonly number[], options: CreateOptions = {}): Tensor {
  return filled('ones', shape, 1, options);
}

/**
 * Zeros in the shape of another tensor, and of its dtype unless `dtype` says otherwise. Source: torch.zeros_like.
 *
 * @throws as `full`; TypeError for what is no tensor
 * @example
 * ```ts
 * import { init, tensor, zerosLike } from 'feathermap';
 * await init();
 * if (zerosLike(tensor([[1, 2]])).shape.join() !== '1,2') throw new Error('wrong');
 * ```
 */
export function zerosLike(x: Tensor, options: CreateOptions = {}): Tensor {
  return filledLike('zerosLike', x, 0, options);
}

/**
 * Ones in the shape of another tensor, and of its dtype unless `dtype` says otherwise. Source: torch.ones_like.
 *
 * @throws as `full`; TypeError for what is no tensor
 * @example
 * ```ts
 * import { init, onesLike, tensor } from 'feathermap';
 * await init();
 * const x = tensor([3, 4], { requiresGrad: true });
 * x.mul(2).backward({ gradient: onesLike(x) });
 * if (x.grad.data().join() !== '2,2') throw new Error('wrong');
 * ```
 */
export function onesLike(x: Tensor, options: CreateOptions = {}): Tensor {
  return filledLike('onesLike', x, 1, options);
}

function filledLike(op: string, x: Tensor, value: number, options: CreateOptions): Tensor {
  checkReadable(op, x);
  checkOptions(op, options, CREATE_OPTIONS);
  const { dtype = x.dtype, requiresGrad } = options;
  return filled(op, x.shape, value, { dtype, requiresGrad });
}

interface RangeOptions {
  readonly length: number;
  readonly start: number;
  readonly step: number;
  readonly dtype: 'f32' | 'i32';
}

const arangeOp: Op<RangeOptions, RangeOptions> = {
  name: 'arange',
  infer: (_inputs, options) => ({ geometry: options, outputs: [{ shape: [options.length], dtype: options.dtype }] }),
  lower(emit, { length: count, start, step, dtype }, _inputs, [y]) {
    const grid = { tiles: Math.ceil(count / FILL_TILE), work: count };
    emit.command(dtype === 'f32' ? iota : iotaIntegers, { y: locationOf(y!), start, step, count }, grid);
  },
  backward: { notDifferentiable: 'arange has no tensor inputs' },
  saves: {},
};

type RangeArgument = number | CreateOptions | undefined;

/**
 * The numbers from `start` up to but not including `end`, `step` apart; `arange(n)` counts from 0. f32 unless `dtype` says
 * otherwise. The options are the last argument, wherever it stands. Source: torch.arange.
 *
 * @throws RangeError for a zero step, an infinite range, one that points away from `end`, or i32 and u8 values that are not
 *   whole or out of range; TypeError for arguments of another kind
 * @example
 * ```ts
 * import { arange, init } from 'feathermap';
 * await init();
 * if (arange(1, 7, 2).data().join() !== '1,3,5') throw new Error('wrong');
 * if (arange(3, { dtype: 'i32' }).data().join() !== '0,1,2') throw new Error('wrong');
 * ```
 */
export function arange(end: number, options?: CreateOptions): Tensor;
export function arange(start: number, end: number, options?: CreateOptions): Tensor;
export function arange(start: number, end: number | undefined, step?: number, options?: CreateOptions): Tensor;
export function arange(...args: RangeArgument[]): Tensor {
  const { start, step, length, options } = rangeOf(args);
  const dtype = options.dtype ?? 'f32';
  checkDType('arange', dtype);
  if (dtype !== 'f32' && length)
    for (const value of [start, start + Math.min(1, length - 1) * step, start + (length - 1) * step])
      if (!holds(dtype, value)) throw new RangeError(`arange: ${value} is not ${wanted(dtype)}`);
  // Bytes are 256 at most.
  if (dtype === 'u8')
    return tensor(
      Array.from({ length }, (_, i) => start + i * step),
      options,
    );
  const [y] = apply(arangeOp, [], { length, start, step, dtype });
  return finish(y!, options.requiresGrad);
}

/** Reads the arguments of `arange`: one, two or three numbers, then perhaps options. */
function rangeOf(args: RangeArgument[]): { start: number; step: number; length: number; options: CreateOptions } {
  const at = args.findIndex((each) => each !== undefined && typeof each !== 'number');
  const options = (at < 0 ? {} : args[at]) as CreateOptions;
  checkOptions('arange', options, CREATE_OPTIONS);
  const [first, second, step = 1] = (at < 0 ? args : args.slice(0, at)) as (number | undefined)[];
  const [start, end] = second === undefined ? [0, first] : [first, second];
  if (typeof start !== 'number' || typeof end !== 'number' || (at >= 0 && at < args.length - 1))
    throw new TypeError('arange: expected up to three numbers (start, end, step), then options');
  const length = Math.ceil((end - start) / step);
  if (!Number.isFinite(length) || length < 0)
    throw new RangeError(`arange: from ${start} to ${end} in steps of ${step} is not a finite range`);
  checkSize('arange', [length]);
  return { start, step, length, options };
}
