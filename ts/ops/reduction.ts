// The geometry of reductions: which kernel walks the tensor how, and into how many parts it is cut. See assembly/reduce.ts.
import { COLUMN_BLOCK, COLUMN_SCRATCH } from '../generated/kernels.ts';
import type { Emitter, Grid, Kernel, Location } from '../runtime/command.ts';
import { normalizeDim, sizeOf } from '../tensor/shape.ts';

/** A dimension on its way through the plan: extent, stride in y (kept ones only) and in x. */
interface Dim {
  readonly size: number;
  readonly y: number;
  readonly x: number;
}

/** How a kernel is to walk. */
export interface ReductionPlan {
  /** Whether neighbouring outputs are computed together, or one output at a time. */
  readonly columns: boolean;
  /** Record fields and table of the kernel. */
  readonly walk: {
    readonly kept: number;
    readonly reduced: number;
    readonly outputs: number;
    readonly block: number;
    readonly chunk: number;
  };
  readonly table: readonly number[];
  readonly tiles: number;
  /** Elements per output. */
  readonly count: number;
  /** Outputs, parts not counted. */
  readonly outputs: number;
  /** 1, or how many partial results each output has; a second reduction over [parts, outputs] makes them one. */
  readonly parts: number;
  /** Strides of y along all dimensions of x, 0 along the reduced ones. */
  readonly strides: readonly number[];
}

/** What may be asked of a plan. */
export interface PlanOptions {
  /** Keeps the reduced dimensions in logical order, because positions are counted. */
  readonly ordered?: boolean;
  /** Whether long reductions are cut into parts. Default true. */
  readonly split?: boolean;
  /** Whether there is a kernel that computes neighbouring outputs together. Default true. */
  readonly byColumns?: boolean;
}

/** Elements per tile: some 10 us of adding. */
const TILE_ELEMENTS = 32768;
/** Elements per part of a long reduction. */
const PART_ELEMENTS = 65536;
/** A reduction that has this many tiles anyway is not cut into parts. */
const ENOUGH_TILES = 32;

/** Axes in the order in which memory is walked: largest stride first, repeated ones (stride 0) before all. */
function bySteps(axes: readonly number[], strides: readonly number[]): number[] {
  const step = (axis: number): number => strides[axis] || Number.MAX_SAFE_INTEGER;
  return [...axes].sort((a, b) => step(b) - step(a));
}

/** Drops extents of 1 and merges neighbours that are one run. */
function merge(dims: readonly Dim[]): Dim[] {
  const merged: Dim[] = [];
  for (const dim of dims) {
    const outer = merged.at(-1);
    if (dim.size === 1) continue;
    if (outer && outer.x === dim.size * dim.x && outer.y === dim.size * dim.y)
      merged[merged.length - 1] = { size: outer.size * dim.size, y: dim.y, x: dim.x };
    else merged.push(dim);
  }
  return merged;
}

/** Plans the reduction of a tensor over `axes`. The outputs lie in memory in the order in which the inputs do. */
export function planReduction(
  shape: readonly number[],
  strides: readonly number[],
  axes: readonly number[],
  options: PlanOptions = {},
): ReductionPlan {
  const yStrides = shape.map(() => 0);
  const dims = (order: readonly number[]): Dim[] =>
    merge(order.map((axis) => ({ size: shape[axis]!, y: yStrides[axis]!, x: strides[axis]! })));
  const outer = bySteps(
    shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis)),
    strides,
  );
  let outputs = 1;
  for (const axis of [...outer].reverse()) {
    yStrides[axis] = outputs;
    outputs *= shape[axis]!;
  }
  const count = sizeOf(axes.map((axis) => shape[axis]!));
  const reduced = count === 0 ? [{ size: 0, y: 0, x: 1 }] : dims(options.ordered ? axes : bySteps(axes, strides));
  if (!reduced.length) reduced.push({ size: 1, y: 0, x: 0 });
  return finishPlan(dims(outer), reduced, { outputs, count, strides: yStrides }, options);
}

interface Sizes {
  readonly outputs: number;
  readonly count: number;
  readonly strides: readonly number[];
}

