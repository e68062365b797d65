// What is measured: each case names its work, counts its arithmetic and asks a contestant to prepare it.

import { convGeometry, convName, convolutions, fewConvolutions, gemmFlops, gemms, lenetFlops } from './shapes.mjs';

const TRAINING_BATCH = 256;

/**
 * @typedef {object} Case
 * @property {string} suite  `gemm`, `conv` or `lenet`
 * @property {string} group  what its ratios are averaged with: a form of product, a network and direction
 * @property {string} name
 * @property {number} flops
 * @property {number} count  how often the network does this work; 1 elsewhere
 * @property {(contestant: object) => object | null | Promise<object | null>} prepare
 */

/** @returns {Case[]} */
export function cases({ quick, only }) {
  const suites = { gemm: gemmCases, conv: convCases, lenet: lenetCases };
  for (const name of only ?? []) {
    if (!(name in suites)) throw new RangeError(`bench: --only knows ${Object.keys(suites).join(', ')}, got ${name}`);
  }
  return Object.keys(suites).flatMap((name) => (!only || only.includes(name) ? suites[name](quick) : []));
}

function gemmCases(quick) {
  return gemms()
    .filter(({ m }) => !quick || m === 64 || m === 256 || m === 3136)
    .map((gemm) => ({
      suite: 'gemm',
      group: gemm.form,
      name: `${gemm.m}x${gemm.n}x${gemm.k} ${gemm.form}`,
      flops: gemmFlops(gemm),
      count: 1,
      prepare: (contestant) => contestant.gemm(gemm),
    }));
}

function convCases(quick) {
  return ['forward', 'inputGrad', 'weightGrad'].flatMap((direction) =>
    (quick ? fewConvolutions() : convolutions()).map(({ network, conv, count }) => ({
      suite: 'conv',
      group: `${network} ${direction}`,
      name: `${network} ${convName(conv)} ${direction}`,
      flops: convGeometry(conv).flops,
      count,
      prepare: (contestant) => contestant.conv2d(conv, direction),
    })),
  );
}

function lenetCases() {
  const work = { suite: 'lenet', count: 1 };
  return [
    {
      ...work,
      group: 'inference',
      name: 'inference, batch 1',
      flops: lenetFlops,
      prepare: (contestant) => contestant.lenetInference(),
    },
    {
      ...work,
      group: 'training',
      name: `training step, batch ${TRAINING_BATCH}`,
      flops: 3 * TRAINING_BATCH * lenetFlops, // forward, and about as much again for each of the two gradients
      prepare: (contestant) => contestant.lenetTrainStep(TRAINING_BATCH),
    },
  ];
}
