// PyTorch on one thread: a child process (torch_worker.py) that times its own work, so that samples interleave with everybody else's and no
// message is inside a time.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { lenet } from '../shapes.mjs';

/** Where a torch may be: a Debian package lies beside the system's own Python, which need not be the first one found. */
const INTERPRETERS = process.env.PYTHON ? [process.env.PYTHON] : ['python3', '/usr/bin/python3'];

/** @returns {Promise<object | null>} the contestant, null where no interpreter (`PYTHON` names one) can import torch */
export async function torch() {
  for (const python of INTERPRETERS) {
    const worker = startWorker(python);
    const greeting = await worker.next();
    if (greeting) return contestant(worker, greeting.version);
  }
  return null;
}

function contestant(worker, version) {
  const prepare = async (request) => {
    const { handle } = await worker.ask({ op: 'prepare', ...request });
    return {
      sample: async (repetitions) => (await worker.ask({ op: 'sample', handle, repetitions })).seconds,
      answer: async () => (await worker.ask({ op: 'answer', handle })).fingerprint,
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

/** Requests and answers alternate, one JSON object a line. */
function startWorker(python) {
  const script = fileURLToPath(new URL('./torch_worker.py', import.meta.url));
  const child = spawn(python, [script], { stdio: ['pipe', 'pipe', 'ignore'] });
  child.on('error', () => {}); // no such interpreter: its output then ends without a line
  child.stdin.on('error', () => {});
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    return done ? null : JSON.parse(value);
  };
  const ask = async (request) => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const answer = await next();
    if (!answer) throw new Error(`torch: the worker ended while asked to ${request.op}`);
    if (answer.error) throw new Error(`torch: ${answer.error} (${JSON.stringify(request)})`);
    return answer;
  };
  return { next, ask, close: () => child.stdin.end() };
}
