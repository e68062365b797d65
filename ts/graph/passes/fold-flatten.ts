// A pass over op calls: a channels-last image that is flattened for a dense layer stays where it is. The dense layer packs its
// weight in the image's order of features instead, which costs nothing when the program runs. The sums run in another order:
// results move by rounding, 1e-6 of the largest at most.
import type { MatmulGeometry } from '../../ops/matmul.ts';
import type { OpCall } from '../../tensor/op.ts';
import { isChannelsLast, isContiguous } from '../../tensor/shape.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { Flow } from './flow.ts';
import { fillsStorage } from './places.ts';

/** The calls with layout copies before dense layers folded into their weights. */
export function foldFlatten(calls: readonly OpCall[], outputs: readonly Tensor[]): OpCall[] {
  const flow = new Flow(calls, outputs);
  const folded = new Map<OpCall, OpCall>();
  const dropped = new Set<OpCall>();
  for (const call of calls) {
    const [image] = call.inputs;
    const [copy] = call.outputs;
    if (call.op.name !== 'relayout' || !isImage(image!) || !isContiguous(copy!.shape, copy!.strides)) continue;
    const readers = flow.readers(copy!);
    if (!flow.maker(copy!) || !readers?.length || !readers.every((reader) => flattens(reader, image!, flow))) continue;
    dropped.add(call);
    for (const reader of readers) folded.set(reader, reordered(reader, image!));
  }
  return calls.filter((call) => !dropped.has(call)).map((call) => folded.get(call) ?? call);
}

function isImage(x: Tensor): boolean {
  return isChannelsLast(x.shape, x.strides) && fillsStorage(x);
}

/** Whether a call is a dense layer whose rows are the images of a batch, and whose weight is a constant. */
function flattens({ op, inputs: [x, weight], geometry }: OpCall, image: Tensor, flow: Flow): boolean {
  if (op.name !== 'linear' || !fillsStorage(x!) || !isContiguous(x!.shape, x!.strides)) return false;
  const { m, k } = geometry as MatmulGeometry;
  const [n, c, h, w] = image.shape as readonly [number, number, number, number];
  return m === n && k === c * h * w && weight!.storage !== x!.storage && flow.maker(weight!) === null;
}

/** The dense layer, reading the image as it lies in memory. */
function reordered(call: OpCall, image: Tensor): OpCall {
  const { m, k, ...rest } = call.geometry as MatmulGeometry;
  const [, channels, height, width] = image.shape as readonly [number, number, number, number];
  const x = new Tensor({ storage: image.storage, shape: [m, k], dtype: image.dtype, strides: [k, 1] });
  const geometry: MatmulGeometry = { ...rest, m, k, image: { channels, pixels: height * width } };
  return { ...call, geometry, inputs: [x, ...call.inputs.slice(1)] };
}
