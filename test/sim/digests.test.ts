import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadApplicationModel, PROFILES_FILE } from '../../src/evaluation/application-models.ts';
import { EMULATED_CLUSTER } from '../../src/evaluation/cluster-preset.ts';
import { simulateApplications } from '../../src/evaluation/simulate-applications.ts';
import { POLICY_NAMES } from '../../src/policy/registry.ts';
import { readProfiles } from '../../src/sim/profile-file.ts';
import { runReplicas } from '../../src/sim/replicas.ts';
import { EXAMPLE_SCENARIO, parseScenario } from '../../src/sim/scenario-file.ts';
import { ROUGH, SMOOTH } from './scenario.ts';

const FILE = fileURLToPath(new URL('digests.json', import.meta.url));
const APPS = fileURLToPath(new URL('../../apps', import.meta.url));
/** Whoever changes decisions on purpose renews them with this, and looks at the difference. */
const RENEW = 'RENEW_DIGESTS=yes npx vitest run test/sim/digests.test.ts';

/** "scenario policy" → digest, of runs on `threads` threads. */
async function digests(threads: number): Promise<Record<string, string>> {
  const { scenario } = await parseScenario(EXAMPLE_SCENARIO, 'example', '.');
  const found: Record<string, string> = {};
  for (const [name, each] of Object.entries({ smooth: SMOOTH, rough: { ...ROUGH, durationMs: 8_000 }, example: { ...scenario, durationMs: 12_000, warmUpMs: 2_000 } })) {
    for (const { policy, digest } of await runReplicas({ scenario: each, policies: POLICY_NAMES, seeds: [7], threads })) found[`${name} ${policy}`] = digest;
  }
  return found;
}

async function applicationDigests(): Promise<Record<string, string>> {
  const profiles = await readProfiles(join(APPS, PROFILES_FILE));
  const found: Record<string, string> = {};
  // The cluster is written out here: the preset follows what suits the machine.
  const preset = { ...EMULATED_CLUSTER, nodes: 4, slots: 2, cpus: 2, hostCpus: 2, linkBitsPerS: 200e6, copies: 3, inputFactor: { video: 0.1, log: 0.25, document: 0.5, inference: 0.5 } };
  for (const name of ['video', 'document'] as const) {
    const application = await loadApplicationModel(name, APPS, profiles);
    for (const policy of POLICY_NAMES) found[`${name} ${policy}`] = simulateApplications({ preset, application, variant: { name: policy, policy, overrides: {} }, seed: 7, concurrency: 3, executions: 20, warmUp: 5, predictor: name === 'video' ? 'moving-average' : 'forest' }).digest;
  }
  return found;
}

describe('the same scenario, policy and seed', () => {
  it('give the digest that is committed, on one thread and on two', async () => {
    const one = { ...(await digests(1)), ...(await applicationDigests()) };
    if (process.env['RENEW_DIGESTS'] === 'yes') writeFileSync(FILE, `${JSON.stringify(one, null, 2)}\n`);
    const committed = JSON.parse(readFileSync(FILE, 'utf8')) as Record<string, string>;
    expect(one, `decisions or costs have changed; if that is meant: ${RENEW}`).toEqual(committed);
    expect(await digests(2)).toEqual(Object.fromEntries(Object.entries(committed).filter(([name]) => !/^(?:video|document) /.test(name))));
    // A digest that is the same for all would prove nothing.
    expect(new Set(Object.values(committed)).size).toBeGreaterThan(Object.keys(committed).length / 2);
  }, 240_000);
});
