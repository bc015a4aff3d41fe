/**
 * A process that speaks the protocol of sandboxes: its control channel, its output and its end, told to an owner. The owner may
 * change: the process of a zygote becomes that of a sandbox. However it was born (spawned, or forked by another process), it looks the same here.
 */
import type { ChildProcess } from 'node:child_process';
import { writeFileSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Containment, ProcessEnd } from './containment.ts';
import { startTimeOf } from './proc.ts';
import { encodeFrame, type AgentFrame } from './sandbox-frames.ts';

/** Whom a process tells what happens to it. */
export interface ProcessOwner {
  onControl(chunk: Buffer): void;
  /** Nothing more comes; normally the end follows. */
  onControlClosed(): void;
  onOutput(stream: 'stdout' | 'stderr', chunk: Buffer): void;
  onEnd(end: ProcessEnd): void;
  /** It has ended and its output was read to the end. */
  onDrained(): void;
}

/** What a process is made of. */
export interface ProcessParts {
  /** The leader of its session, as seen from the agent. */
  readonly pid: number;
  readonly control: Socket;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Called when nobody is interested any more: it must not keep the agent alive. */
  readonly unref?: () => void;
}

export class SandboxProcess {
  readonly pid: number;
  #owner: ProcessOwner;
  readonly #parts: ProcessParts;
  #openOutputs = 2;
  #end: ProcessEnd | undefined;

  constructor(parts: ProcessParts, owner: ProcessOwner) {
    this.pid = parts.pid;
    this.#parts = parts;
    this.#owner = owner;
    const { control, stdout, stderr } = parts;
    control.on('data', (chunk: Buffer) => this.#owner.onControl(chunk));
    control.on('error', () => {}); // EPIPE, ECONNRESET: the end follows and says why
    control.on('close', () => this.#owner.onControlClosed());
    for (const [name, stream] of [['stdout', stdout], ['stderr', stderr]] as const) {
      // Always read, so that nobody blocks.
      stream.on('data', (chunk: Buffer) => this.#owner.onOutput(name, chunk));
      stream.on('error', () => {});
      stream.on('close', () => {
        this.#openOutputs--;
        this.#maybeDrained();
      });
    }
  }

  /** Of a child that was spawned with a control socket as descriptor 3. */
  static spawned(child: ChildProcess & { readonly pid: number }, containment: Containment, owner: ProcessOwner): SandboxProcess {
    // Node makes every further 'pipe' a socket pair, readable and writable; the types only know a stream.
    const process = new SandboxProcess({ pid: child.pid, control: child.stdio[3] as Socket, stdout: child.stdout as Readable, stderr: child.stderr as Readable, unref: () => child.unref() }, owner);
    child.on('exit', (code, signal) => process.ended(containment.endOf({ code, signal })));
    return process;
  }

  /** From now on this one is told. */
  handOver(owner: ProcessOwner): void {
    this.#owner = owner;
  }

  /** It was seen to end. */
  ended(end: ProcessEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#owner.onEnd(end);
    this.#maybeDrained();
  }

  send(frame: AgentFrame): void {
    const { control } = this.#parts;
    const [first, second] = encodeFrame(frame) as [Buffer, Buffer | undefined];
    if (second === undefined) {
      control.write(first);
      return;
    }
    control.cork();
    control.write(first);
    control.write(second);
    control.uncork();
  }

  /** Lets go of its channel and output. */
  release(): void {
    this.#parts.control.destroy();
    this.#parts.stdout.destroy();
    this.#parts.stderr.destroy();
    this.#parts.unref?.();
  }

  #maybeDrained(): void {
    if (this.#end !== undefined && this.#openOutputs === 0) this.#owner.onDrained();
  }
}

/** Writes down which process belongs to a private directory, for the sweep of a later agent. */
export function writeRecord(dir: string, pid: number): void {
  writeFileSync(join(dir, 'process.json'), JSON.stringify({ pid, startTime: startTimeOf(pid) ?? '' }));
}

/** What `writeRecord` wrote down; undefined if there is nothing of use. */
export function readRecord(dir: string): { readonly pid: number; readonly startTime: string } | undefined {
  try {
    const record: unknown = JSON.parse(readFileSync(join(dir, 'process.json'), 'utf8'));
    if (typeof record !== 'object' || record === null || !('pid' in record) || !('startTime' in record)) return undefined;
    const { pid, startTime } = record;
    return typeof pid === 'number' && pid > 1 && typeof startTime === 'string' && startTime !== '' ? { pid, startTime } : undefined;
  } catch {
    return undefined; // killed before it was written; the marker in the environment finds the process
  }
}
