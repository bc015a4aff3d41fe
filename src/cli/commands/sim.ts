/** `metronome sim`: fits the simulator to recordings of real runs, and runs scenarios in it. */
import { Command } from 'commander';
import { writeFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { MetronomeError } from '../../core/errors.ts';
import { calibrate, LEAST_SAMPLES, type Calibration, type FunctionFit } from '../../sim/calibrate.ts';
import { readCalibration } from '../../sim/calibration-samples.ts';
import { formatProfiles } from '../../sim/profile-file.ts';
import { withExamples } from '../arguments.ts';
import { printerOf } from '../context.ts';
import type { Printer } from '../output/printer.ts';
import type { Column } from '../output/table.ts';
import type { CliApp } from '../app.ts';

export function simCommand(app: CliApp): Command {
  const group = new Command('sim').description('simulate: the same scheduler and policies on virtual time');
  group.addCommand(withExamples(new Command('calibrate').argument('<recording...>', 'files of recorded observations (model.observationLog), .jsonl or .jsonl.gz').description('fit what functions cost in the simulator to recorded runs, and say how good the fit is')
    .option('--profiles <file>', 'write the profiles to this file, for scenarios')
    .action(app.action(async (files: readonly string[], { profiles }: { readonly profiles?: string }, command: Command) => {
      const printer = printerOf(app, command);
      const recordings = [];
      for (const file of files) recordings.push(await readCalibration(resolve(app.io.cwd, file)));
      const samples = recordings.flatMap((recording) => recording.samples);
      recordings.forEach(({ samples: own, excluded, note }, i) => printer.progress(`${files[i]}: ${own.length} executions, ${excluded} excluded${note === '' ? '' : ` (${note})`}`));
      const calibration = calibrate(samples);
      if (calibration.functions.length === 0) throw new MetronomeError('INVALID_REQUEST', `${files.join(', ')}: no function has ${LEAST_SAMPLES} successful executions; nothing can be fitted.`);
      if (profiles !== undefined) {
        const note = `fitted by metronome sim calibrate to ${samples.length} executions of ${calibration.functions.length} functions (${files.map((file) => basename(file)).join(', ')})`;
        await writeFile(resolve(app.io.cwd, profiles), formatProfiles(calibration, note));
        printer.progress(`${profiles}: profiles of ${calibration.functions.length} functions`);
      }
      show(printer, calibration);
    })), 'metronome sim calibrate observations.jsonl', 'metronome sim calibrate observations-*.jsonl.gz --profiles profiles.json', 'metronome sim calibrate observations.jsonl -o json'));
  return group;
}

function show(printer: Printer, calibration: Calibration): void {
  if (printer.isStructured) return printer.structured(calibration);
  printer.table(calibration.functions, FIT_COLUMNS);
  const { busySlowdown, busySamples, link } = calibration;
  printer.progress(busySamples === 0 ? 'busy machine: not seen' : `busy machine: runs took ${busySlowdown.toFixed(2)} times as long (${busySamples} executions); taken out of the costs`);
  printer.progress(link === undefined ? 'transfers: too few' : `transfers: ${(link.bytesPerMs / 1_000).toFixed(1)} MB/s after ${link.latencyMs.toFixed(1)} ms (${link.transfers})`);
}

/** 12.345 → "12.3", 1234.5 → "1235". */
const ms = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toFixed(1));
const percent = (share: number): string => `${(share * 100).toFixed(0)}%`;

const FIT_COLUMNS: readonly Column<FunctionFit>[] = [
  { header: 'FUNCTION', cell: ({ function: name }) => name },
  { header: 'RUNS', align: 'right', cell: ({ samples }) => String(samples) },
  { header: 'COLD/PKG/ZYG/WARM', align: 'right', wide: true, cell: ({ byStartState }) => byStartState.join('/') },
  { header: 'INSTALL', align: 'right', cell: ({ profile }) => ms(profile.installMs) },
  { header: 'START', align: 'right', cell: ({ profile }) => ms(profile.processMs + profile.importMs) },
  { header: 'ZYGOTE', align: 'right', cell: ({ profile }) => ms(profile.zygoteMs) },
  { header: 'RUN ms', align: 'right', cell: ({ profile }) => ms(profile.runMs) },
  { header: '+ms/MiB', align: 'right', cell: ({ profile }) => ms(profile.runMsPerMib) },
  { header: 'FIRST ×', align: 'right', cell: ({ profile }) => (profile.freshFactor ?? 1).toFixed(1) },
  { header: 'NOISE', align: 'right', cell: ({ profile }) => percent(profile.noise) },
  { header: 'OUTPUT', align: 'right', optional: true, cell: ({ profile: { output } }) => (output.count === 0 ? '' : `${output.count} × ${(output.share / output.count).toFixed(2)}`) },
  { header: 'ERROR p50', align: 'right', cell: ({ medianError }) => percent(medianError) },
  { header: 'p90', align: 'right', cell: ({ p90Error }) => percent(p90Error) },
  { header: 'EXPLAINED', align: 'right', optional: true, cell: ({ explained }) => percent(explained) },
  { header: 'ASSUMED', optional: true, wide: true, cell: ({ assumed }) => assumed.join('; ') },
];
