import { describe, expect, it } from 'vitest';
import { sizedApplication } from '../../src/evaluation/sized-application.ts';
import type { ApplicationModel } from '../../src/sim/applications.ts';
import { PLAIN_PROFILE } from '../../src/sim/profiles.ts';

const APPLICATION = {
  name: 'a', workflow: { name: 'a', steps: [] },
  functions: [{ name: 'f', memoryMb: 512, slaMs: 1, timeoutMs: 1, packageSet: 'p', profile: { ...PLAIN_PROFILE, installMs: 100, processMs: 40, importMs: 20, runMs: 100, runMsPerMib: 8, cores: 2 } }],
} as unknown as ApplicationModel; // the workflow is only passed on

describe('an application of other sizes', () => {
  it('starts slower below one core and runs slower below the cores that it can use', () => {
    expect(sizedApplication(APPLICATION, [{ cpu: 0.5, memoryMb: 512 }])?.functions[0]?.profile).toMatchObject({ installMs: 200, processMs: 80, importMs: 40, runMs: 400, runMsPerMib: 32, cores: 0.5 });
    expect(sizedApplication(APPLICATION, [{ cpu: 1, memoryMb: 512 }])?.functions[0]?.profile).toMatchObject({ installMs: 100, runMs: 200, cores: 1 });
  });

  it('is as it was with more than it can use', () => {
    expect(sizedApplication(APPLICATION, [{ cpu: 6, memoryMb: 1_024 }])?.functions[0]).toMatchObject({ memoryMb: 1_024, profile: APPLICATION.functions[0]!.profile });
  });

  it('does not end with less than half of its memory', () => {
    expect(sizedApplication(APPLICATION, [{ cpu: 1, memoryMb: 255 }])).toBeUndefined();
    expect(sizedApplication(APPLICATION, [{ cpu: 1, memoryMb: 256 }])).toBeDefined();
  });
});
