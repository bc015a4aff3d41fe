/** What each idea and each repair is worth: variants that lack one, each beside the variant that it is taken from. */
import type { SimulatedCell } from './simulate-applications.ts';
import type { Variant } from './variant.ts';

/** A variant with who predicts for it. */
export interface Ablation extends Variant {
  /** @default forest */
  readonly predictor?: NonNullable<SimulatedCell['predictor']>;
  /** Every step of a workflow may use up all that is left of the run's target. @default false */
  readonly greedySteps?: boolean;
  /** Of its figures in reports, ending in `_over_<what it is taken from>`. */
  readonly figure: string;
}

const ablation = (of: 'metronome' | 'lookahead', name: string, overrides: Variant['overrides'], figure: string, standsFor: string, predictor?: Ablation['predictor']): Ablation =>
  ({ name: `${of} ${name}`, policy: of, overrides, role: 'ablation', of, figure, standsFor, ...(predictor === undefined ? {} : { predictor }) });

/** All of them. Those of `metronome` first. */
export const ABLATIONS: readonly Ablation[] = [
  ablation('metronome', 'as printed', { 'delay.strict': true }, 'strict_over_repaired', 'Algorithm 1 as printed.'),
  ablation('metronome', 'patient', { 'delay.waitPerGain': 1_000_000 }, 'patient_over_metronome', 'Waits as long as the latency target allows, whatever that saves.'),
  ablation('metronome', 'by polls', { 'delay.decideOn': 'polls' }, 'polls_over_events', 'Decides again every monitor interval only.'),
  ablation('metronome', 'blind to data', { 'delay.blindTo': 'data' }, 'without_data_locality_over_metronome', 'Does not see where inputs lie.'),
  ablation('metronome', 'blind to infrastructure', { 'delay.blindTo': 'infrastructure' }, 'without_infrastructure_locality_over_metronome', 'Does not see sandboxes, zygotes and packages.'),
  ablation('metronome', 'by moving averages', {}, 'moving_average_over_forest_metronome', 'Predictions from moving averages.', 'moving-average'),
  ...[0.5, 0.7, 0.95].map((value) => ablation('metronome', `α=${value}`, { 'delay.localityGain': value }, `alpha_${value}_over_metronome`, `α = ${value} instead of 0.85.`)),
  ...[0, 0.2, 0.4].map((value) => ablation('metronome', `β=${value}`, { 'delay.safetyMargin': value }, `beta_${value}_over_metronome`, `β = ${value} instead of 0.1.`)),
  { ...ablation('metronome', 'with greedy steps', {}, 'greedy_steps_over_metronome', 'Steps leave no time for the later ones.'), greedySteps: true },
  ablation('lookahead', 'without the wait', { 'policies.lookaheadWait': 'none' }, 'no_wait_over_lookahead', 'Expects no wait anywhere.'),
  ablation('lookahead', 'with a constant wait', { 'policies.lookaheadWait': 'constant' }, 'constant_wait_over_lookahead', 'Expects the mean service time everywhere.'),
  ablation('lookahead', 'without the spread', { 'policies.lookaheadRisk': 'mean' }, 'no_spread_over_lookahead', 'Bounds risk by means instead of upper quantiles.'),
  ablation('lookahead', 'renting', { 'policies.lookaheadRent': 0 }, 'renting_over_lookahead', 'Does not count that a start without a warm sandbox makes one for others.'),
  ablation('lookahead', 'selfish', { 'policies.lookaheadPrice': 0 }, 'selfish_over_lookahead', 'Does not count what an execution costs others.'),
  ablation('lookahead', 'by polls', { 'delay.decideOn': 'polls' }, 'polls_over_events_lookahead', 'Decides again every monitor interval only.'),
  ablation('lookahead', 'blind to data', { 'delay.blindTo': 'data' }, 'without_data_locality_over_lookahead', 'Does not see where inputs lie.'),
  ablation('lookahead', 'blind to infrastructure', { 'delay.blindTo': 'infrastructure' }, 'without_infrastructure_locality_over_lookahead', 'Does not see sandboxes, zygotes and packages.'),
  ablation('lookahead', 'by moving averages', {}, 'moving_average_over_forest_lookahead', 'Predictions from moving averages.', 'moving-average'),
  { ...ablation('lookahead', 'with greedy steps', {}, 'greedy_steps_over_lookahead', 'Steps leave no time for the later ones.'), greedySteps: true },
];

/** `lookahead` with perfect predictions (src/sim/oracle.ts): the reference of ablations, in simulation only. */
export const ORACLE: Ablation = { name: 'oracle', policy: 'lookahead', overrides: {}, role: 'ablation', of: 'lookahead', predictor: 'oracle', figure: 'oracle_over_lookahead', standsFor: 'lookahead that knows what everything will take.' };

/** `lookahead` that knows the costs of functions on the mean and everything of the cluster: as far as any model could come. What lies between it and the oracle cannot be known. */
export const ORACLE_OF_MEANS: Ablation = { ...ORACLE, name: 'oracle of means', predictor: 'oracle-of-means', figure: 'oracle_of_means_over_lookahead', standsFor: 'lookahead that knows what everything takes on the mean.' };
