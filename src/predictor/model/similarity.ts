/** How alike two functions are, from what is known before either ran: application, runtime, packages, memory. */
import type { FunctionProfile } from './online-model.ts';

const MB = 1e6;

/** Weight of `other` as a model for `one`, 0 to 1. */
export function similarity(one: FunctionProfile, other: FunctionProfile): number {
  const dependencies = Math.log2(1 + one.dependencies) - Math.log2(1 + other.dependencies);
  const bytes = Math.log2(1 + one.packageBytes / MB) - Math.log2(1 + other.packageBytes / MB);
  const memory = Math.log2(Math.max(1, one.memoryMb)) - Math.log2(Math.max(1, other.memoryMb));
  const distance = dependencies * dependencies + 0.5 * bytes * bytes + 0.25 * memory * memory;
  const kin = one.application !== '' && one.application === other.application ? 1 : 0.35;
  const runtime = one.runtime === other.runtime ? 1 : 0.2;
  return kin * runtime * Math.exp(-distance / 4);
}
