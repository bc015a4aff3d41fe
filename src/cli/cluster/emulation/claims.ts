/**
 * Who owns which emulated cluster of this machine. A claim is a file that is there before anything else of the cluster is, and goes
 * after everything else: whatever happens in between, the next one who looks knows what may be left, and of whom.
 */
import { linkSync, mkdirSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isRunning, startTimeOf } from '../../../agent/sandbox/proc.ts';
import { MetronomeError } from '../../../core/errors.ts';
import { lockDirectory } from '../../../store/directory-lock.ts';
import { isId } from './names.ts';

/** A process, for good: ids are used again, start times are not. */
export interface Owner {
  readonly pid: number;
  readonly startTime: string;
  /** Process ids mean something only within their namespace. */
  readonly pidNamespace: string;
}

/** An emulated cluster on this machine. */
export interface Claim {
  readonly id: string;
  readonly owner: Owner;
  readonly nodes: number;
  /** Whether it has a network of its own. */
  readonly hasNetwork: boolean;
  /** Folders of its control group, one per hierarchy. */
  readonly groups: readonly string[];
  /** Data folder of the cluster; sandboxes carry it in their environment. */
  readonly dataDir: string;
}

/** Memory of the running system: nothing that is named there survives a restart of the machine either. */
const FOLDER = '/run/metronome/emulation';
const LOCK_WAIT_MS = 30_000;

/** This process as an owner. */
export function self(): Owner {
  return { pid: process.pid, startTime: startTimeOf(process.pid) ?? '', pidNamespace: pidNamespace() };
}

/** True while the owner lives, or may live where this process cannot see it. */
export function isAlive(owner: Owner): boolean {
  if (owner.pidNamespace !== pidNamespace()) return true;
  return isRunning(owner.pid) && startTimeOf(owner.pid) === owner.startTime;
}

/** Runs something while no other process claims or removes clusters. It must not wait for anything but the kernel. */
export function exclusively<T>(work: () => T): T {
  mkdirSync(FOLDER, { recursive: true, mode: 0o755 });
  const lock = lockDirectory(FOLDER, LOCK_WAIT_MS);
  try {
    return work();
  } finally {
    lock.release();
  }
}

/** All claims there are. Looking for them makes no folder. */
export function allClaims(): Claim[] {
  let names: string[];
  try {
    names = readdirSync(FOLDER);
  } catch {
    return []; // nobody ever claimed anything
  }
  return names.flatMap((name) => {
    const id = name.replace(/\.json$/, '');
    if (!name.endsWith('.json') || !isId(id)) return [];
    const claim = readClaim(id);
    return claim === undefined ? [] : [claim];
  });
}

/** The claim of an id; undefined if there is none any more. */
function readClaim(id: string): Claim | undefined {
  let text: string;
  try {
    text = readFileSync(fileOf(id), 'utf8');
  } catch {
    return undefined; // it was given back
  }
  try {
    return JSON.parse(text) as Claim; // written whole by write() below, in a folder of root's
  } catch (cause) {
    throw new MetronomeError('STATE_CORRUPT', `${fileOf(id)} is not what an emulated cluster writes. Look at it, remove what it names, then remove it.`, { cause });
  }
}

/** Takes an id; false if somebody has it. */
export function take(claim: Claim): boolean {
  const whole = `${fileOf(claim.id)}.${process.pid}`;
  writeFileSync(whole, JSON.stringify(claim), { mode: 0o644 });
  try {
    // A file that is linked is there at once and with all that is in it, and only once.
    linkSync(whole, fileOf(claim.id));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(whole, { force: true });
  }
}

/** Gives an id back. */
export function giveBack(id: string): void {
  rmSync(fileOf(id), { force: true });
}

function fileOf(id: string): string {
  return join(FOLDER, `${id}.json`);
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}
