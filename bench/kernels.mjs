// The only file here that reaches below feathermap's public API: one operator, captured as a program and replayed, so that a time holds kernels
// and nothing else.

/** @returns {Promise<object | null>} replays of single operators; null where this build has no `feathermap/internal` */
export async function kernelAccess() {
  const internal = await import('feathermap/internal').catch((error) => {
    if (error.code === 'ERR_PACKAGE_PATH_NOT_EXPORTED' || error.code === 'ERR_MODULE_NOT_FOUND') return null;
    throw error;
  });
  return internal && { replay: (work) => replay(internal, work), ...internal };
}

/**
 * @param {object} work
 * @param {object[]} work.inputs  tensors that change from run to run: nothing may be computed from them beforehand
 * @param {(...inputs: object[]) => object} work.call  other tensors that it uses are constants, rearranged once
 * @param {number} work.copies  how often the program does it: so often that starting the program costs nothing beside it
 * @returns {{ run: () => object, dispose: () => void }} `run` answers the result of the last copy
 */
function replay({ capture, inputSpec, Program }, { inputs, call, copies }) {
  const {
    calls,
    inputs: standIns,
    result,
  } = capture(inputs.map(inputSpec), (...tensors) => {
    for (let i = 1; i < copies; i++) call(...tensors);
    return call(...tensors);
  });
  const program = new Program(calls, standIns, [result], { hoist: true });
  return { run: () => program.run(inputs)[0], dispose: () => program.dispose() };
}
