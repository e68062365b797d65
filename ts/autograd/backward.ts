// Reverse-mode differentiation: walks the tape from the newest node to the oldest and sums what flows back.
import { add } from '../ops/elementwise.ts';
import { activeRecorder } from '../tensor/apply.ts';
import { checkOptions, ones } from '../tensor/create.ts';
import { duringBackward, endStep } from '../tensor/lifetime.ts';
import type { Operand } from '../tensor/op.ts';
import { show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { accumulate, accumulateInGraph, checkGradient } from './gradient.ts';
import { enableGrad, noGrad } from './mode.ts';
import './tape.ts';
import type { Edge, Node, TapeOrigin } from './tape.ts';

/** Options of `backward`. */
export interface BackwardOptions {
  /** Gradient of the tensor itself; needed unless it has one element. */
  gradient?: Tensor | undefined;
  /** Keeps what the graph saved, so that backward can be called on it again. Default false. */
  retainGraph?: boolean | undefined;
  /** Records the backward pass itself, so that the `.grad` it leaves can be differentiated again. Default false. */
  createGraph?: boolean | undefined;
}

/** Gradients that wait at the outputs of a node. */
type Pending = Map<Node, Operand[]>;

/** Told when a hook runs: a captured step cannot contain one. */
let hookObserver: () => void = () => {};

/** Registers who must know that a hook runs. */
export function observeHooks(observer: () => void): void {
  hookObserver = observer;
}

/**
 * Computes the gradients of `root` with respect to all leaves that require them and adds them to their `.grad`.
 *
 * Source: torch.Tensor.backward.
 *
 * @throws Error if nothing requires gradients, if the graph was already freed, or if a saved tensor was changed in place;
 *   RangeError if `root` has several elements and no `gradient`, or one of another shape
 * @example
 * ```ts
 * import { backward, init, tensor } from 'feathermap';
 * await init();
 * const w = tensor([1, 2], { requiresGrad: true });
 * backward(w.mul(w).sum());
 * if (w.grad.data().join() !== '2,4') throw new Error('wrong');
 * ```
 */
export function backward(root: Tensor, options: BackwardOptions = {}): void {
  checkOptions('backward', options, ['gradient', 'retainGraph', 'createGraph']);
  const { retainGraph = options.createGraph ?? false, createGraph = false } = options;
  if (!root.requiresGrad)
    throw new Error(`backward: ${root} does not require gradients: no parameter with requiresGrad led to it`);
  const seed = seedGradient(root, options.gradient);
  const walk = new Walk(createGraph ? accumulateInGraph : accumulate);
  const mode = createGraph ? enableGrad : noGrad;
  duringBackward(() => mode(() => walk.from(root, seed)));
  if (!retainGraph) for (const node of walk.visited) node.release();
  if (!activeRecorder()) endStep(walk.key(), retainGraph);
}

function seedGradient(root: Tensor, gradient: Tensor | undefined): Tensor {
  if (gradient) {
    checkGradient('backward', gradient, root);
    return gradient;
  }
  if (root.size !== 1)
    throw new RangeError(
      `backward: ${show(root.shape)} has ${root.size} elements; reduce it to one (sum, mean) or pass a gradient`,
    );
  return ones(root.shape);
}

class Walk {
  readonly visited: Node[] = [];
  readonly #leaves = new Set<Tensor>();
  readonly #pending: Pending = new Map();
  /** Leaves with hooks wait for the end: a hook sees the whole gradient, once. */
  readonly #hooked = new Map<Tensor, Tensor>();
  readonly #accumulate: (leaf: Tensor, gradient: Tensor) => void;

  constructor(accumulate: (leaf: Tensor, gradient: Tensor) => void) {
    this.#accumulate = accumulate;
  }

  from(root: Tensor, seed: Tensor): void {
    const origin = root.origin as TapeOrigin | null;
    this.#send(origin ?? { leaf: root }, seed);
    if (origin) for (const node of descending(origin.node)) this.#visit(node);
    for (const [leaf, gradient] of this.#hooked) this.#accumulate(leaf, runHooks(leaf, gradient));
  }

  /** Names the leaves reached: two steps over the same parameters have the same key. */
  key(): string {
    return [...this.#leaves]
      .map((leaf) => leaf.storage.id)
      .sort((a, b) => a - b)
      .join();
  }

  #visit(node: Node): void {
    this.visited.push(node);
    for (const { storage } of node.outputs) storage.inGraph = true;
    const gradients = this.#pending.get(node);
    if (!gradients) return;
    this.#pending.delete(node);
    gradients.forEach((gradient, i) => {
      if (gradient) gradients[i] = runHooks(node.outputs[i]!, gradient);
    });
    const results = differentiate(node, gradients);
    node.edges.forEach((edge, i) => {
      if (edge && results[i]) this.#send(edge, results[i]);
    });
  }

  #send(edge: Edge, gradient: Tensor): void {
    if ('leaf' in edge) {
      this.#reach(edge.leaf, gradient);
      return;
    }
    let waiting = this.#pending.get(edge.node);
    if (!waiting) this.#pending.set(edge.node, (waiting = edge.node.outputs.map(() => null)));
    const before = waiting[edge.output];
    waiting[edge.output] = before ? add(before, gradient) : gradient;
  }

  #reach(leaf: Tensor, gradient: Tensor): void {
    this.#leaves.add(leaf);
    if (!leaf.hooks?.length) {
      this.#accumulate(leaf, gradient);
      return;
    }
    const before = this.#hooked.get(leaf);
    this.#hooked.set(leaf, before ? add(before, gradient) : gradient);
  }
}

/** All nodes that lead to `last`, newest first. */
function descending(last: Node): Node[] {
  const seen = new Set([last]);
  for (const node of seen) for (const edge of node.edges) if (edge && 'node' in edge) seen.add(edge.node);
  return [...seen].sort((a, b) => b.sequence - a.sequence);
}

function differentiate(node: Node, gradients: readonly Operand[]): readonly Operand[] {
  const { op, geometry } = node.call;
  if ('notDifferentiable' in op.backward) throw new Error(`backward: ${op.name}: ${op.backward.notDifferentiable}`);
  const { inputs, outputs } = node.unpack();
  const needs = node.edges.map((edge) => edge !== null);
  return op.backward({ geometry, inputs, outputs: outputs as Tensor[], gradients, needs });
}

function runHooks(tensor: Tensor, gradient: Tensor): Tensor {
  let result = gradient;
  if (tensor.hooks?.length) hookObserver();
  for (const hook of tensor.hooks ?? []) {
    const replacement = hook(result);
    if (replacement === undefined) continue;
    checkGradient('registerHook', replacement, tensor);
    result = replacement;
  }
  if (tensor.retainsGrad && tensor.origin) tensor.gradient = result;
  return result;
}
