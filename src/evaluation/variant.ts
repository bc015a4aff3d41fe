/**
 * What is compared: a policy with its parameters under a name. The eight of the figures, and for each of them the sweep of its parameters, so that no baseline
 * is judged by a badly chosen default: the report shows the best of every sweep beside the default.
 */
import { MetronomeError, suggest } from '../core/errors.ts';

/** Why a variant is there. */
export type VariantRole = 'baseline' | 'ours' | 'sweep' | 'ablation';

/** A policy with its parameters. */
export interface Variant {
  /** Unique; stands in records, file names and legends. */
  readonly name: string;
  /** Name of the policy (src/policy/registry.ts). */
  readonly policy: string;
  /** Configuration that differs from the defaults, by key as people write it: `{ 'delay.localityGain': 0.7 }`. */
  readonly overrides: Readonly<Record<string, string | number | boolean>>;
  readonly role: VariantRole;
  /** Of a sweep or ablation: the variant that it varies. */
  readonly of?: string;
  /** What it stands for, one sentence. */
  readonly standsFor: string;
}

/** The variants of the paper's figures and ours, in the order of legends. */
export const FIGURE_VARIANTS: readonly Variant[] = [
  { name: 'round-robin', policy: 'round-robin', overrides: {}, role: 'baseline', standsFor: 'BS: nodes in turns, no locality.' },
  { name: 'naive-locality', policy: 'naive-locality', overrides: {}, role: 'baseline', standsFor: 'NLS: a free node with data, a warm sandbox or packages, else any free one; never waits.' },
  { name: 'data-locality', policy: 'data-locality', overrides: {}, role: 'baseline', standsFor: 'Basic of section 2.2: a free node with the data, else the least loaded; never waits.' },
  { name: 'rule-delay', policy: 'rule-delay', overrides: {}, role: 'baseline', standsFor: 'RDS: waits one computed time for a node with the data (Zaharia et al.).' },
  { name: 'xfaas', policy: 'xfaas', overrides: {}, role: 'baseline', standsFor: 'XFaaS: locality groups, criticality, two random choices; packages not brought beforehand, as its results in the paper suggest.' },
  { name: 'aquatope', policy: 'aquatope', overrides: {}, role: 'baseline', standsFor: 'AQUATOPE: pools of warm sandboxes sized by a forecast with uncertainty.' },
  { name: 'metronome', policy: 'metronome', overrides: {}, role: 'ours', standsFor: 'Algorithm 1 with our repairs.' },
  { name: 'lookahead', policy: 'lookahead', overrides: {}, role: 'ours', standsFor: 'Our extension: compares what the wait will be with what it will save.' },
];

/** A sweep over one key. */
function sweep(of: string, key: string, values: readonly (string | number | boolean)[], label: string): Variant[] {
  return values.map((value) => ({ name: `${of} ${label}=${value}`, policy: of, overrides: { [key]: value }, role: 'sweep' as const, of, standsFor: `${of} with ${key} ${value}.` }));
}

/** The parameters of every variant that has some, swept around its default. Those without parameters (round-robin, naive-locality, data-locality) have no sweep. */
export const SWEEP_VARIANTS: readonly Variant[] = [
  ...sweep('rule-delay', 'policies.ruleDelayLocality', [0.5, 0.8, 0.9, 0.99], 'λ'),
  ...sweep('rule-delay', 'policies.ruleDelayWait', ['50ms', '200ms', '1s', '5s'], 'W'),
  ...sweep('xfaas', 'policies.xfaasPrefetch', [true], 'prefetch'),
  ...sweep('aquatope', 'policies.aquatopeMargin', [0, 0.5, 2, 3], 'z'),
  ...sweep('aquatope', 'policies.poolWindow', ['1s', '20s', '60s'], 'window'),
  ...sweep('metronome', 'delay.localityGain', [0.5, 0.7, 0.95], 'α'),
  ...sweep('metronome', 'delay.safetyMargin', [0.2, 0.3], 'β'),
  ...sweep('lookahead', 'policies.lookaheadHysteresis', [0.7, 0.9, 0.95], 'γ'),
  ...sweep('lookahead', 'policies.lookaheadPrice', [0, 2], 'κ'),
  ...sweep('lookahead', 'policies.lookaheadRent', [0, 2], 'ρ'),
];

/** Every variant that has a name. */
export const VARIANTS: readonly Variant[] = [...FIGURE_VARIANTS, ...SWEEP_VARIANTS];

/** The variant of this name. INVALID_REQUEST with the known ones if there is none. */
export function variantNamed(name: string, known: readonly Variant[] = VARIANTS): Variant {
  const found = known.find((variant) => variant.name === name);
  if (found !== undefined) return found;
  const names = known.map((variant) => variant.name);
  const near = suggest(name, names);
  throw new MetronomeError('INVALID_REQUEST', `Unknown variant "${name}".${near === undefined ? '' : ` Did you mean "${near}"?`} Known variants: ${names.join(', ')}.`);
}
