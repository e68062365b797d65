// What a convolution and its two gradients know about each other, and what their lowering is given.
import type { Emitter } from '../runtime/command.ts';
import type { Operand } from '../tensor/op.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { WindowAxis } from './window.ts';

export type Four = readonly [number, number, number, number];

/**
 * How a convolution is computed: as a matrix product, channel by channel, or by Winograd's algorithm in squares of 4 x 4 outputs,
 * F(4x4, 3x3), or of 2 x 2, F(2x2, 3x3) and F(2x2, 5x5).
 */
export type Conv2dAlgorithm = 'direct' | 'depthwise' | 'winograd4' | 'winograd2';

/** What all three know: shapes [N,C,H,W], [O,C/groups,KH,KW], [N,O,OH,OW] and where the windows lie. */
export interface Conv2dGeometry {
  readonly x: Four;
  readonly weight: Four;
  readonly y: Four;
  readonly rows: WindowAxis;
  readonly columns: WindowAxis;
  readonly groups: number;
  readonly algorithm: Conv2dAlgorithm;
  /** Bounds of the output: an activation fused by compile. */
  readonly lo: number;
  readonly hi: number;
  /** Multiply-adds, those with padding included. */
  readonly macs: number;
}

/** Operands of y = clamp(conv(x, weight * scale) + bias + residual, lo, hi); only compile makes scale and residual. */
export interface ForwardOperands {
  readonly y: Tensor;
  /** With its channels inside. */
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias: Operand;
  /** Shape and strides of y. */
  readonly residual: Operand;
  /** One factor per output channel. */
  readonly scale: Operand;
}

/** Operands of the input gradient: dy with its channels inside. */
export interface InputGradOperands {
  readonly dx: Tensor;
  readonly dy: Tensor;
  readonly weight: Tensor;
}

/** Operands of the weight gradient: x with its channels inside, dy channels-last. */
export interface WeightGradOperands {
  readonly dw: Tensor;
  readonly x: Tensor;
  readonly dy: Tensor;
}

/** An algorithm: what it can compute. */
export interface Conv2dEmitters {
  forward(emit: Emitter, geometry: Conv2dGeometry, operands: ForwardOperands): void;
  inputGrad?(emit: Emitter, geometry: Conv2dGeometry, operands: InputGradOperands): void;
  weightGrad?(emit: Emitter, geometry: Conv2dGeometry, operands: WeightGradOperands): void;
}
