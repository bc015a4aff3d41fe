/** docs/reference/config.md: every key of the configuration, from the schema. */
import { configSchema, referenceRows } from '../../config/schema.ts';
import { GENERATED, code, markdownTable } from './markdown.ts';

export function configPage(): string {
  const rows = referenceRows();
  const sections = [...new Set(rows.map(({ key }) => key.split('.')[0] ?? ''))];
  const parts = sections.map((section) => {
    const description = (configSchema.shape as Readonly<Record<string, { meta(): { description?: string } | undefined }>>)[section]?.meta()?.description ?? ''; // sections are keys of the shape
    const table = markdownTable(['key', 'type', 'default', 'allowed', 'meaning'], rows.filter(({ key }) => key.startsWith(`${section}.`)).map((row) => [code(row.key), row.type, code(row.default), row.bounds, row.description]));
    return `## ${section}\n\n${description}\n\n${table}\n`;
  });
  return `# Configuration

${GENERATED}

Values come from, the strongest first: flags of the command line, environment variables, the file, the defaults below.
\`metronome config show --origin\` prints the values in force and where each came from.

- **File**: \`metronome.config.yaml\` in the working directory, or the one named by \`--config\` or \`METRONOME_CONFIG\`. A map of sections.
- **Environment**: \`METRONOME_<SECTION>__<KEY>\` in capitals, for example \`${rows[1]?.env ?? ''}\` for \`${rows[1]?.key ?? ''}\`.
- **Durations** are written \`150ms\`, \`30s\`, \`1h30m\` or as a number of milliseconds, **sizes** \`256MiB\`, \`1GB\` or as a number of bytes.
- An unknown key is an error. \`METRONOME_ADDRESS\` (host:port) tells the client commands where the scheduler is.

${parts.join('\n')}`;
}
