/** All policies by name. A policy is made once per scheduler and may keep state of its own. */
import { MetronomeError, suggest } from '../core/errors.ts';
import { createAquatopePolicy } from './aquatope.ts';
import { createDataLocalityPolicy } from './data-locality.ts';
import { createIcebreakerPolicy } from './icebreaker.ts';
import { createLookaheadPolicy } from './lookahead.ts';
import { createMetronomePolicy } from './metronome.ts';
import { createNaiveLocalityPolicy } from './naive-locality.ts';
import type { Policy, PolicyOptions } from './policy.ts';
import { createRoundRobinPolicy } from './round-robin.ts';
import { createRuleDelayPolicy } from './rule-delay.ts';
import { createXfaasPolicy } from './xfaas.ts';

const POLICIES = {
  metronome: createMetronomePolicy,
  'round-robin': createRoundRobinPolicy,
  'naive-locality': createNaiveLocalityPolicy,
  'data-locality': createDataLocalityPolicy,
  'rule-delay': createRuleDelayPolicy,
  lookahead: createLookaheadPolicy,
  xfaas: createXfaasPolicy,
  aquatope: createAquatopePolicy,
  icebreaker: createIcebreakerPolicy,
} as const satisfies Record<string, (options: PolicyOptions) => Policy>;

/** Names of all policies. */
export const POLICY_NAMES: readonly string[] = Object.keys(POLICIES);

/** True for the name of a policy. */
export function isPolicyName(name: string): name is keyof typeof POLICIES {
  return Object.hasOwn(POLICIES, name);
}

/** The error for a name that is no policy's. */
export function unknownPolicy(name: string): MetronomeError {
  const near = suggest(name, POLICY_NAMES);
  return new MetronomeError('POLICY_UNKNOWN', `Unknown policy "${name}". ${near === undefined ? '' : `Did you mean "${near}"? `}Known policies: ${POLICY_NAMES.join(', ')}.`);
}

/** Makes all policies. */
export function createPolicies(options: PolicyOptions): ReadonlyMap<string, Policy> {
  return new Map(Object.entries(POLICIES).map(([name, create]) => [name, create(options)]));
}
