// A worker (workers.mjs) around a JavaScript contestant: node worker.mjs MODULE OPTIONS. The module's `start(options)` answers
// { version, prepare(request) -> { sample, answer, dispose } }, or null where what it needs is not installed; then the worker just ends.

import { createInterface } from 'node:readline';

const [module, options] = process.argv.slice(2);
const { start } = await import(new URL(module, import.meta.url));
const contestant = await start(JSON.parse(options ?? '{}'));
if (contestant) await serve(contestant);
process.exit(0); // some libraries keep timers

async function serve({ version, prepare }) {
  const prepared = new Map();
  say({ version });
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    say(await perform(request).catch((error) => ({ error: error.stack ?? String(error) })));
  }

  async function perform({ op, handle, ...request }) {
    if (op === 'prepare') {
      prepared.set(prepared.size + 1, await prepare(request));
      return { handle: prepared.size };
    }
    const work = prepared.get(handle);
    if (op === 'sample') return { seconds: await work.sample(request.repetitions) };
    if (op === 'answer') return { answer: await work.answer() };
    if (op === 'dispose') return (await work.dispose()) ?? {};
    throw new RangeError(`unknown op ${op}`);
  }
}

function say(answer) {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
