/** Fitted profiles as a file: JSON, made by `metronome sim calibrate`, read by whatever simulates these functions. */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { MetronomeError } from '../core/errors.ts';
import type { Calibration } from './calibrate.ts';
import type { FunctionProfile } from './profiles.ts';

const MOST_FUNCTIONS = 100_000;
const cost = z.number().nonnegative().max(1e9);
const deviation = z.number().nonnegative().max(5);

/** What a run makes, as people may write it. */
export const outputSchema = z.strictObject({
  count: z.int().nonnegative().max(1_024), share: cost, bytes: cost, bytesPerObject: cost.optional(), wholeBelow: cost.optional(), roundsUp: z.boolean().optional(), most: z.int().positive().max(1_024).optional(), side: cost.optional(),
});

/** The costs of a function, as people may write them. */
export const profileSchema = z.strictObject({
  installMs: cost, processMs: cost, importMs: cost, zygoteMs: cost, warmMs: cost, runMs: cost, runMsPerMib: cost, freshFactor: z.number().positive().max(1_000).optional(), noise: deviation, startNoise: deviation.optional(),
  cores: z.number().positive().max(1_024), output: outputSchema,
});

/** What was measured on a cluster beside what functions cost. */
const clusterSchema = z.strictObject({
  /** A message between scheduler and node, one way, and until the first byte of a transfer, ms. */
  messageMs: cost, latencyMs: cost,
  /** What work of others on the same machine costs (ProcessorOptions). */
  contention: deviation,
});

const fileSchema = z.strictObject({
  metronome: z.literal('profiles', { error: 'must say "profiles": the file is none that `metronome sim calibrate` wrote' }),
  format: z.literal(1),
  /** For people: what it was fitted from. */
  note: z.string(),
  /** Of the cluster that they were fitted on, where it stands in for another. */
  cluster: clusterSchema.optional(),
  functions: z.record(z.string(), profileSchema),
});

/** Profiles by function. */
export interface ProfileFile {
  readonly note: string;
  /** What simulating that cluster needs beside them. */
  readonly cluster?: z.output<typeof clusterSchema>;
  readonly functions: Readonly<Record<string, FunctionProfile>>;
}

/** The text of a file. */
export function formatProfiles({ functions }: { readonly functions: readonly Pick<Calibration['functions'][number], 'function' | 'profile'>[] }, note: string, cluster?: ProfileFile['cluster']): string {
  const lines = functions.map(({ function: name, profile }) => `    ${JSON.stringify(name)}: ${JSON.stringify(profile)}`);
  return `{\n  "metronome": "profiles", "format": 1,\n  "note": ${JSON.stringify(note)},${cluster === undefined ? '' : `\n  "cluster": ${JSON.stringify(cluster)},`}\n  "functions": {\n${lines.join(',\n')}\n  }\n}\n`;
}

/** Reads a file. INVALID_REQUEST when it cannot be read, CONFIG_INVALID with every field that is wrong. */
export async function readProfiles(path: string): Promise<ProfileFile> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new MetronomeError('INVALID_REQUEST', `The profiles ${path} cannot be read: ${error instanceof Error ? error.message : String(error)}.`, { cause: error });
  }
  return parseProfiles(text, path);
}

/** The same for a text; `place` names it in messages. */
export function parseProfiles(text: string, place: string): ProfileFile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new MetronomeError('CONFIG_INVALID', `${place} is not JSON: ${error instanceof Error ? error.message : String(error)}.`, { cause: error });
  }
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) throw new MetronomeError('CONFIG_INVALID', `${place} is not a file of profiles: ${parsed.error.issues.slice(0, 5).map(({ path, message }) => `${path.length === 0 ? 'it' : path.join('.')}: ${message}`).join('; ')}.`);
  const names = Object.keys(parsed.data.functions);
  if (names.length > MOST_FUNCTIONS) throw new MetronomeError('CONFIG_INVALID', `${place} has ${names.length} functions, at most ${MOST_FUNCTIONS} are read.`);
  const { note, cluster } = parsed.data;
  return { note, ...(cluster === undefined ? {} : { cluster }), functions: parsed.data.functions as Readonly<Record<string, FunctionProfile>> }; // optional fields that are absent are absent, not undefined
}