function finishPlan(
  kept: Dim[],
  reduced: Dim[],
  { outputs, count, strides }: Sizes,
  options: PlanOptions,
): ReductionPlan {
  const { split = true, byColumns = true } = options;
  const last = kept.at(-1);
  const columns = byColumns && last?.x === 1 && last.y === 1 && reduced.at(-1)!.x !== 1;
  const width = columns ? last!.size : 1;
  const block = columns
    ? Math.min(COLUMN_BLOCK, (width + 3) & ~3)
    : Math.max(1, Math.floor(TILE_ELEMENTS / Math.max(1, count)));
  const tilesOf = (all: number): number =>
    columns ? (all / width) * Math.ceil(width / block) : Math.ceil(all / block);
  const perIndex = (count / Math.max(1, reduced[0]!.size)) * Math.min(width, block);
  const wanted = Math.ceil(PART_ELEMENTS / Math.max(1, perIndex));
  const long = split && tilesOf(outputs) < ENOUGH_TILES && count * outputs > 2 * PART_ELEMENTS;
  const chunk = long && wanted < reduced[0]!.size ? wanted : 0;
  const parts = chunk ? Math.ceil(reduced[0]!.size / chunk) : 1;
  if (chunk) kept = [{ size: parts, y: outputs, x: chunk * reduced[0]!.x }, ...kept];
  const table = [...kept.flatMap(({ size, y, x }) => [size, y, x]), ...reduced.flatMap(({ size, x }) => [size, x])];
  const walk = { kept: kept.length, reduced: reduced.length, outputs: outputs * parts, block, chunk };
  return { columns, walk, table, tiles: outputs ? tilesOf(outputs * parts) : 0, count, outputs, parts, strides };
}

/** Record fields that every reduction has. */
export interface ReductionRecord {
  readonly y: Location;
  readonly x: Location;
  readonly dims: Location;
  readonly kept: number;
  readonly reduced: number;
  readonly outputs: number;
  readonly block: number;
  readonly chunk: number;
}

/** The kernels of one reduction, for both walks. A reduction without one by columns is planned without `byColumns`. */
export interface ReductionKernels<Extra> {
  readonly rows: Kernel<ReductionRecord & Extra>;
  readonly columns: Kernel<ReductionRecord & Extra>;
  /** Nanoseconds per element. */
  readonly cost: number;
}

/** Emits one pass: the whole reduction if the plan has one part, else the partial results, [parts, outputs], into y. */
export function emitPass<Extra>(
  emit: Emitter,
  { rows, columns, cost }: ReductionKernels<Extra>,
  plan: ReductionPlan,
  operands: { readonly y: Location; readonly x: Location } & Extra,
): void {
  const { walk, tiles, count } = plan;
  const grid: Grid = { tiles, work: plan.outputs * count * cost, scratch: plan.columns ? COLUMN_SCRATCH : 0 };
  emit.command(plan.columns ? columns : rows, { ...operands, ...walk, dims: emit.table(plan.table) }, grid);
}

/** The second pass of a plan with parts: over [parts, outputs]. */
export function planParts({ parts, outputs }: ReductionPlan, options: PlanOptions = {}): ReductionPlan {
  return planReduction([parts, outputs], [outputs, 1], [0], { ...options, split: false });
}

/** The axes that an option `dim` names: one, several, or all, as an empty list does in PyTorch. Throws for one out of range or named twice. */
export function axesOf(op: string, dim: number | readonly number[] | undefined, rank: number): number[] {
  if (dim === undefined || (Array.isArray(dim) && !dim.length)) return Array.from({ length: rank }, (_, axis) => axis);
  const axes = (typeof dim === 'number' ? [dim] : [...dim]).map((each) => normalizeDim(op, each, rank));
  if (new Set(axes).size !== axes.length) throw new RangeError(`${op}: dim [${String(dim)}] names a dimension twice`);
  return axes.filter((axis) => axis < rank).sort((a, b) => a - b);
}

/** Shape of the result. */
export function reducedShape(shape: readonly number[], axes: readonly number[], keepdim: boolean): number[] {
  return keepdim
    ? shape.map((extent, axis) => (axes.includes(axis) ? 1 : extent))
    : shape.filter((_, axis) => !axes.includes(axis));
}

/** Strides of the result. */
export function reducedStrides({ strides }: ReductionPlan, axes: readonly number[], keepdim: boolean): number[] {
  return keepdim
    ? strides.map((stride, axis) => (axes.includes(axis) ? 1 : stride))
    : strides.filter((_, axis) => !axes.includes(axis));
}
