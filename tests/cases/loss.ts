// Losses: loss.json, with the numbers and tolerances that belong to it.
import type { Tolerance } from '../reference/compare.ts';
import type { CrossEntropyOptions, Reduction } from '../reference/loss.ts';
import { type FillOptions, integers, type Shape, sizeOf, upstream, values } from '../reference/values.ts';
import table from './loss.json' with { type: 'json' };

/** Logits [N, C, ...]; `ignored` says how many of the targets are the ignoreIndex. */
export interface CrossEntropyTask extends FillOptions {
  name: string;
  x: Shape;
  ignored?: 'some' | 'all';
  options: CrossEntropyOptions;
}

export const crossEntropyCases: readonly CrossEntropyTask[] = table.crossEntropy as CrossEntropyTask[];

/** Everything that goes in. `dy` is the single number 1 unless the loss is not reduced. */
export interface CrossEntropyInputs {
  x: Float32Array;
  target: Int32Array;
  targetShape: Shape;
  dy: Float32Array;
}

export function crossEntropyInputs(task: CrossEntropyTask): CrossEntropyInputs {
  const name = `crossEntropy/${task.name}`;
  const [batch, classes, ...rest] = task.x as [number, number, ...number[]];
  const targetShape = [batch, ...rest];
  const every = { some: 3, all: 1 };
  const target = Int32Array.from(integers(`${name}/target`, sizeOf(targetShape), 0, classes - 1), (label, i) =>
    task.ignored && i % every[task.ignored] === 0 ? (task.options.ignoreIndex ?? label) : label,
  );
  const dy = task.options.reduction === 'none' ? upstream(name, targetShape) : Float32Array.of(1);
  return { x: values(`${name}/x`, task.x, task), target, targetShape, dy };
}

export interface MseLossTask {
  name: string;
  x: Shape;
  options: { reduction?: Reduction };
}

export const mseLossCases: readonly MseLossTask[] = table.mseLoss as MseLossTask[];

export function mseLossInputs(task: MseLossTask): { x: Float32Array; target: Float32Array; dy: Float32Array } {
  const name = `mseLoss/${task.name}`;
  const dy = task.options.reduction === 'none' ? upstream(name, task.x) : Float32Array.of(1);
  return { x: values(`${name}/x`, task.x), target: values(`${name}/target`, task.x), dy };
}

export const lossTolerance: Tolerance = { c: 4, terms: 4 };
