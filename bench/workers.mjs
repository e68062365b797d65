// Contestants in processes of their own. A worker prepares work and times it on request, so that samples of several processes interleave and no
// message is inside a time. Requests and answers alternate, one JSON object a line:
//
//   (at its start)                                      -> {"version": "..."}, nothing if what it needs is not installed
//   {"op": "prepare", ...}                              -> {"handle": 1}
//   {"op": "sample", "handle": 1, "repetitions": 10}    -> {"seconds": 0.01}
//   {"op": "answer", "handle": 1}                       -> {"answer": [...]}
//
// An error answers {"error": text}. A worker ends with its input.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** @param {string} command @param {string[]} arguments_ */
export function startWorker(command, arguments_) {
  const child = spawn(command, arguments_, { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = new Promise((resolve) => child.once('close', resolve));
  child.on('error', () => {}); // no such program: its output then ends without a line
  child.stdin.on('error', () => {});
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) return null;
    return value.startsWith('{') ? JSON.parse(value) : next(); // libraries print lines of their own
  };
  const ask = async (request) => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const answer = await next();
    if (!answer)
      throw new Error(`${command}: the worker ended while asked to ${request.op} (${JSON.stringify(request)})`);
    if (answer.error) throw new Error(`${answer.error} (${command}, ${JSON.stringify(request)})`);
    return answer;
  };
  const close = () => {
    child.stdin.end();
    return ended;
  };
  return { next, ask, close };
}

/** Prepares work in a worker, as something to measure. */
export async function prepareIn(worker, request) {
  const { handle } = await worker.ask({ op: 'prepare', ...request });
  return {
    handle,
    sample: async (repetitions) => (await worker.ask({ op: 'sample', handle, repetitions })).seconds,
    answer: async () => (await worker.ask({ op: 'answer', handle })).answer,
  };
}
