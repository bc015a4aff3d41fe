/** Switches that take something away from the scheduler, to measure what it is worth (docs/guide/policies.md). All are off by default. */

/** When those who wait are decided on again: as soon as something happens, or every monitorIntervalMs, as Algorithm 1 is printed. */
export const DECIDE_ON = ['events', 'polls'] as const;
export type DecideOn = (typeof DECIDE_ON)[number];

/** A kind of locality that is not seen (blind-classifier.ts). */
export const BLIND_TO = ['nothing', 'data', 'infrastructure'] as const;
export type BlindTo = (typeof BLIND_TO)[number];
