/** The video application on a real system: a video is cut, encoded in parallel and merged, and every frame is looked at. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ffmpegMissing } from '../apps/ffmpeg.ts';
import { failure } from './harness.ts';
import { openApplication, type DeployedApplication, type StoredInput } from './application.ts';

describe.skipIf(ffmpegMissing !== undefined)('video-transcoding', () => {
  let app: DeployedApplication;
  let input: StoredInput;
  beforeAll(async () => {
    app = await openApplication('video');
    input = await app.put({ seed: 2, sizeBytes: 700_000, node: 'node-2' });
  }, 240_000);
  afterEach(() => app.cluster.quiet());
  afterAll(() => app.cluster.close());

  it('gives back every frame in order, whichever nodes encoded them', async () => {
    for (let run = 0; run < 2; run++) {
      const { response, result, problems } = await app.run(input, { segment: '2s' });
      expect(problems).toEqual([]);
      const calls = response.steps.map(({ step }) => step).filter((step) => step.startsWith('transcode'));
      // The segments, and the sound beside them.
      expect(calls).toHaveLength((result as { segments: number }).segments + 1);
      expect(calls.length).toBeGreaterThanOrEqual(4);
    }
  }, 180_000);

  it('tells its caller when segments are no length', async () => {
    const error = await failure(app.run(input, { segment: 'long' }), 'STEP_FAILED');
    expect(error.extras.functionError).toMatchObject({ type: 'RangeError', message: expect.stringContaining('such as "4s", not "long"') as string });
  });
});
