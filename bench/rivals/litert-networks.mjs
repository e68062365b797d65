// LiteRT.js (XNNPACK in wasm) on whole networks, in a page. From an array of pixels (NHWC, as its models are) to an array of logits.

import { loadAndCompile, loadLiteRt, Tensor } from '@litertjs/core';
import { timedAsync } from '../measure.mjs';
import { folded, network } from '../networks.mjs';
import { permute } from '../values.mjs';
import { images } from '../weights.mjs';
import { tfliteNetwork } from './tflite-network.mjs';

/** @param {{ wasm: string }} options  address of the folder with its .wasm files */
export async function start({ wasm }) {
  await loadLiteRt(wasm);
  return { version: '', prepare: ({ network: name, batch }) => prepare(name, batch) };
}

async function prepare(name, batch) {
  const { input } = network(name);
  const model = await loadAndCompile(tfliteNetwork(folded(network(name)), batch), {
    accelerator: 'wasm',
    cpuOptions: { numThreads: 1 },
  });
  const [channels, height, width] = input;
  const pixels = permute(images(batch, input), [batch, channels, height, width], [0, 2, 3, 1]);
  const run = async () => {
    const x = new Tensor(pixels, [batch, height, width, channels]);
    const [y] = await model.run(x);
    const values = await y.data();
    x.delete();
    y.delete();
    return values;
  };
  return { sample: timedAsync(run), answer: async () => [...(await run())] };
}
