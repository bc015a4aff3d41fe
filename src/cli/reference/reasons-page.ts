/** docs/reference/reasons.md: the vocabulary of reasons. */
import { REASONS } from '../../core/reasons.ts';
import { GENERATED, code, markdownTable } from './markdown.ts';

export function reasonsPage(): string {
  return `# Reasons

${GENERATED}

Every transition and every decision carries one of these words: in the API, in \`metronome invocation explain\`, in logs, metrics and traces.

${markdownTable(['reason', 'meaning'], Object.entries(REASONS).map(([name, meaning]) => [code(name), meaning]))}
`;
}
