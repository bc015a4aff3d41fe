/** `metronome load`: sends the arrivals of a recording to a running scheduler, at the times and with the sizes that were recorded. */
import { Readable } from 'node:stream';
import { Command, InvalidArgumentError } from 'commander';
import { MetronomeError } from '../../core/errors.ts';
import { createRandom } from '../../core/random.ts';
import { formatBytes, formatMs } from '../../core/units.ts';
import type { ObjectRef } from '../../rpc/gen/metronome/v1/common.ts';
import { NodeStatus } from '../../rpc/gen/metronome/v1/node.ts';
import type { RecordedCall } from '../../workload/recorded-calls.ts';
import { collect, duration, readPayload, wholeNumber, withExamples, type Payload } from '../arguments.ts';
import { withSession, type Session } from '../context.ts';
import { readInputs } from '../inputs.ts';
import { putStream, type ObjectDoor } from '../objects.ts';
import { runOpenLoop } from '../open-loop.ts';
import { exitCodeOf, reportError } from '../output/error-report.ts';
import { printTally } from '../output/tally-text.ts';
import { msCell } from '../output/words.ts';
import type { CliApp } from '../app.ts';

/** Bytes of objects that are made for a load, all together. */
const MOST_BYTES = 8 * 1024 ** 3;
const MOST_IN_FLIGHT = 16_384, DEFAULT_IN_FLIGHT = 1_000;
const MOST_SPEED = 1_000;
const PROGRESS_MS = 2_000;
/** A request that leaves so much later than it should says more about this client than about the scheduler. */
const LATE_MS = 50;
/** Made objects repeat a block of this size behind a head of their own. */
const BLOCK_BYTES = 65_536;
/** Names that an error shows. */
const SHOWN = 8;

interface LoadOptions {
  readonly recording: string;
  readonly speed: number;
  readonly from?: number;
  readonly until?: number;
  readonly data?: string[];
  readonly input?: string[];
  readonly policy?: string;
  readonly skipMissing?: boolean;
  readonly maxInFlight: number;
  readonly via?: string;
}

