// How a contestant answers the requests of workers.mjs, in a process or in a page.

/**
 * @param {{ prepare: (work: object) => object | Promise<object> }} contestant
 * @returns {(request: { op: string, handle?: number }) => Promise<object>} never rejects
 */
export function answering({ prepare }) {
  const prepared = new Map();
  const perform = async ({ op, handle, ...request }) => {
    if (op === 'prepare') {
      prepared.set(prepared.size + 1, await prepare(request));
      return { handle: prepared.size };
    }
    const work = prepared.get(handle);
    if (op === 'sample') return { seconds: await work.sample(request.repetitions) };
    if (op === 'answer') return { answer: await work.answer() };
    throw new RangeError(`unknown op ${op}`);
  };
  return (request) => perform(request).catch((error) => ({ error: error.stack ?? String(error) }));
}
