/** What the configuration says about decisions, in the words of the scheduler: the daemon and simulations of a configuration take it from here. */
import type { SchedulerOptions } from '../scheduler/scheduler.ts';
import type { Config } from './schema.ts';

/** The options of the scheduler that are parameters and nothing else. */
export type ConfiguredParameters = Required<Pick<SchedulerOptions, 'engine' | 'policy' | 'localityGain' | 'safetyMargin' | 'strict' | 'waitPerGain' | 'lookahead' | 'ruleDelay' | 'xfaas' | 'pools' | 'localityThreshold' | 'decideOn' | 'blindTo' | 'monitorIntervalMs' | 'staleAfterMs' | 'lostAfterMs' | 'maxLive' | 'maxWaitMs' | 'candidates' | 'candidateLimit'>>;

/** The parameters of a configuration. */
export function schedulerParameters({ scheduler, delay, policies, nodes, limits }: Config): ConfiguredParameters {
  return {
    engine: scheduler.engine, policy: scheduler.policy, localityGain: delay.localityGain, safetyMargin: delay.safetyMargin, strict: delay.strict, waitPerGain: delay.waitPerGain, lookahead: { hysteresis: policies.lookaheadHysteresis, price: policies.lookaheadPrice, rent: policies.lookaheadRent, wait: policies.lookaheadWait, risk: policies.lookaheadRisk },
    ruleDelay: { waitMs: policies.ruleDelayWaitMs, locality: policies.ruleDelayLocality }, xfaas: { prefetch: policies.xfaasPrefetch }, pools: { windowMs: policies.poolWindowMs, margin: policies.aquatopeMargin },
    localityThreshold: delay.localityThreshold, decideOn: delay.decideOn, blindTo: delay.blindTo, monitorIntervalMs: delay.monitorIntervalMs, staleAfterMs: nodes.staleAfterMs, lostAfterMs: nodes.lostAfterMs, maxLive: limits.maxLive, maxWaitMs: limits.maxWaitMs,
    candidates: scheduler.candidates, candidateLimit: scheduler.candidateLimit,
  };
}
