/** `npm run -s bench -- <name> [--json] [--seed n] [--quick] [--out folder] [--recording file]`: runs one bench and prints its report. */
import { MetronomeError } from '../src/core/errors.ts';
import { ablationsBench } from './ablations.ts';
import { agentOverheadBench } from './agent-overhead.ts';
import { applicationsBench } from './applications.ts';
import { baselineTrainingBench } from './baseline-training.ts';
import { coldStartBench } from './cold-start.ts';
import { dataplaneBench } from './dataplane.ts';
import { decisionBench } from './decision.ts';
import { emulationBench } from './emulation.ts';
import { gatewayBench } from './gateway.ts';
import { toReport, type Bench } from './harness.ts';
import { inferenceBench } from './inference.ts';
import { inspectOverheadBench } from './inspect-overhead.ts';
import { metricsLagBench } from './metrics-lag.ts';
import { modelAccuracyBench } from './model-accuracy.ts';
import { modelRecoveryBench } from './model-recovery.ts';
import { pageBench } from './page.ts';
import { paperBench } from './paper.ts';
import { recordingOverheadBench } from './recording-overhead.ts';
import { resourceTuningBench } from './resource-tuning.ts';
import { scaleBench } from './scale.ts';
import { shardsBench } from './shards.ts';
import { simSpeedBench } from './sim-speed.ts';
import { simValidityBench } from './sim-validity.ts';
import { traceDayBench } from './trace-day.ts';
import { trainingBench } from './training.ts';

const BENCHES: Readonly<Record<string, Bench>> = {
  ablations: ablationsBench,
  'agent-overhead': agentOverheadBench,
  applications: applicationsBench,
  'baseline-training': baselineTrainingBench,
  'cold-start': coldStartBench,
  dataplane: dataplaneBench,
  decision: decisionBench,
  emulation: emulationBench,
  gateway: gatewayBench,
  inference: inferenceBench,
  'inspect-overhead': inspectOverheadBench,
  'metrics-lag': metricsLagBench,
  'model-accuracy': modelAccuracyBench,
  'model-recovery': modelRecoveryBench,
  page: pageBench,
  paper: paperBench,
  'recording-overhead': recordingOverheadBench,
  'resource-tuning': resourceTuningBench,
  scale: scaleBench,
  shards: shardsBench,
  'sim-speed': simSpeedBench,
  'sim-validity': simValidityBench,
  'trace-day': traceDayBench,
  training: trainingBench,
};

const args = process.argv.slice(2);
const flag = (name: string): boolean => args.includes(name);
const option = (name: string): string | undefined => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
const VALUED = ['--seed', '--out', '--recording'];
const name = args.find((arg, i) => !arg.startsWith('--') && !VALUED.includes(args[i - 1] ?? ''));

if (name === undefined || flag('--help') || BENCHES[name] === undefined) {
  const known = Object.entries(BENCHES).map(([key, { description }]) => `  ${key.padEnd(14)} ${description}`).join('\n');
  process.stderr.write(`${name !== undefined && BENCHES[name] === undefined ? `Unknown bench "${name}".\n\n` : ''}Usage: npm run -s bench -- <name> [--json] [--seed n] [--quick] [--out folder] [--recording file]\n\n${known}\n`);
  process.exit(flag('--help') ? 0 : 2);
}

const seed = Number(option('--seed') ?? 1);
if (!Number.isSafeInteger(seed)) {
  process.stderr.write(`--seed must be an integer, not "${option('--seed')}".\n`);
  process.exit(2);
}
const result = await BENCHES[name].run({ seed, quick: flag('--quick'), out: option('--out'), recording: option('--recording'), progress: (text) => process.stderr.write(`${text}\n`) }).catch((error: unknown) => {
  // What people can do something about; anything else shows where it came from.
  if (!(error instanceof MetronomeError)) throw error;
  process.stderr.write(`${error.code}: ${error.message}\n`);
  return process.exit(1);
});
const report = toReport(name, seed, result);
if (flag('--json')) process.stdout.write(`${JSON.stringify(report)}\n`);
else {
  process.stdout.write(`${report.name} (${report.mode}) · ${report.machine.cpus} × ${report.machine.model} · Node ${report.machine.node} · ${report.commit} · seed ${seed}\n`);
  for (const { name: figure, value, unit, n, low, high } of report.figures) process.stdout.write(`  ${figure.padEnd(34)} ${String(value).padStart(10)} ${unit.padEnd(4)} low ${low}, high ${high}, n ${n}\n`);
}
process.exit(0);
