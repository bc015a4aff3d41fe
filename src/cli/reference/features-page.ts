/** docs/reference/features.md: what the model is shown of an execution. */
import { FEATURES, type FeatureGroup } from '../../predictor/features.ts';
import { GENERATED, code, markdownTable } from './markdown.ts';

const GROUPS: Readonly<Record<FeatureGroup, string>> = {
  key: 'Keys: whose history counts. The trees never compare them.',
  system: 'System: the node (s of the paper).',
  container: 'Container: what a sandbox starts from (c).',
  network: 'Network: what has to be moved, and over what (n).',
  function: 'Function: what runs (d).',
  derived: 'Derived: what the model makes of the others.',
};

export function featuresPage(): string {
  const groups = Object.entries(GROUPS).map(([group, title]) => {
    const rows = FEATURES.filter((feature) => feature.group === group).map(({ name, unit, source, missing, least, most, meaning }) => [code(name), unit, source, String(missing), Number.isFinite(most) ? `${least} to ${most}` : '', meaning]);
    return `## ${title}\n\n${markdownTable(['name', 'unit', 'filled by', 'not known', 'bounds', 'meaning'], rows)}\n`;
  });
  return `# Features

${GENERATED}

One execution as the prediction model sees it: a row of numbers. Those that the scheduler fills can be given by name to
\`ModelService.Predict\` and \`Observe\` and stand in recordings of observations; the model fills the others from its own memory.
What lies beyond the bounds is refused from clients, and cut off by the model.

${groups.join('\n')}`;
}
