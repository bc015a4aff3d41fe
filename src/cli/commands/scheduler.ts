/** `metronome scheduler`: the scheduler daemon in the foreground. */
import { Command } from 'commander';
import { withExamples } from '../arguments.ts';
import { RECORD_FLAG, addConfigFlags, addRecordFlag, configFlags } from '../config-flags.ts';
import { loadCliConfig } from '../context.ts';
import type { CliApp } from '../app.ts';
import { runService } from '../run-service.ts';

export function schedulerCommand(app: CliApp): Command {
  const command = new Command('scheduler').description('run the scheduler daemon in the foreground; SIGTERM drains it');
  const flags = addConfigFlags(command, { sections: ['scheduler', 'delay', 'limits', 'nodes'] });
  addRecordFlag(command).option('--exit-with-parent', 'end when the parent process is gone').action(app.action(async (options: { readonly exitWithParent?: boolean }, own: Command) => {
    const given = configFlags(own, new Map([...flags, RECORD_FLAG]));
    const { config } = loadCliConfig(app, own, given.flags, given.flagNames);
    return runService(app, {
      role: 'scheduler',
      logLevel: config.scheduler.logLevel,
      exitWithParent: options.exitWithParent === true,
      async start(log) {
        // Loaded here: the other commands shall start without the daemon.
        const { startDaemon } = await import('../../daemon/daemon.ts');
        const daemon = await startDaemon({ config, log });
        return { listening: { grpcAddress: daemon.grpcAddress, httpUrl: daemon.httpUrl }, stop: () => daemon.stop(), failed: daemon.failed };
      },
    });
  }));
  return withExamples(command, 'metronome scheduler --grpc-port 7070 --data-dir /var/lib/metronome/scheduler', 'metronome scheduler --policy round-robin --log-level debug');
}
