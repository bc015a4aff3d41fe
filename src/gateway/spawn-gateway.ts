/** Starts a gateway in a thread or a process of its own, for the daemon. The gateway's messages arrive on the line. */
import { fork } from 'node:child_process';
import { Worker } from 'node:worker_threads';
import type { GatewayConfig } from './gateway-config.ts';
import { createProcessLine, createWorkerLine, type ClosableLine } from './lines.ts';
import type { GatewayMessage, LoopMessage } from './protocol.ts';

/** A gateway elsewhere. `listening` or `fatal` is the first message on its line. */
export interface SpawnedGateway {
  /** The loop's end of the line. */
  readonly line: ClosableLine<GatewayMessage, LoopMessage>;
  /** Resolves with the exit code when the thread or process has ended. */
  readonly exited: Promise<number>;
  /** Process id; undefined for a thread. */
  readonly pid: number | undefined;
  /** Ends it at once. The way to end it properly is the message `stop`. */
  kill(): Promise<void>;
}

// tsc rewrites imports, not URLs: the entry has the extension that this file has.
const ENTRY = new URL(`./gateway-host${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

/** A gateway in a worker thread of this process. */
export function spawnGatewayThread(config: GatewayConfig): SpawnedGateway {
  const worker = new Worker(ENTRY, { name: 'gateway', workerData: { config } });
  const line = createWorkerLine<GatewayMessage, LoopMessage>(worker);
  const exited = new Promise<number>((resolve) => worker.once('exit', resolve));
  reportCrash(worker, line);
  return { line, exited, pid: undefined, kill: async () => void (await worker.terminate()) };
}

/** A gateway in a child process; it ends by itself when this process ends. */
export function spawnGatewayProcess(config: GatewayConfig): SpawnedGateway {
  const child = fork(ENTRY, [], {
    serialization: 'advanced',
    // Flags of the daemon (an inspector's port, --eval) are not the gateway's.
    execArgv: [],
    env: { ...process.env, METRONOME_GATEWAY_CONFIG: JSON.stringify(config) },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const line = createProcessLine<GatewayMessage, LoopMessage>(child);
  const exited = new Promise<number>((resolve) => child.once('exit', (code, signal) => resolve(code ?? (signal === null ? 0 : 1))));
  reportCrash(child, line);
  return {
    line,
    exited,
    pid: child.pid,
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** An 'error' (a crash, or a process that could not start) is followed by the end of the line, which is what counts. */
function reportCrash(emitter: NodeJS.EventEmitter, line: ClosableLine<GatewayMessage, LoopMessage>): void {
  emitter.on('error', (error: Error) => {
    process.stderr.write(`gateway crashed: ${error.stack ?? error.message}\n`);
    line.close();
  });
}
