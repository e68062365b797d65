import { afterEach, expect, it } from 'vitest';
import { init, shutdown } from '../ts/runtime/engine.ts';
import { arange, full, tensor } from '../ts/tensor/create.ts';
import { data, item } from '../ts/tensor/read.ts';

afterEach(shutdown);

it.each([1, 2, 3])('fills a tensor on %i threads', async (threads) => {
  await init({ threads, debug: true });
  const y = full([1000, 1001], 2.5);
  expect(data(y).every((v) => v === 2.5)).toBe(true);
  expect(item(tensor(3))).toBe(3);
  expect([...data(arange(4))]).toEqual([0, 1, 2, 3]);
});
