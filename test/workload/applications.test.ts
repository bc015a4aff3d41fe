/** The applications as work: every one can be made an input, says what to run, and is the one of its manifest. */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROJECT_ROOT } from '../../src/cli/project.ts';
import { loadManifest } from '../../src/config/manifest.ts';
import { ffmpegMissing } from '../apps/ffmpeg.ts';
import { APPLICATIONS, loadApplication } from '../../src/workload/applications.ts';

const APPS = join(PROJECT_ROOT, 'apps');
let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-workload-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe.each(APPLICATIONS)('the application %s', (name) => {
  it('has the functions and the workflow of its manifest', async () => {
    const application = await loadApplication(name, APPS);
    const { functions, workflows } = await loadManifest(application.folder);
    expect(functions.map(({ spec }) => spec.name)).toEqual(application.functions);
    expect(workflows.map(({ spec }) => spec.name)).toEqual([application.workflow]);
    expect(workflows[0]?.spec.steps.map((step) => step.function)).toEqual(application.functions);
  });

  it.skipIf(name === 'video' && ffmpegMissing !== undefined)('makes inputs of about the size that is asked for, and finds fault with a result that is none', async () => {
    const { makeInput } = await loadApplication(name, APPS);
    for (const sizeBytes of [60_000, 200_000]) {
      const input = await makeInput({ seed: 4, sizeBytes, dir });
      expect((await stat(input.path)).size).toBe(input.sizeBytes);
      expect(Math.abs(input.sizeBytes / sizeBytes - 1)).toBeLessThan(0.3);
      expect(JSON.parse(JSON.stringify(input.payload))).toEqual(input.payload);
      expect(await input.verify({ result: null, outputs: [] })).toEqual(['the result is null']);
      expect((await input.verify({ result: {}, outputs: [] })).length).toBeGreaterThan(0);
    }
  });
});

describe('an application that is none', () => {
  it('is refused with the ones that there are', async () => {
    await expect(loadApplication('vdeo', APPS)).rejects.toThrow('Unknown application "vdeo". Did you mean "video"? Known applications: video, log, document, inference.');
    await expect(loadApplication('hello', APPS)).rejects.toThrow('Unknown application "hello". Known applications: video, log, document, inference.');
  });
});
