/**
 * The folder of an evaluation: `run.json` says what was asked for, `records.jsonl` holds the executions, `cells.jsonl` a line for each cell that ended. A cell counts
 * when its line is there; its records are written before it. So a run that was killed at any moment is taken up where it was: what half a cell left is dropped.
 */
import { appendFile, mkdir, readFile, rename, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { MetronomeError } from '../core/errors.ts';
import type { CellResult, Conditions } from './backend.ts';
import { parseRecord, type ExecutionRecord } from './execution-record.ts';
import type { Cell } from './plan.ts';

const RUN_FILE = 'run.json', RECORDS_FILE = 'records.jsonl', CELLS_FILE = 'cells.jsonl';

const cellLine = z.object({
  id: z.string(), records: z.int(), fromByte: z.int(), toByte: z.int(),
  conditions: z.object({ seconds: z.number(), slotUtilisation: z.number(), hostCpu: z.number().optional(), isSaturated: z.boolean() }),
});

/** A cell that ended. */
export interface EndedCell {
  readonly id: string;
  readonly conditions: Conditions;
  readonly records: readonly ExecutionRecord[];
}

/** The folder of one evaluation. */
export interface ResultFolder {
  readonly path: string;
  /** Cells that ended, in the order in which they did. */
  readonly ended: ReadonlyMap<string, EndedCell>;
  /** Appends a cell. One after the other. */
  add(cell: Cell, result: CellResult): Promise<void>;
  /** Writes a file whole, or not at all. */
  write(name: string, content: string): Promise<void>;
  /** What was written so; undefined if nothing was. */
  read(name: string): Promise<string | undefined>;
}

/**
 * Opens or makes it. `asked`: what decides about the numbers, as plain data. INVALID_REQUEST for a folder that holds an evaluation with other options, and without
 * `resume` for one that holds any.
 */
export async function openResultFolder(path: string, asked: Readonly<Record<string, unknown>>, resume: boolean): Promise<ResultFolder> {
  await mkdir(path, { recursive: true });
  const before = await readOptional(join(path, RUN_FILE));
  const wanted = JSON.stringify(asked);
  if (before !== undefined) {
    if (!resume) throw new MetronomeError('INVALID_REQUEST', `"${path}" holds an evaluation already. Go on with it: --resume. Or name another folder: --out.`);
    const differing = differences(parsed(before, join(path, RUN_FILE)), asked);
    if (differing.length > 0) throw new MetronomeError('INVALID_REQUEST', `"${path}" holds an evaluation with other options (${differing.join(', ')}), so it cannot be resumed with these. Name another folder: --out.`);
  }
  const write = async (name: string, content: string): Promise<void> => {
    const file = join(path, name);
    await writeFile(`${file}.new`, content);
    await rename(`${file}.new`, file);
  };
  if (before === undefined) await write(RUN_FILE, `${wanted}\n`);

  const ended = new Map<string, EndedCell>();
  const recordsPath = join(path, RECORDS_FILE), cellsPath = join(path, CELLS_FILE);
  const recordBytes = Buffer.from((await readOptional(recordsPath)) ?? '');
  const cellText = (await readOptional(cellsPath)) ?? '';
  let size = 0, kept = 0;
  for (const line of cellText.split('\n').slice(0, -1)) {
    const cell = cellLine.safeParse(tryJson(line)).data;
    const records = cell === undefined ? [] : recordBytes.subarray(cell.fromByte, cell.toByte).toString('utf8').split('\n').slice(0, -1).map(parseRecord).filter((record) => record !== undefined);
    if (cell === undefined || records.length !== cell.records) break; // here it was killed
    ended.set(cell.id, { id: cell.id, conditions: { ...cell.conditions, hostCpu: cell.conditions.hostCpu }, records });
    size = cell.toByte;
    kept += Buffer.byteLength(line) + 1;
  }
  // What half a cell left would stand before the next one.
  if (recordBytes.length > size) await truncate(recordsPath, size);
  if (Buffer.byteLength(cellText) > kept) await truncate(cellsPath, kept);
  return {
    path, ended, write,
    read: (name) => readOptional(join(path, name)),
    async add(cell, { records, conditions }) {
      const text = records.map((record) => `${JSON.stringify(record)}\n`).join('');
      await appendFile(recordsPath, text);
      const fromByte = size;
      size += Buffer.byteLength(text);
      await appendFile(cellsPath, `${JSON.stringify({ id: cell.id, records: records.length, fromByte, toByte: size, conditions })}\n`);
      ended.set(cell.id, { id: cell.id, conditions, records });
    },
  };
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function parsed(text: string, path: string): Readonly<Record<string, unknown>> {
  const value = tryJson(text);
  if (typeof value !== 'object' || value === null) throw new MetronomeError('INVALID_REQUEST', `"${path}" is not the description of an evaluation. Name another folder: --out.`);
  return value as Readonly<Record<string, unknown>>; // an object, by the line before
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Names of what differs. */
function differences(a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((name) => JSON.stringify(a[name]) !== JSON.stringify(b[name]));
}
