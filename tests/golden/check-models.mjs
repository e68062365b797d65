// Compares whole networks at 224 x 224 with what torchvision answered; check-models.py writes the files.
//   node tests/golden/check-models.mjs FOLDER      after npm run build
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compile, init, noGrad, shutdown } from 'feathermap';
import * as models from 'feathermap/models';
import { loadSafetensors } from 'feathermap/safetensors';

const ALLOWED = 1e-4;
const folder = process.argv[2];
if (!folder) throw new Error('usage: node tests/golden/check-models.mjs FOLDER');

/** Greatest difference as a share of the largest logit. */
function relativeError(actual, expected) {
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return expected.reduce((most, value, i) => Math.max(most, Math.abs(value - actual[i])), 0) / largest;
}

let failed = 0;
for (const [name, make] of Object.entries(models)) {
  const file = join(folder, `${name}.safetensors`);
  if (!existsSync(file)) continue;
  await init();
  const net = make().eval();
  net.loadStateDict(loadSafetensors(readFileSync(file)));
  const { x, logits } = loadSafetensors(readFileSync(join(folder, `${name}.answer.safetensors`)));
  const expected = logits.data();
  const eager = relativeError(noGrad(() => net.forward(x)).data(), expected);
  const compiled = relativeError(compile(net, { input: [1, 3, 224, 224] })(x).data(), expected);
  const good = eager < ALLOWED && compiled < ALLOWED;
  if (!good) failed++;
  console.log(
    `${name}: eager ${eager.toExponential(1)}, compiled ${compiled.toExponential(1)} ${good ? '' : 'TOO FAR'}`,
  );
  await shutdown();
}
process.exitCode = failed ? 1 : 0;