export function loadCommand(app: CliApp): Command {
  const command = new Command('load')
    .description('send the arrivals of a recording to a running scheduler, when they came, whatever becomes of those before')
    .requiredOption('--recording <folder>', 'folder of a recording, or one that holds recordings (the newest is taken)')
    .option('--speed <x>', 'so many times as fast as it was recorded', (text) => {
      const value = Number(text);
      if (!(value > 0 && value <= MOST_SPEED)) throw new InvalidArgumentError(`It must be a number above 0 and at most ${MOST_SPEED}, for example 2 or 0.5.`);
      return value;
    }, 1)
    .option('--from <duration>', 'leave out what came before, since the recording began', duration)
    .option('--until <duration>', 'leave out what came later', duration)
    .option('--data <name=json|name=@file>', 'payload for a function or workflow; may be given again (default: as many bytes as were recorded, JSON that says nothing)', collect)
    .option('--input <name=file>', 'input for a function or workflow, as it is read; may be given again (default: objects of the recorded sizes, filled with noise)', collect)
    .option('--policy <name>', 'scheduling policy for these requests')
    .option('--skip-missing', 'leave out functions and workflows that are not deployed')
    .option('--max-in-flight <n>', `requests without an answer at the most; what would be more is not sent, and counted (default: ${DEFAULT_IN_FLIGHT})`, wholeNumber(1, MOST_IN_FLIGHT), DEFAULT_IN_FLIGHT)
    .option('--via <url>', "the gateway's HTTP door for objects, when the nodes cannot be reached from here")
    .action(app.action(async (options: LoadOptions, own: Command) => {
      const { resolve } = await import('node:path');
      const { recordedCalls } = await import('../../workload/recorded-calls.ts');
      const { recording, speed, from: fromMs = 0, until: untilMs = Infinity } = options;
      const recorded = recordedCalls(resolve(app.io.cwd, recording), { fromMs, untilMs, speed });
      if (recorded.length === 0) throw new MetronomeError('INVALID_REQUEST', `The recording ${recording} holds no arrivals${fromMs > 0 || untilMs < Infinity ? ' in that time; leave out --from and --until' : '; record a daemon while it is called (metronome up --record)'}.`);
      return withSession(app, own, async (session) => {
        const { client, printer, signal, globals } = session;
        const calls = await deployedOnly(session, recorded, options.skipMissing === true);
        const payloads = new Map<string, Payload>();
        for (const [name, text] of byName('--data', options.data ?? [], calls)) payloads.set(name, await readPayload(app.io, text, undefined));
        const door: ObjectDoor = { client, gatewayUrl: options.via, signal };
        const inputs = new Map<string, ObjectRef[]>();
        for (const [name, file] of byName('--input', options.input ?? [], calls)) inputs.set(name, [...(inputs.get(name) ?? []), ...(await readInputs(door, [file], app.io.cwd, printer.progress))]);
        const made = await makeObjects(door, calls.filter(({ function: name }) => !inputs.has(name)), printer.progress);
        const lastMs = calls.at(-1)?.atMs ?? 0;
        printer.progress(`${calls.length} arrivals over ${formatMs(lastMs)}${speed === 1 ? '' : ` (${speed} times as fast as recorded)`}`);
        let told = performance.now();
        const result = await runOpenLoop({
          client, signal, maxInFlight: options.maxInFlight, dueMs: calls.map(({ atMs }) => atMs),
          request(i) {
            const call = calls[i] as RecordedCall; // as many as there are times
            const { payload, contentType } = payloads.get(call.function) ?? filler(call.payloadBytes);
            return { function: call.function, payload: Buffer.from(payload), contentType, inputs: inputs.get(call.function) ?? call.inputs.map(({ id }) => made.get(id) as ObjectRef), slaMs: call.slaMs, localityKey: call.localityKey, policy: options.policy ?? '' }; // makeObjects made it
          },
          onChange({ sent, notSent, inFlight, failed }) {
            if (performance.now() - told < PROGRESS_MS) return;
            told = performance.now();
            const dueMs = calls[sent + notSent]?.atMs;
            printer.progress(`${sent} of ${calls.length} sent, ${inFlight} in flight${failed > 0 ? `, ${failed} failed` : ''}${notSent > 0 ? `, ${notSent} not sent` : ''}${dueMs === undefined ? '' : `; ${formatMs(lastMs - dueMs)} of arrivals left`}`);
          },
        });
        const { summary, notSent, lateMs, firstError } = result;
        if (printer.isStructured) printer.structured({ recording, speed, arrivals: calls.length, notSent, lateMs, ...summary });
        else {
          printTally(summary, printer);
          printer.text(`sent late by ${msCell(lateMs.p50)} ms (P50), ${msCell(lateMs.p99)} ms (P99)\n`);
        }
        if (notSent > 0) printer.warn(`${notSent} arrivals were not sent: ${options.maxInFlight} were in flight. The scheduler does not keep up; slow down (--speed) or allow more (--max-in-flight).`);
        if (lateMs.p99 > LATE_MS) printer.warn(`This client could not keep the times (P99 ${formatMs(lateMs.p99)} late): the load was less dense than recorded.`);
        if (firstError === undefined) return notSent > 0 ? 1 : 0;
        if (!signal.aborted) {
          printer.progress('The first error:');
          reportError(app.io, firstError, globals.output);
        }
        return summary.succeeded > 0 ? 1 : exitCodeOf(firstError);
      });
    }));
  return withExamples(command, 'metronome load --recording ./recordings', 'metronome load --recording ./recordings --speed 2 --policy lookahead', 'metronome load --recording ./recordings --from 30s --until 2m --input log-analysis=access.log --data \'log-analysis={"parts":8}\'');
}

