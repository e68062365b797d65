// feathermap on whole networks, through the public API. From an array of pixels to an array of logits; a training step from resident images.

import { timed } from './measure.mjs';
import { labels } from './values.mjs';
import { images, parameter } from './weights.mjs';

/** @param {{ threads?: number, build?: string, wide?: boolean }} options  `wide`: 256-bit mode */
export async function start({ threads = 1, build = 'auto', wide = false }) {
  const f = await import('feathermap');
  const models = await import('feathermap/models');
  await f.init({ threads, build, experimentalSimd256: wide });
  const { build: chosen, vectorBits, simd256Fallback } = f.engineInfo();
  if (wide && vectorBits !== 256) throw new Error(simd256Fallback);
  return {
    version: `${chosen}, ${vectorBits}-bit vectors`,
    prepare: (work) => WORKS[work.kind](f, models, work),
  };
}

const WORKS = { network: inference, networkTrain: trainingStep };

/** Nothing random takes part. */
const OPTIONS = { mobilenetV2: { dropout: 0 } };

/** The model with the weights of the formula. */
function model(f, models, name) {
  if (!models[name]) throw new Error(`feathermap/models has no ${name}`);
  const net = models[name](OPTIONS[name]);
  const entries = Object.entries(net.stateDict())
    .filter(([key]) => !key.endsWith('num_batches_tracked'))
    .map(([key, { shape }]) => [key, f.tensor(parameter(key, shape), { shape })]);
  net.loadStateDict(Object.fromEntries(entries), { strict: false });
  for (const [, tensor] of entries) tensor.dispose();
  return net;
}

function inference(f, models, { network: name, batch, input }) {
  const net = model(f, models, name).eval();
  const run = f.compile(net, { input: [batch, ...input] });
  const pixels = images(batch, input);
  const work = () => f.scope(() => run(f.tensor(pixels, { shape: [batch, ...input] })).data());
  return { sample: timed(work), answer: () => [...work()] };
}

// Their losses are the answer: an update that is wrong shows in the second. From the third on rounding shows as well: that of MobileNetV2 differs
// by 4e-3 between PyTorch in float and in double.
const FIRST_STEPS = 2;

function trainingStep(f, models, { network: name, batch, input, classes, learningRate, momentum }) {
  const net = model(f, models, name).train();
  const optimizer = new f.optim.SGD(net.parameters(), { lr: learningRate, momentum });
  const step = f.captureStep((x, y) => f.crossEntropy(net.forward(x), y), { optimizer });
  const x = f.keep(f.tensor(images(batch, input), { shape: [batch, ...input] }));
  const y = f.keep(f.tensor(labels(batch, classes)));
  return {
    sample: timed(() => step(x, y)),
    answer: () => Array.from({ length: FIRST_STEPS }, () => step(x, y).item()),
  };
}
