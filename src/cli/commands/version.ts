/** `metronome version`: of the program and of what it runs on. */
import { Command } from 'commander';
import { withExamples } from '../arguments.ts';
import { printerOf } from '../context.ts';
import type { CliApp } from '../app.ts';
import { programVersion } from '../project.ts';

export function versionCommand(app: CliApp): Command {
  return withExamples(new Command('version').description('print the version of the program and of Node').action(app.action((_options: object, command: Command) => {
    const version = { metronome: programVersion(), node: process.versions.node, platform: `${process.platform}-${process.arch}` };
    printerOf(app, command).one([['metronome', version.metronome], ['node', version.node], ['platform', version.platform]], () => version);
  })), 'metronome version -o json');
}
