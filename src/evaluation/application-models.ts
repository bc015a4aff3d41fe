/** The four applications as the simulator sees them: their manifests, with the costs that were fitted to them (apps/profiles.json). */
import { join } from 'node:path';
import { loadManifest } from '../config/manifest.ts';
import { MetronomeError } from '../core/errors.ts';
import type { ApplicationModel } from '../sim/applications.ts';
import type { ProfileFile } from '../sim/profile-file.ts';
import type { FunctionProfile, OutputProfile } from '../sim/profiles.ts';
import type { ApplicationName } from '../workload/applications.ts';

/** File of the fitted costs, below the folder of the applications. */
export const PROFILES_FILE = 'profiles.json';

/** A video of a second has one key frame, where it cannot be cut: of 1.5 s in the smallest picture, what rounds to two (apps/video/make-input.mjs). */
const ONE_SEGMENT_BELOW = 41_288;

/** Into how many parts an input is cut is asked for by the request, which the makers of inputs write (apps/<name>/make-input.mjs): one for so many bytes. */
export const SPLITS: Readonly<Record<string, Pick<OutputProfile, 'count' | 'roundsUp' | 'wholeBelow'> & Required<Pick<OutputProfile, 'bytesPerObject' | 'most' | 'side'>>>> = {
  'video-split': { count: 2, bytesPerObject: 1_500_000, wholeBelow: ONE_SEGMENT_BELOW, most: 6, side: 0.014 },
  'log-split': { count: 2, bytesPerObject: 4_000_000, roundsUp: true, most: 8, side: 0 },
};

/** An application with its costs. INVALID_REQUEST when a function has none. */
export async function loadApplicationModel(name: ApplicationName, appsDir: string, profiles: ProfileFile): Promise<ApplicationModel> {
  const { functions, workflows, file } = await loadManifest(join(appsDir, name));
  const [workflow] = workflows;
  if (workflow === undefined) throw new MetronomeError('INVALID_REQUEST', `${file} has no workflow.`);
  return {
    name,
    workflow: workflow.spec,
    functions: functions.map(({ spec, codeDir }) => ({
      name: spec.name, memoryMb: spec.memoryMb, slaMs: spec.slaMs, timeoutMs: spec.timeoutMs, critical: spec.critical, packageSet: codeDir.slice(appsDir.length + 1), profile: profileOf(spec.name, profiles),
    })),
  };
}

function profileOf(name: string, { functions, note }: ProfileFile): FunctionProfile {
  const profile = functions[name];
  if (profile === undefined) throw new MetronomeError('INVALID_REQUEST', `The profiles (${note}) say nothing about "${name}"; known are ${Object.keys(functions).join(', ')}. Record it, then: metronome sim calibrate <recording>.`);
  const split = SPLITS[name];
  return split === undefined ? profile : { ...profile, output: { ...profile.output, ...split } };
}
