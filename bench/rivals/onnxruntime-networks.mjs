// ONNX Runtime on whole networks: in wasm (onnxruntime-web) or native (onnxruntime-node). From an array of pixels to an array of logits.

import { timedAsync } from '../measure.mjs';
import { folded, network } from '../networks.mjs';
import { images } from '../weights.mjs';
import { onnxNetwork } from './onnx-network.mjs';

/** @param {{ native?: boolean, threads?: number }} options */
export async function start({ native = false, threads = 1 }) {
  const ort = await (native ? import('onnxruntime-node') : import('onnxruntime-web/wasm')).catch(() => null);
  if (!ort) return null;
  const { InferenceSession, Tensor, env } = ort.default ?? ort;
  if (!native) env.wasm.numThreads = threads;
  const session = {
    executionProviders: [native ? 'cpu' : 'wasm'],
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3, // errors
    ...(native && { intraOpNumThreads: threads, interOpNumThreads: 1 }),
  };
  return {
    version: (native ? env.versions.node : env.versions.web) ?? env.versions.common,
    prepare: ({ network: name, batch }) => prepare(InferenceSession, Tensor, session, name, batch),
  };
}

async function prepare(InferenceSession, Tensor, options, name, batch) {
  const { input } = network(name);
  const session = await InferenceSession.create(onnxNetwork(folded(network(name)), batch), options);
  const pixels = images(batch, input);
  const run = async () => (await session.run({ x: new Tensor('float32', pixels, [batch, ...input]) })).y.data;
  return {
    sample: timedAsync(run),
    answer: async () => [...(await run())],
  };
}
