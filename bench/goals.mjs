// What feathermap wants to reach, one thread unless told, and what a record of measurements says about it.

import { geometricMean, medianRatio } from './measure.mjs';

const LARGE = ['resnet18', 'resnet50', 'vgg16', 'alexnet', 'mobilenetV2'];

/**
 * @typedef {object} Goal  a rival's time over ours is at least `least`
 * @property {string} kind @property {number} batch
 * @property {string} our @property {string} rival  contestants
 * @property {Record<string, number>} least  per network @property {number} [mean]  of all these networks, geometric
 */

/** @type {Goal[]} */
const GOALS = [
  {
    our: 'feathermap@node24',
    rival: 'onnxruntime-web@node24',
    least: { ...every(LARGE, 1.8), alexnet: 1.6 },
    mean: 2.7,
  },
  { our: 'feathermap@node20', rival: 'onnxruntime-web@node20', least: every(LARGE, 1.3), mean: 1.9 },
  { our: 'feathermap@node24', rival: 'tfjs-wasm@node24', least: { resnet18: 2.7, vgg16: 3.5, mobilenetV2: 2 } },
  { our: 'feathermap@chromium', rival: 'litert@chromium', least: { resnet18: 2, vgg16: 2.5, mobilenetV2: 1.5 } },
  { our: 'feathermap@node24', rival: 'pytorch@native', least: { resnet18: 1 } },
  { our: 'feathermap-256@node24', rival: 'onnxruntime-node@native', least: { resnet18: 1 / 1.5 } },
  { our: 'feathermap-256@node24', rival: 'feathermap@node24', least: { resnet18: 1.35 } },
  { our: 'feathermap@node24', rival: 'onnxruntime-web@node24', least: { lenet: 4 } },
].map((goal) => ({ kind: 'network', batch: 1, ...goal }));

const TRAINING_GOALS = [
  { batch: 8, least: { resnet18: 1 / 1.5, mobilenetV2: 4 } },
  { batch: 256, least: { lenet: 2 } },
].map((goal) => ({ kind: 'networkTrain', our: 'feathermap@node24', rival: 'pytorch@native', ...goal }));

/** 2 threads over 1, as a part of what two copies of the peak loop gain. */
const SCALING = 0.85;

function every(names, value) {
  return Object.fromEntries(names.map((name) => [name, value]));
}

/** @param {object[]} cases  of a record @returns {{ what: string, goal: number, reached: number }[]} those that the record can tell */
export function goalsReached(cases) {
  return [
    ...[...GOALS, ...TRAINING_GOALS].flatMap((goal) => ratiosReached(goal, cases)),
    ...cases.flatMap(scalingReached),
  ];
}

function ratiosReached({ kind, batch, our, rival, least, mean }, cases) {
  const found = Object.keys(least).flatMap((network) => {
    const one = cases.find((each) => each.kind === kind && each.network === network && each.batch === batch);
    if (!one?.results[our] || !one.results[rival]) return [];
    const what = `${network}, batch ${batch}: ${our} against ${rival}`;
    return [{ what, goal: least[network], reached: medianRatio(one.results[rival].samples, one.results[our].samples) }];
  });
  if (!mean || found.length < Object.keys(least).length) return found;
  const reached = geometricMean(found.map((each) => each.reached));
  return [...found, { what: `mean of ${found.length} networks: ${our} against ${rival}`, goal: mean, reached }];
}

function scalingReached({ network, batch, results }) {
  const ids = Object.keys(results).filter((id) => id.startsWith('feathermap*'));
  return ids.flatMap((id) => {
    const [, threads, runtime] = id.split(/[*@]/);
    const gain = (name) =>
      medianRatio(results[`${name}@${runtime}`].samples, results[`${name}*${threads}@${runtime}`].samples);
    return [
      {
        what: `${network}, batch ${batch}: ${threads} threads against 1 at ${runtime}, as a part of what copies of the peak loop gain`,
        goal: SCALING,
        reached: gain('feathermap') / gain('peak'),
      },
    ];
  });
}
