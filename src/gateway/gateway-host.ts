/**
 * Entry point of a gateway that lives apart from the loop: in a worker thread (configuration in workerData, line over
 * parentPort) or in a forked child process (configuration in METRONOME_GATEWAY_CONFIG, line over the IPC channel).
 * Started by spawnGatewayThread and spawnGatewayProcess.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { destination, pino } from 'pino';
import { MetronomeError } from '../core/errors.ts';
import { startGateway } from './gateway.ts';
import { DEFAULT_GATEWAY_CONFIG, type GatewayConfig } from './gateway-config.ts';
import { createProcessLine, createWorkerLine } from './lines.ts';
import type { GatewayMessage, LoopMessage } from './protocol.ts';

/** Drain after a SIGTERM that did not come from the daemon, ms. */
const SIGTERM_GRACE_MS = 5_000;

const config = readConfig();
// stderr, synchronously: lines must not be lost when the process ends, and stdout belongs to data.
const log = pino({ name: 'gateway', level: config.logLevel }, destination({ fd: 2, sync: true }));
const line = parentPort === null ? createProcessLine<LoopMessage, GatewayMessage>(process) : createWorkerLine<LoopMessage, GatewayMessage>(parentPort);

try {
  const gateway = await startGateway({ line, config, log });
  if (parentPort === null) {
    // Ctrl-C reaches the whole group; the daemon decides when the gateway ends.
    process.on('SIGINT', () => {});
    process.once('SIGTERM', () => void gateway.stop(SIGTERM_GRACE_MS));
    // The daemon died without a word: nobody can answer any more.
    line.onClose(() => void gateway.stop(0).then(() => process.exit(1)));
  }
  await gateway.stopped;
  line.close();
  if (parentPort === null) process.exit(0);
} catch {
  // startGateway has logged it and told the loop; give that message time to leave.
  setTimeout(() => {
    line.close();
    process.exit(1);
  }, 100);
}

function readConfig(): GatewayConfig {
  if (parentPort === null && process.send === undefined) {
    throw new MetronomeError('INTERNAL', 'gateway-host runs in a worker thread or a forked process; use spawnGatewayThread or spawnGatewayProcess.');
  }
  // Written by spawnGateway… from a GatewayConfig; defaults fill in what an older daemon did not know.
  const given: Partial<GatewayConfig> = parentPort === null ? JSON.parse(process.env['METRONOME_GATEWAY_CONFIG'] ?? '{}') : workerData.config;
  return { ...DEFAULT_GATEWAY_CONFIG, ...given };
}
