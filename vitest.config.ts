import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    // Generous: machines are shared, and no test is about time.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // Vitest leaves a core idle unless told otherwise: half of a machine with two.
    maxWorkers: '100%',
  },
});
