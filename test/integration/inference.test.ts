/** The inference application on a real system: every prediction checked, and what its callers see when a table is none. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { InvocationState } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { failure } from './harness.ts';
import { openApplication, type DeployedApplication, type StoredInput } from './application.ts';

let app: DeployedApplication;
let inputs: StoredInput[];
beforeAll(async () => {
  app = await openApplication('inference');
  inputs = await Promise.all([1, 2, 3].map((seed) => app.put({ seed, sizeBytes: 60_000, node: `node-${seed}` })));
}, 180_000);
afterEach(() => app.cluster.quiet());
afterAll(() => app.cluster.close());

describe('ml-inference', () => {
  it('predicts every row as the network does in plain JavaScript, three tables at once', async () => {
    await Promise.all(inputs.map(async (input) => {
      const { response, problems } = await app.run(input);
      expect(problems).toEqual([]);
      expect(response.steps.map(({ step, state }) => [step, state])).toEqual([['normalize', InvocationState.COMPLETED], ['process', InvocationState.COMPLETED]]);
    }));
  }, 120_000);

  it('starts warm where the network is loaded already', async () => {
    const [input] = inputs as [StoredInput];
    // Each run that is not warm makes a function warm on one more node; there are two functions and three nodes.
    const initialised: number[] = [];
    for (let i = 0; i < 7 && !initialised.includes(0); i++) initialised.push(Math.max(...(await app.run(input)).response.steps.map(({ phases }) => phases?.initialisedMs ?? -1)));
    expect(initialised).toContain(0);
  }, 60_000);

  it('tells its caller which column is missing', async () => {
    const [input] = inputs as [StoredInput];
    const error = await failure(app.run(input, { ranges: { leaf_area: [0, 1] } }), 'STEP_FAILED');
    expect(error.extras.functionError).toMatchObject({ type: 'TypeError', message: expect.stringContaining('has no column "leaf_area"; it has id, sepal_length') as string });
  });
});
