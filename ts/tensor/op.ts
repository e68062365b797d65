// What an op is: one record that says everything about it. ts/ops/ holds one file per family of them.
import type { Emitter } from '../runtime/command.ts';
import type { DType } from './dtype.ts';
import type { Tensor } from './tensor.ts';

/** An operand; null where an optional one is absent. */
export type Operand = Tensor | null;

/** What an output will be. */
export interface OutputSpec {
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Default row-major. */
  readonly strides?: readonly number[];
  /** Set for a view: it shares the storage of this input and starts `offset` elements into it. */
  readonly view?: { readonly input: number; readonly offset: number };
}

/** What `infer` returns: the geometry for lower and backward, and the outputs. */
export interface Inferred<Geometry> {
  readonly geometry: Geometry;
  readonly outputs: readonly OutputSpec[];
}

/** What a backward rule is given. Only what the op lists in `saves` may be read from `inputs` and `outputs`. */
export interface BackwardContext<Geometry> {
  readonly geometry: Geometry;
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Tensor[];
  /** Gradient of each output; null where none arrived. At least one is there. */
  readonly gradients: readonly Operand[];
  /** Which inputs want a gradient. */
  readonly needs: readonly boolean[];
}

/** The rule: one gradient per input, null where it is not needed or not defined. Built from op calls, so it can itself be captured. */
export type BackwardRule<Geometry> = (context: BackwardContext<Geometry>) => readonly Operand[];

/** Says aloud that an op has no gradient, and why. */
export interface NotDifferentiable {
  readonly notDifferentiable: string;
}

/** An op: its checks, its commands, its gradient. */
export interface Op<Options, Geometry> {
  /** As in the public function: `conv2d`. */
  readonly name: string;
  /** Validates and returns the geometry: the only place that throws before a run. */
  infer(inputs: readonly Operand[], options: Options): Inferred<Geometry>;
  /** Emits the commands. Inputs and outputs are trusted; outputs that are views need none. */
  lower(emit: Emitter, geometry: Geometry, inputs: readonly Operand[], outputs: readonly Tensor[]): void;
  readonly backward: BackwardRule<Geometry> | NotDifferentiable;
  /** Which inputs and outputs backward reads. */
  readonly saves: { readonly inputs?: readonly number[]; readonly outputs?: readonly number[] };
  /** Inputs that are changed in place (copy_, the optimiser): their version is raised. */
  readonly mutates?: readonly number[];
}

/** An op with its arguments: what capture records and passes rewrite. */
export interface OpCall {
  readonly op: Op<unknown, unknown>;
  readonly options: unknown;
  readonly geometry: unknown;
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Tensor[];
  /** Path of the module that made the call, e.g. `features.3`. */
  readonly module: string;
}
