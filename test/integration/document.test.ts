/** The document application on a real system: documents of every kind through the workflow, and what its callers see when one cannot be read. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ObjectRef } from '../../src/rpc/gen/metronome/v1/common.ts';
import { InvocationState } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { failure, json } from './harness.ts';
import { openApplication, type DeployedApplication, type StoredInput } from './application.ts';

let app: DeployedApplication;
let inputs: StoredInput[];
beforeAll(async () => {
  app = await openApplication('document');
  // Seeds 0 to 5 are the six kinds.
  inputs = await Promise.all([0, 1, 2, 3, 4, 5].map((seed) => app.put({ seed, sizeBytes: 40_000, node: `node-${1 + (seed % 3)}` })));
}, 180_000);
afterEach(() => app.cluster.quiet());
afterAll(() => app.cluster.close());

describe('any2md', () => {
  it('makes Markdown of documents of all kinds, two at a time, and every word is right', async () => {
    for (let i = 0; i < inputs.length; i += 2) {
      await Promise.all(inputs.slice(i, i + 2).map(async (input) => {
        const { response, problems } = await app.run(input);
        expect(problems, input.reference.name).toEqual([]);
        expect(response.steps.map(({ step, state }) => [step, state])).toEqual([['validate', InvocationState.COMPLETED], ['process', InvocationState.COMPLETED]]);
        expect(response.outputs[0]?.holders).toHaveLength(1);
      }));
    }
  }, 120_000);

  it('tells its caller what is wrong with a document', async () => {
    const { client } = app.cluster;
    const answer = await fetch(`${app.cluster.daemon.httpUrl}/objects?name=broken.docx`, { method: 'POST', body: 'PK\x03\x04 and no more' });
    const broken = ObjectRef.fromJSON(await answer.json());
    const error = await failure(client.invoke({ function: 'any2md', payload: json(null), inputs: [broken] }), 'STEP_FAILED');
    expect(error.message).toContain('validate');
    expect(error.extras.functionError).toMatchObject({ type: 'TypeError', message: expect.stringContaining('"broken.docx" begins like a zip archive, but has no directory: the file is truncated') as string });
  });
});
