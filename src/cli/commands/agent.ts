/** `metronome agent`: the agent of a node in the foreground. */
import { Command } from 'commander';
import { withExamples } from '../arguments.ts';
import { addConfigFlags, configFlags } from '../config-flags.ts';
import { globalsOf, loadCliConfig } from '../context.ts';
import type { CliApp } from '../app.ts';
import { runService } from '../run-service.ts';

const MIB = 1024 ** 2;

export function agentCommand(app: CliApp): Command {
  const command = new Command('agent').description('run the agent of this node in the foreground; SIGTERM lets what runs end');
  // The scheduler's address is a global option.
  const flags = addConfigFlags(command, { sections: ['agent'], except: ['agent.scheduler'] });
  const logFlags = addConfigFlags(command, { sections: ['scheduler'], only: ['scheduler.logLevel', 'scheduler.drainGrace'] });
  command.option('--exit-with-parent', 'end when the parent process is gone').action(app.action(async (options: { readonly exitWithParent?: boolean }, own: Command) => {
    const given = configFlags(own, new Map([...flags, ...logFlags]));
    const address = globalsOf(own).scheduler ?? app.io.env['METRONOME_ADDRESS'];
    const { config } = loadCliConfig(app, own, { ...given.flags, 'agent.scheduler': address }, given.flagNames);
    const { agent, nodes, limits, scheduler } = config;
    return runService(app, {
      role: 'agent',
      logLevel: scheduler.logLevel,
      exitWithParent: options.exitWithParent === true,
      async start(log) {
        // Loaded here: the other commands shall start without the agent.
        const { startAgent } = await import('../../agent/agent.ts');
        const running = await startAgent({
          name: agent.name,
          host: agent.host,
          grpcPort: agent.grpcPort,
          dataPort: agent.dataPort,
          schedulerAddress: agent.scheduler,
          slots: agent.slots,
          memoryMb: Math.floor(agent.memoryBytes / MIB),
          dataDir: agent.dataDir,
          keepAliveMs: agent.keepAliveMs,
          keepAlivePolicy: agent.keepAlivePolicy,
          zygotes: agent.zygotes === 'auto',
          zygoteMemory: agent.zygoteMemory,
          zygoteStock: agent.zygoteStock,
          pushIntervalMs: nodes.pushIntervalMs,
          objectQuotaBytes: agent.objectQuotaBytes,
          objectTtlMs: agent.objectTtlMs,
          linkBytesPerS: agent.linkBytesPerS,
          linkLatencyMs: agent.linkLatencyMs,
          packageQuotaBytes: agent.packageQuotaBytes,
          npmRegistry: agent.npmRegistry,
          maxResultBytes: limits.maxResultBytes,
          logBytes: agent.logBytes,
          metricsSource: agent.metricsSource,
          linkRateBytesPerS: agent.linkRateBitsPerS / 8,
          // "a=b,c=d", as the schema made sure.
          labels: Object.fromEntries(agent.labels.split(',').filter((pair) => pair !== '').map((pair) => pair.split('=') as [string, string])),
          isolation: agent.isolation,
          limits: agent.limits,
          log,
        });
        return {
          listening: { name: running.name, grpcAddress: running.grpcAddress, dataUrl: running.dataUrl },
          failed: running.failed,
          async stop(urgent) {
            if (!urgent) await running.drain(scheduler.drainGraceMs);
            await running.stop();
          },
        };
      },
    });
  }));
  return withExamples(command, 'metronome agent --name node-1 --slots 4', 'metronome agent --scheduler 10.0.0.5:7070 --host 10.0.0.7');
}
