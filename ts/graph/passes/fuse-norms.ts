// A pass over training steps: the addition of a residual branch and the clamp behind a batch normalisation are computed with it, and
// the backward of that clamp with the backward of the normalisation, where nothing else reads what lies between. Each number is
// rounded as before, so the bits do not change.
import type { BatchNormBackwardGeometry } from '../../ops/batch-norm-backward.ts';
import type { BatchNormGeometry } from '../../ops/batch-norm-geometry.ts';
import type { OpCall } from '../../tensor/op.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { Flow } from './flow.ts';
import { activationBounds, type Bounds, isBounded, RESIDUAL } from './operands.ts';
import { inStorage, samePlaces } from './places.ts';

/** Places of the arriving gradient and of the clamped result among the operands of `batchNormBackward`. */
const GRADIENT = 0;
const CLAMPED = 5;

/** The bounds at which a gradient is stopped. No number is at NaN or beyond it: relu passes the gradient of an infinite y too. */
function stopOf({ op, geometry }: OpCall): Bounds | null {
  if (op.name === 'reluBackward') return { lo: 0, hi: Number.NaN };
  return op.name === 'hardtanhBackward' ? (geometry as Bounds) : null;
}

/** The calls with normalisations that do more at once. */
export function fuseNorms(calls: readonly OpCall[], outputs: readonly Tensor[]): OpCall[] {
  return fuseBackward(fuseForward(calls, outputs), outputs);
}

function fuseForward(calls: readonly OpCall[], outputs: readonly Tensor[]): readonly OpCall[] {
  const flow = new Flow(calls, outputs);
  const positions = new Map(calls.map((call, position) => [call, position]));
  const fused = new Map<OpCall, OpCall>();
  /** Calls that went into a normalisation, and into which. */
  const gone = new Map<OpCall, OpCall>();
  /** The normalisation that alone makes `x` for this reader, if `x` is its latest result. */
  const normOf = (x: Tensor, reader: OpCall): OpCall | null => {
    const maker = flow.soleReader(x) === reader ? flow.maker(x) : null;
    const root = maker && (gone.get(maker) ?? maker);
    if (root?.op.name !== 'batchNorm') return null;
    const [y] = (fused.get(root) ?? root).outputs;
    return y!.storage === x.storage && !isBounded(root) ? root : null;
  };
  const extend = (root: OpCall, by: OpCall, change: (norm: OpCall) => OpCall): void => {
    const norm = fused.get(root) ?? root;
    const [y, ...moments] = norm.outputs;
    fused.set(root, { ...change(norm), outputs: [inStorage(y!, by.outputs[0]!.storage), ...moments] });
    gone.set(by, root);
  };
  for (const call of calls) {
    const [a, b] = call.inputs;
    const [y] = call.outputs;
    const bounds = activationBounds(call);
    const norm = bounds && samePlaces(a!, y!) ? normOf(a!, call) : null;
    if (norm && !isBounded(fused.get(norm) ?? norm))
      extend(norm, call, (before) => ({
        ...before,
        geometry: { ...(before.geometry as BatchNormGeometry), ...bounds },
      }));
    if (call.op.name !== 'add' || !samePlaces(a!, y!) || !samePlaces(b!, y!)) continue;
    const [later] = [
      { root: normOf(a!, call), residual: b! },
      { root: normOf(b!, call), residual: a! },
    ]
      .filter((each): each is { root: OpCall; residual: Tensor } => {
        const at = each.root ? positions.get(each.root)! : -1;
        return at >= 0 && !fused.has(each.root!) && !flow.changes(each.residual, at, positions.get(call)!);
      })
      .sort((one, two) => positions.get(two.root)! - positions.get(one.root)!);
    if (!later) continue;
    extend(later.root, call, (before) => ({
      ...before,
      inputs: before.inputs.map((input, i) =>
        i === RESIDUAL ? inStorage(before.outputs[0]!, later.residual.storage) : input,
      ),
    }));
  }
  return calls.filter((call) => !gone.has(call)).map((call) => fused.get(call) ?? call);
}

function fuseBackward(calls: readonly OpCall[], outputs: readonly Tensor[]): OpCall[] {
  const flow = new Flow(calls, outputs);
  const gone = new Set<OpCall>();
  const rest = calls.map((call, position) => {
    const { [GRADIENT]: dy, 1: x, [CLAMPED]: clamped } = call.inputs;
    if (call.op.name !== 'batchNormBackward' || clamped || flow.soleReader(dy!) !== call) return call;
    const stop = flow.maker(dy!);
    const bounds = stop && stopOf(stop);
    if (!bounds) return call;
    const [arriving, y] = stop.inputs as [Tensor, Tensor];
    const from = calls.indexOf(stop);
    const alike = [arriving, y, x!].every((operand) => samePlaces(operand, dy!));
    if (!alike || flow.changes(arriving, from, position) || flow.changes(y, from, position)) return call;
    gone.add(stop);
    const geometry = { ...(call.geometry as BatchNormBackwardGeometry), ...bounds };
    const inputs = call.inputs.map((input, i) => (i === GRADIENT ? arriving : i === CLAMPED ? y : input));
    return { ...call, geometry, inputs };
  });
  return rest.filter((call) => !gone.has(call));
}
