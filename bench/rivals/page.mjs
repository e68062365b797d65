// Runs in the page: contestants enter by module and then answer requests as workers do (../workers.mjs).

import { answering } from '../serving.mjs';

const answers = new Map();

globalThis.enter = async (module, options) => {
  const { start } = await import(new URL(module, import.meta.url));
  const contestant = await start(options);
  answers.set(module, answering(contestant));
  return contestant.version;
};

globalThis.ask = (module, request) => answers.get(module)(request);
