// The peak loop in the page; its bytes come from outside, for the compiler does not run there.

import { startPeak } from '../peak/loops.mjs';

/** @param {{ bytes: number[], build: string }} options */
export const start = ({ bytes, build }) => startPeak(Uint8Array.from(bytes), build);
