// Contestants in one page of a headless Chromium: ours, LiteRT.js and the peak loop, without cross-origin isolation, hence on one thread and in memory
// that is not shared. `CHROMIUM` names the browser.

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compilePeak } from '../peak.mjs';

const BROWSER = process.env.CHROMIUM ?? '/usr/bin/chromium';
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const MODULES = '/bench/rivals/node_modules';
const PAGE = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script type="importmap">${JSON.stringify(
  {
    imports: {
      feathermap: '/dist/index.js',
      'feathermap/models': '/dist/models.js',
      flatbuffers: `${MODULES}/flatbuffers/mjs/flatbuffers.js`,
      '@litertjs/core': `${MODULES}/@litertjs/core/dist/index.js`,
      '@litertjs/wasm-utils': `${MODULES}/@litertjs/wasm-utils/dist/index.js`,
    },
  },
)}</script><script type="module" src="/bench/rivals/page.mjs"></script>`;
const TYPES = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' };

/** The page, shared by those who are in it now. */
let open = null;
let guests = 0;

/**
 * @param {string} module  with `start(options)`, as seen from page.mjs @param {object} options
 * @returns {Promise<{ worker: object, version: string } | null>} null where there is no browser or no driver for it
 */
export async function startInPage(module, options) {
  guests++;
  open ??= openPage();
  const opened = await open;
  if (!opened) return leave(null);
  const { page, version } = opened;
  const ask = async (request) => {
    const answer = await page.evaluate(([module, request]) => globalThis.ask(module, request), [module, request]);
    if (answer.error) throw new Error(`${answer.error} (${module} in Chromium)`);
    return answer;
  };
  try {
    const its = await page.evaluate(([module, options]) => globalThis.enter(module, options), [module, options]);
    return { worker: { ask, close: () => leave(opened) }, version: `${its} in Chromium ${version}`.trim() };
  } catch (error) {
    await leave(opened);
    throw error;
  }
}

/** Options of the peak loop: its bytes, compiled for a browser that has relaxed SIMD. */
export async function peakOptions(build) {
  return { bytes: [...(await compilePeak(true))], build };
}

/** The last one closes the browser. */
async function leave(opened) {
  if (--guests > 0) return null;
  open = null;
  await opened?.close();
  return null;
}

async function openPage() {
  const { chromium } = await import('playwright-core').catch(() => ({}));
  if (!chromium || !existsSync(BROWSER)) return null;
  const server = createServer(serve);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const browser = await chromium.launch({
    executablePath: BROWSER,
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
  });
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(() => globalThis.ask);
  const close = async () => {
    await browser.close();
    server.close();
  };
  return { page, version: browser.version(), close };
}

/** Files of this repository, and the page at /. */
async function serve({ url }, response) {
  const path = normalize(new URL(url, 'http://host').pathname);
  if (path === '/') return response.writeHead(200, { 'content-type': 'text/html' }).end(PAGE);
  const body = await readFile(ROOT + path).catch(() => null);
  if (!body) return response.writeHead(404).end();
  return response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream' }).end(body);
}
