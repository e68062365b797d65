// A worker (workers.mjs) around a JavaScript contestant: node worker.mjs MODULE OPTIONS. The module's `start(options)` answers
// { version, prepare(request) -> { sample, answer } }, or null where what it needs is not installed; then the worker just ends.

import { createInterface } from 'node:readline';
import { answering } from './serving.mjs';

const [module, options] = process.argv.slice(2);
const { start } = await import(new URL(module, import.meta.url));
const contestant = await start(JSON.parse(options ?? '{}')).catch((error) => say({ error: error.message }));
if (contestant) await serve(contestant);
process.exit(0); // some libraries keep timers

async function serve(contestant) {
  const answer = answering(contestant);
  say({ version: contestant.version });
  for await (const line of createInterface({ input: process.stdin })) say(await answer(JSON.parse(line)));
}

function say(answer) {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
