// onnxruntime-web from its import to a first result. Beside the others here because the package is found from here.

/** @returns {Promise<number>} milliseconds */
export async function runFirst(model, pixels, shape) {
  const start = performance.now();
  const { env, InferenceSession, Tensor } = await import('onnxruntime-web/wasm');
  env.wasm.numThreads = 1;
  const session = await InferenceSession.create(model, { executionProviders: ['wasm'] });
  await session.run({ x: new Tensor('float32', pixels, shape) });
  return performance.now() - start;
}
