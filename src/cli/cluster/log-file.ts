/** The log files of child processes: their last lines for people, and a bound on their size. */
import { open, stat, truncate, writeFile } from 'node:fs/promises';

const TAIL_BYTES = 16 * 1024;

/** Largest size of a log file; then all but its end is dropped. */
export const MAX_LOG_BYTES = 32 * 1024 * 1024;
const KEPT_BYTES = 4 * 1024 * 1024;

/** The last lines, structured ones shortened to level, event and fields. Empty if there is no file. */
export async function logTail(path: string, lines: number): Promise<string[]> {
  const text = await readEnd(path, TAIL_BYTES).catch(() => ''); // no file, no tail
  return text.split('\n').filter((line) => line.trim() !== '').slice(-lines).map(shorten);
}

/** Drops the beginning of a file that has become too large; its end is kept in `<path>.1`. The writer must append. */
export async function boundLog(path: string, maxBytes = MAX_LOG_BYTES): Promise<void> {
  const found = await stat(path).catch(() => undefined); // not there yet
  if (found === undefined || found.size <= maxBytes) return;
  await writeFile(`${path}.1`, await readEnd(path, Math.min(KEPT_BYTES, maxBytes)));
  await truncate(path, 0);
}

async function readEnd(path: string, bytes: number): Promise<string> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const buffer = Buffer.alloc(Math.min(bytes, size));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, size - buffer.length);
    const text = buffer.toString('utf8', 0, bytesRead);
    // The first line is half a line.
    return size > bytes ? text.slice(text.indexOf('\n') + 1) : text;
  } finally {
    await file.close();
  }
}

const LEVELS: Readonly<Record<number, string>> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' };

function shorten(line: string): string {
  if (!line.startsWith('{')) return line;
  try {
    // Our own log lines; anything else falls through to the line itself.
    const { level, time, msg, role: _role, pid: _pid, ...fields } = JSON.parse(line) as { level?: number; time?: string; msg?: string; role?: string; pid?: number };
    const rest = Object.keys(fields).length === 0 ? '' : ` ${JSON.stringify(fields)}`;
    return `${time?.slice(11, 23) ?? ''} ${LEVELS[level ?? 0] ?? ''} ${msg ?? ''}${rest}`.trim().slice(0, 400);
  } catch {
    return line;
  }
}
