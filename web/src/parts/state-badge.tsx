/** A state's name with its colour; the colour never says anything that the word does not. */
import { spaced } from '../words.ts';

/** States with a colour of their own in the style sheet; all others are neutral. */
const COLOURED: ReadonlySet<string> = new Set(['arriving', 'classified', 'delaying', 'dispatched', 'completed', 'failed', 'cancelled', 'timedOut', 'ready', 'stale', 'draining', 'lost']);

/** The custom property of a state's colour. */
export function stateColour(state: string): string {
  return COLOURED.has(state) ? `state-${state}` : 'state-other';
}

export function StateBadge({ state, detail = '' }: { readonly state: string; readonly detail?: string }) {
  return <span class="badge" style={{ '--badge': `var(--${stateColour(state)})` }}>{spaced(state)}{detail === '' ? '' : ` (${detail})`}</span>;
}
