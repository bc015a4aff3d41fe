/** All four applications in sandboxes that see nothing but the system's /usr, their code and their packages: whatever they need comes with them, ffmpeg too. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { APPLICATIONS } from '../../src/workload/applications.ts';
import { bubblewrapMissing } from '../agent/drivers.ts';
import { ffmpegMissing } from '../apps/ffmpeg.ts';
import { deployApplication } from './application.ts';
import { openCluster, type TestCluster } from './harness.ts';

describe.skipIf(bubblewrapMissing !== undefined)('isolated by bubblewrap', () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await openCluster({ nodes: 1, slots: 2, processes: true, agentArgs: ['--isolation', 'bubblewrap'] });
  }, 120_000);
  afterAll(() => cluster.close());

  it.each(APPLICATIONS.filter((name) => name !== 'video' || ffmpegMissing === undefined))('%s gives the right result, cold and warm', async (name) => {
    const app = await deployApplication(cluster, name, { isolation: 'bubblewrap' });
    const input = await app.put({ seed: 3, sizeBytes: 200_000, node: 'node-1' });
    for (let run = 0; run < 2; run++) expect((await app.run(input)).problems).toEqual([]);
    await cluster.quiet();
  }, 120_000);
});
