/** An excerpt as JSON Lines: a head, then each transition, then each decision; `kind` tells which. */
import type { Excerpt } from './excerpt.ts';

/** The lines, each ended by a line break. */
export function toJsonLines({ title, missed, transitions, decisions }: Excerpt): string {
  const lines: unknown[] = [{ kind: 'excerpt', title, missed, transitions: transitions.length }];
  for (const transition of transitions) lines.push({ kind: 'transition', ...transition });
  for (const [id, each] of decisions) for (const decision of each) lines.push({ kind: 'decision', id, ...(decision as object) }); // JSON of a message is an object
  return `${lines.map((line) => JSON.stringify(line)).join('\n')}\n`;
}
