/** Recordings of observations as files (`*.jsonl.gz`, format: src/predictor/observation-log.ts), read into what a model learns from. */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { createGunzip } from 'node:zlib';
import { MetronomeError } from '../core/errors.ts';
import type { Situation } from '../predictor/features.ts';
import type { Phases, Served } from '../predictor/model/observation.ts';
import type { FunctionProfile } from '../predictor/model/online-model.ts';
import { parseLogHeader, parseObservation, type ObservationLogHeader } from '../predictor/observation-log.ts';

/** Executions that one recording may hold. */
const MOST = 1_000_000;

/** One execution with the indexes of its recording. */
export interface Execution {
  readonly situation: Situation;
  readonly phases: Phases;
  /** What had been predicted when it was dispatched, if that was recorded. */
  readonly served?: Served;
}

/** A recording in memory. */
export interface Recording {
  readonly header: ObservationLogHeader;
  readonly functions: readonly FunctionProfile[];
  readonly nodes: readonly string[];
  /** Successful executions in the order of the file. */
  readonly executions: readonly Execution[];
  /** Executions that must not teach; their functions and nodes are not listed for them. */
  readonly excluded: number;
}

/** Reads a recording. Throws STATE_CORRUPT with the line for anything that is none. */
export async function readRecording(path: string): Promise<Recording> {
  const input = createReadStream(path);
  const unzipped = path.endsWith('.gz') ? input.pipe(createGunzip()) : input;
  const functions: FunctionProfile[] = [], nodes: string[] = [], executions: Execution[] = [];
  const functionIndex = new Map<string, number>(), nodeIndex = new Map<string, number>();
  let header: ObservationLogHeader | undefined;
  let line = 0, excluded = 0;
  // An error of the file must reach the reader of the lines.
  const failed = new Promise<never>((_, reject) => {
    input.once('error', reject);
    unzipped.once('error', reject);
  });
  const read = async (): Promise<void> => {
    for await (const text of createInterface({ input: unzipped, crlfDelay: Infinity })) {
      line++;
      const place = `${path}:${line}`;
      if (header === undefined) {
        header = parseLogHeader(text, place);
        continue;
      }
      if (text === '') continue;
      if (executions.length >= MOST) throw new MetronomeError('STATE_CORRUPT', `${place}: a recording holds at most ${MOST} executions.`);
      const { function: name, node, application, situation, phases, served, count = 1 } = parseObservation(text, place);
      // Such a line need not know a node, nor what the function is like.
      if (phases === undefined) {
        excluded += count;
        continue;
      }
      let f = functionIndex.get(name);
      if (f === undefined) {
        f = functions.length;
        functionIndex.set(name, f);
        functions.push({ index: f, name, application, runtime: situation.runtime === 1 ? 'python3' : 'node', dependencies: situation.dependencies ?? 0, packageBytes: situation.packageBytes ?? 0, memoryMb: situation.memoryMb ?? 0 });
      }
      let n = nodeIndex.get(node);
      if (n === undefined) {
        n = nodes.push(node) - 1;
        nodeIndex.set(node, n);
      }
      executions.push({ situation: { ...situation, functionIndex: f, nodeIndex: n }, phases, ...(served === undefined ? {} : { served }) });
    }
  };
  try {
    await Promise.race([read(), failed]);
  } catch (error) {
    input.destroy();
    if (error instanceof MetronomeError) throw error;
    throw new MetronomeError('STATE_CORRUPT', `${path} cannot be read as a recording of observations: ${error instanceof Error ? error.message : String(error)}.`);
  }
  if (header === undefined) throw new MetronomeError('STATE_CORRUPT', `${path} is empty: a recording of observations begins with a line that says so.`);
  return { header, functions, nodes, executions, excluded };
}