/** FUNCTION_NOT_FOUND with the names of what is not deployed, unless these are to be left out. */
async function deployedOnly({ client, printer, signal }: Session, calls: readonly RecordedCall[], skip: boolean): Promise<readonly RecordedCall[]> {
  const [{ functions }, { workflows }] = await Promise.all([client.listFunctions({}, { signal }), client.listWorkflows({}, { signal })]);
  const known = new Set([...functions, ...workflows].map(({ spec }) => spec?.name ?? ''));
  const missing = [...new Set(calls.map(({ function: name }) => name))].filter((name) => !known.has(name)).sort();
  if (missing.length === 0) return calls;
  const names = `${missing.slice(0, SHOWN).join(', ')}${missing.length > SHOWN ? ', …' : ''}`;
  const left = calls.filter(({ function: name }) => known.has(name));
  if (!skip || left.length === 0) throw new MetronomeError('FUNCTION_NOT_FOUND', `The recording calls ${missing.length === 1 ? 'something' : `${missing.length} functions or workflows`} that ${missing.length === 1 ? 'is' : 'are'} not deployed: ${names}. Deploy what is missing (metronome function apply -f <folder>)${left.length > 0 ? ', or leave it out with --skip-missing' : ''}.`);
  printer.warn(`${calls.length - left.length} of ${calls.length} arrivals are left out: ${names} ${missing.length === 1 ? 'is' : 'are'} not deployed.`);
  return left;
}

/** "name=value", each name one that is called. */
function byName(option: string, values: readonly string[], calls: readonly RecordedCall[]): (readonly [name: string, value: string])[] {
  const known = new Set(calls.map(({ function: name }) => name));
  return values.map((value) => {
    const at = value.indexOf('=');
    const name = value.slice(0, Math.max(0, at));
    if (at < 1) throw new MetronomeError('INVALID_REQUEST', `${option} must be name=value, not "${value.slice(0, 80)}".`);
    if (!known.has(name)) throw new MetronomeError('INVALID_REQUEST', `${option} is for "${name}", which these arrivals do not call; they call ${[...known].sort().slice(0, SHOWN).join(', ')}${known.size > SHOWN ? ', …' : ''}.`);
    return [name, value.slice(at + 1)] as const;
  });
}

/** One object for each that was recorded, of the same size; on the node that had it first, if there is one of that name. */
async function makeObjects(door: ObjectDoor, calls: readonly RecordedCall[], progress: (line: string) => void): Promise<Map<string, ObjectRef>> {
  const wanted = new Map(calls.flatMap(({ inputs }) => inputs.map((input) => [input.id, input] as const)));
  const bytes = [...wanted.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (bytes > MOST_BYTES) throw new MetronomeError('INVALID_REQUEST', `The arrivals read ${wanted.size} objects of ${formatBytes(bytes)} in all, and at most ${formatBytes(MOST_BYTES)} are made. Take a part of them (--from, --until) or name a file (--input name=file).`);
  const made = new Map<string, ObjectRef>();
  if (wanted.size === 0) return made;
  progress(`storing ${wanted.size} objects of the recorded sizes, ${formatBytes(bytes)} in all`);
  const nodes = (await door.client.listNodes({}, door.signal === undefined ? {} : { signal: door.signal })).nodes.filter(({ status }) => status === NodeStatus.READY);
  let next = 0;
  for (const { id, sizeBytes, name, holders } of wanted.values()) {
    const seed = next++;
    const node = holders.find((holder) => nodes.some((each) => each.name === holder)) ?? nodes[seed % Math.max(1, nodes.length)]?.name;
    made.set(id, await putStream({ ...door, node }, () => Readable.from(noise(seed, sizeBytes)), sizeBytes, name === '' ? `recorded-${seed}` : name));
  }
  return made;
}

function* noise(seed: number, bytes: number): Generator<Buffer> {
  const random = createRandom(seed, 77);
  const block = Buffer.alloc(BLOCK_BYTES);
  for (let at = 0; at < BLOCK_BYTES; at += 4) block.writeUInt32LE(random.below(2 ** 32), at);
  for (let left = bytes; left > 0; left -= BLOCK_BYTES) yield left < BLOCK_BYTES ? block.subarray(0, left) : block;
}

const LEAST_FILLER = '{"pad":""}'.length;

/** JSON of so many bytes that says nothing; one byte is none. */
function filler(bytes: number): Payload {
  const text = bytes < 2 ? '' : bytes < LEAST_FILLER ? '{}'.padEnd(bytes) : `{"pad":"${'x'.repeat(bytes - LEAST_FILLER)}"}`;
  return { payload: Buffer.from(text), contentType: text === '' ? '' : 'application/json' };
}
