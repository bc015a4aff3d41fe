/** docs/reference/cli.md: the help of every command. */
import type { Command } from 'commander';
import type { CliIo } from '../io.ts';
import { createProgram } from '../program.ts';
import { GENERATED } from './markdown.ts';

export function cliPage(): string {
  let text = '';
  const io: CliIo = {
    out: (part) => void (text += String(part)), err: () => {}, env: {}, cwd: '/', columns: 100, outColor: false, errColor: false,
    readStdin: async () => new Uint8Array(),
  };
  const program = createProgram({ io, signal: new AbortController().signal, takeSignals: () => {} });
  const blocks: string[] = [];
  const walk = (command: Command, path: string): void => {
    text = '';
    command.outputHelp();
    blocks.push(`${path === 'metronome' ? '##' : '#'.repeat(path.split(' ').length)} ${path}\n\n\`\`\`\n${text.trim()}\n\`\`\`\n`);
    for (const child of command.commands) walk(child, `${path} ${child.name()}`);
  };
  walk(program, 'metronome');
  return `# Command line

${GENERATED}

From a clone, call it through npm, which brings the right Node: \`npm run -s metronome -- <command>\`. Data goes to standard output, progress and
complaints to standard error. The options of \`metronome\` itself (\`-o\`, \`--scheduler\`, \`--config\`, \`-q\`) hold for every command and may stand anywhere.
Colours are left out when the output is no terminal or \`NO_COLOR\` is set. Exit codes: [errors](errors.md).

${blocks.join('\n')}`;
}
