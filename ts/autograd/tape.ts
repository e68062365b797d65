// The tape: every op call that a gradient may flow through becomes a node that knows where its inputs came from.
import { setTape } from '../tensor/apply.ts';
import { useInGraph } from '../tensor/lifetime.ts';
import type { OpCall, Operand } from '../tensor/op.ts';
import type { Origin, Tensor } from '../tensor/tensor.ts';
import { isGradEnabled } from './mode.ts';

/** Where the gradient of an input goes: to the node that made it, or into a leaf. */
export type Edge = { readonly node: Node; readonly output: number } | { readonly leaf: Tensor };

/** A tensor that backward reads, with the version it had. */
interface Saved {
  readonly tensor: Tensor;
  readonly version: number;
}

let nextSequence = 0;

/** One op call on the tape. */
export class Node {
  readonly call: Pick<OpCall, 'op' | 'geometry' | 'module'>;
  /** Later calls have higher numbers: descending order is a topological order. */
  readonly sequence: number = nextSequence++;
  readonly edges: readonly (Edge | null)[];
  /** The outputs, for their hooks. */
  readonly outputs: readonly Tensor[];
  #inputs: readonly (Saved | null)[] | null;
  #saved: readonly (Saved | null)[] | null;

  constructor(call: OpCall) {
    const { op, geometry, module, inputs, outputs } = call;
    this.call = { op, geometry, module };
    this.edges = inputs.map(edgeTo);
    this.outputs = outputs;
    this.#inputs = inputs.map((input, i) => (op.saves.inputs?.includes(i) ? save(input) : null));
    this.#saved = outputs.map((output, i) => (op.saves.outputs?.includes(i) ? save(output) : null));
  }

  /** What the backward rule may read. Throws if it was freed or has changed since. */
  unpack(): { inputs: Operand[]; outputs: Operand[] } {
    if (!this.#inputs || !this.#saved)
      throw new Error(
        `backward: the saved tensors of ${this.call.op.name} are freed after the first backward(); pass { retainGraph: true } to walk the graph again`,
      );
    const open = (saved: Saved | null): Operand => {
      if (saved && saved.tensor.storage.version !== saved.version)
        throw new Error(
          `backward: ${saved.tensor}, saved by ${this.call.op.name}, was changed in place since (version ${saved.tensor.storage.version}, expected ${saved.version})`,
        );
      return saved?.tensor ?? null;
    };
    return { inputs: this.#inputs.map(open), outputs: this.#saved.map(open) };
  }

  /** Lets go of what was saved. */
  release(): void {
    this.#inputs = this.#saved = null;
  }
}

function save(tensor: Operand): Saved | null {
  return tensor && { tensor, version: tensor.storage.version };
}

/** A tensor's place on the tape. */
export class TapeOrigin implements Origin {
  readonly node: Node;
  readonly output: number;
  constructor(node: Node, output: number) {
    this.node = node;
    this.output = output;
  }
}

function edgeTo(input: Operand): Edge | null {
  if (!input?.requiresGrad) return null;
  const origin = input.origin as TapeOrigin | null;
  return origin ?? { leaf: input };
}

setTape({
  before(op, inputs) {
    if (!op.mutates || !isGradEnabled()) return;
    for (const i of op.mutates)
      if (inputs[i]?.requiresGrad)
        throw new Error(
          `${op.name}: ${inputs[i]} needs gradients and cannot be changed in place while they are recorded; use noGrad(() => ...) or detach()`,
        );
  },
  after(call) {
    if (!isGradEnabled() || 'notDifferentiable' in call.op.backward) return;
    if (!call.inputs.some((input) => input?.requiresGrad)) return;
    const node = new Node(call);
    for (const input of call.inputs) if (input) useInGraph(input.storage);
    call.outputs.forEach((output, i) => {
      if (output.dtype === 'f32') output.origin = new TapeOrigin(node, i);
    });
  },
});
