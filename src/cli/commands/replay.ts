/** `metronome replay`: makes every decision of a recording again and compares. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { formatMs } from '../../core/units.ts';
import type { ReplayReport } from '../../recording/replay.ts';
import type { RecordingReader } from '../../recording/read-recording.ts';
import { withExamples } from '../arguments.ts';
import { printerOf } from '../context.ts';
import type { Printer } from '../output/printer.ts';
import type { CliApp } from '../app.ts';

export function replayCommand(app: CliApp): Command {
  const command = new Command('replay')
    .argument('<recording>', 'folder of a recording, or one that holds recordings (the newest is taken)')
    .description('give the recorded inputs to a fresh scheduler and compare all that it decides; exit code 1 when something differs')
    .action(app.action(async (path: string, _options: object, own: Command) => {
      const printer = printerOf(app, own);
      const reader = await openForCommand(printer, resolve(app.io.cwd, path));
      const { replayRecording } = await import('../../recording/replay.ts');
      const report = replayRecording(reader, { onProgress: (entries) => printer.progress(`${entries} entries …`) });
      if (printer.isStructured) printer.structured(report);
      else printer.text(textOf(report));
      return report.difference === undefined ? 0 : 1;
    }));
  return withExamples(command, 'metronome replay ./recordings', 'metronome replay ./recordings/20261125T190838123Z-4711 -o json');
}

/** Opens a recording and says which one it is when there was a choice. */
export async function openForCommand(printer: Printer, path: string): Promise<RecordingReader> {
  const { openRecording } = await import('../../recording/read-recording.ts');
  const reader = openRecording(path);
  if (reader.others > 0) printer.progress(`${reader.folder}: the newest of ${reader.others + 1} recordings`);
  return reader;
}

function textOf({ entries, decisions, dispatches, transitions, spanMs, end, missing, torn, difference }: ReplayReport): string {
  const lines = [`${decisions} decisions reproduced, with ${dispatches} dispatches and ${transitions} transitions, from ${entries} entries over ${formatMs(spanMs)}.`];
  if (difference !== undefined) {
    const { entry, atMs, input, invocation, recorded, replayed } = difference;
    lines.push('', `Entry ${entry} differs, at ${new Date(atMs).toISOString()}${invocation === '' ? '' : ` (${invocation})`}: ${input}`, `  recorded: ${recorded}`, `  replayed: ${replayed}`);
  } else if (end === 'gap') lines.push(`Then ${missing} entries are missing: the writer could not follow. What comes behind cannot be replayed; its arrivals can be used (metronome what-if).`);
  else if (torn !== undefined) lines.push(`The last block was not written to its end (${torn.file}, byte ${torn.offset}, ${torn.bytes} bytes): skipped.`);
  else if (end === 'cutOff') lines.push('The recording was cut off there: the scheduler was killed, or the recording was full.');
  return `${lines.join('\n')}\n`;
}
