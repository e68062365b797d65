// PyTorch on one thread: a child process (torch_worker.py) that times its own work, so that samples interleave with everybody else's and no
// message is inside a time.

import { fileURLToPath } from 'node:url';
import { lenet } from '../shapes.mjs';
import { prepareIn, startWorker } from '../workers.mjs';

/** Where a torch may be: a Debian package lies beside the system's own Python, which need not be the first one found. */
const INTERPRETERS = process.env.PYTHON ? [process.env.PYTHON] : ['python3', '/usr/bin/python3'];

const SCRIPT = fileURLToPath(new URL('./torch_worker.py', import.meta.url));

/** @returns {Promise<object | null>} the contestant, null where no interpreter (`PYTHON` names one) can import torch */
export async function torch() {
  const started = await startTorch();
  return started && contestant(started.worker, started.version);
}

/** @returns {Promise<{ worker: object, version: string } | null>} */
export async function startTorch() {
  for (const python of INTERPRETERS) {
    const worker = startWorker(python, [SCRIPT]);
    const greeting = await worker.next();
    if (greeting) return { worker, version: greeting.version };
  }
  return null;
}

function contestant(worker, version) {
  const prepare = async (request) => {
    const { handle, ...work } = await prepareIn(worker, request);
    return {
      ...work,
      answer: async () => (await worker.ask({ op: 'fingerprint', handle })).fingerprint,
      dispose: () => worker.ask({ op: 'dispose', handle }),
    };
  };
  const { parameters, activation, pool, learningRate } = lenet;
  return {
    name: 'pytorch',
    version,
    gemm: (gemm) => prepare({ kind: 'gemm', ...gemm }),
    conv2d: (conv, direction) => prepare({ kind: 'conv2d', direction, ...conv }),
    lenetInference: () => prepare({ kind: 'lenet', parameters, activation, pool }),
    lenetTrainStep: (batch) => prepare({ kind: 'lenetTrain', parameters, activation, pool, batch, learningRate }),
    close: () => worker.close(),
  };
}
