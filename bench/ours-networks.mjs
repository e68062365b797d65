// feathermap on whole networks, through the public API. From an array of pixels to an array of logits; a training step from resident images.

import * as f from 'feathermap';
import { alexnet, lenet, mobilenetV2, resnet18, resnet50, vgg16 } from 'feathermap/models';
import { timed } from './measure.mjs';
import { labels } from './values.mjs';
import { images, parameter } from './weights.mjs';

/** @param {{ threads?: number, build?: string, wide?: boolean }} options  `wide`: 256-bit mode */
export async function start({ threads = 1, build = 'auto', wide = false }) {
  await f.init({ threads, build, experimentalSimd256: wide });
  const { build: chosen, vectorBits, simd256Fallback } = f.engineInfo();
  if (wide && vectorBits !== 256) throw new Error(simd256Fallback);
  return { version: `${chosen}, ${vectorBits}-bit vectors`, prepare: (work) => WORKS[work.kind](work) };
}

const WORKS = { network: inference, networkTrain: trainingStep };

/** Of those that are trained none has random parts. */
export const ZOO = { lenet, alexnet, vgg16, resnet18, resnet50, mobilenetV2: () => mobilenetV2({ dropout: 0 }) };

/** The model with the weights of the formula. */
function model(name) {
  const net = ZOO[name]();
  for (const [key, { shape }] of Object.entries(net.stateDict())) {
    if (key.endsWith('num_batches_tracked')) continue;
    const values = f.tensor(parameter(key, shape), { shape });
    net.loadStateDict({ [key]: values }, { strict: false });
    values.dispose();
  }
  return net;
}

/** @param {{ network: string, batch: number, input: number[] }} work */
export function compiled({ network: name, batch, input }) {
  return f.compile(model(name).eval(), { input: [batch, ...input] });
}

function inference(work) {
  const run = compiled(work);
  const shape = [work.batch, ...work.input];
  const pixels = images(work.batch, work.input);
  const logits = () => f.scope(() => run(f.tensor(pixels, { shape })).data());
  return { sample: timed(logits), answer: () => [...logits()] };
}

// Their losses are the answer: an update that is wrong shows in the second. From the third on rounding shows as well: that of MobileNetV2 differs
// by 4e-3 between PyTorch in float and in double.
const FIRST_STEPS = 2;

function trainingStep({ network: name, batch, input, classes, learningRate, momentum }) {
  const net = model(name).train();
  const optimizer = new f.optim.SGD(net.parameters(), { lr: learningRate, momentum });
  const step = f.captureStep((x, y) => f.crossEntropy(net.forward(x), y), { optimizer });
  const x = f.keep(f.tensor(images(batch, input), { shape: [batch, ...input] }));
  const y = f.keep(f.tensor(labels(batch, classes)));
  return {
    sample: timed(() => step(x, y)),
    answer: () => Array.from({ length: FIRST_STEPS }, () => step(x, y).item()),
  };
}
