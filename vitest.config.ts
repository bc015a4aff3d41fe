/** Tests run in processes of their own (real servers, real children), two at a time: the machines of this project have two cores. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // npm starts Vitest with the lockfile's Node; its children must get the same one.
    env: { NODE_ENV: 'test' },
  },
});
