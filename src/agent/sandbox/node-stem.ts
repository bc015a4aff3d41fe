/**
 * A zygote of Node: a process that has imported the packages of a layer and becomes the sandbox of a function. V8 cannot fork, so
 * each stem serves once. Packages of another layer that are the same (subtree) are taken from the stem's loaded copies.
 */
import { MetronomeError } from '../../core/errors.ts';
import type { Places, ProcessEnd } from './containment.ts';
import { CLOSED_MS, LiveSandbox } from './live-sandbox.ts';
import type { PackageLayer } from '../program.ts';
import type { Sandbox, SandboxSpec, Zygote, ZygoteSpec } from './sandbox-driver.ts';
import { FrameReader, FRAME_OVERHEAD_BYTES, decodeFrame } from './sandbox-frames.ts';
import { nodeArguments } from './runtimes.ts';
import { SandboxProcess, writeRecord, type ProcessOwner } from './sandbox-process.ts';
import { ZygoteFace, ZygoteLife, type ZygoteHost } from './zygote-life.ts';

/** Its driver. */
interface StemHost extends ZygoteHost {
  /** It is gone. `places`: those to remove; undefined when they are a sandbox's now. */
  forgetZygote(zygote: NodeStem, places: Places | undefined): void;
}

export class NodeStem extends ZygoteFace implements Zygote, ProcessOwner {
  readonly #host: StemHost;
  readonly #reader = new FrameReader(FRAME_OVERHEAD_BYTES);
  #process: SandboxProcess | undefined;

  constructor(host: StemHost, spec: ZygoteSpec) {
    super(new ZygoteLife(host, spec, (reason) => void this.kill(reason)));
    this.#host = host;
    void this.#begin();
  }

  async #begin(): Promise<void> {
    const { places, spec, packages } = this.life;
    try {
      this.#host.containment.prepare(places, 'single');
      const launched = this.#host.launch({
        places, interpreter: process.execPath, args: nodeArguments(spec.memoryMb), env: this.#host.environment({ functionName: spec.functionName ?? '', env: {} }, places, process.execPath), channel: 'frames',
        layer: spec.layer, memoryMb: spec.memoryMb, cpu: 0, network: spec.network,
      });
      const child = launched instanceof Promise ? await launched : launched;
      this.#process = SandboxProcess.spawned(child, this.#host.containment, this);
      this.life.born(child.pid);
      writeRecord(places.dir, child.pid);
      this.#process.send({ kind: 'preload', layerDir: spec.layer?.dir ?? places.dir, packages });
    } catch (error) {
      this.#over(MetronomeError.from(error));
    }
  }

  specialise(spec: SandboxSpec): Sandbox {
    const { id, places } = this.life;
    const process_ = this.#process;
    if (!this.canServe(spec) || process_ === undefined) throw new MetronomeError('SANDBOX_FAILED', `The zygote ${id} cannot serve "${spec.functionName}".`, { component: 'agent' });
    const { layer } = this.spec;
    const adoption = {
      env: this.#host.environment(spec, places, process.execPath),
      workDir: places.homeDir,
      loaded: layer?.digest === spec.layer?.digest ? {} : samePackages(spec.layer, layer),
    };
    const sandbox = new LiveSandbox(this.#host, spec, {
      // Its directory goes with the process.
      id: id.replace(/^zy-/, 'sb-'), places, isOfZygote: true,
      born: (owner) => {
        process_.handOver(owner);
        return { process: process_, adoption };
      },
    });
    this.#process = undefined;
    this.life.stopping(new MetronomeError('CANCELLED', 'The zygote became a sandbox.', { component: 'agent' }));
    this.#host.forgetZygote(this, undefined);
    this.life.over(new MetronomeError('CANCELLED', 'The zygote became a sandbox.', { component: 'agent' }));
    return this.#host.keep(sandbox);
  }

  onControl(chunk: Buffer): void {
    const fits = this.#reader.feed(chunk, (body) => {
      const frame = decodeFrame(body);
      if (frame?.kind === 'preloaded') this.life.preloaded(frame.report);
      else void this.kill(new MetronomeError('SANDBOX_FAILED', 'A package of a zygote wrote to file descriptor 3 while it was imported.', { component: 'function' }));
    });
    if (!fits) void this.kill(new MetronomeError('SANDBOX_FAILED', 'A package of a zygote wrote to file descriptor 3 while it was imported.', { component: 'function' }));
  }

  onControlClosed(): void {
    // Normally its end follows and says more.
    if (this.isAlive) setTimeout(() => void this.kill(new MetronomeError('SANDBOX_FAILED', 'The process of a zygote closed its control channel.', { component: 'function' })), CLOSED_MS);
  }

  onOutput(stream: 'stdout' | 'stderr', chunk: Buffer): void {
    this.life.output(stream, chunk);
  }

  onEnd(end: ProcessEnd): void {
    if (this.#process !== undefined) this.#host.containment.killRemains(this.#process.pid, this.life.places, true);
    this.#over(this.life.endError(end));
  }

  onDrained(): void {}

  kill(reason: MetronomeError): Promise<void> {
    if (this.life.stopping(reason)) this.life.killProcess(() => this.#over(reason));
    return this.gone;
  }

  #over(error: MetronomeError): void {
    if (this.life.state === 'gone') return;
    this.#process?.release();
    this.#host.forgetZygote(this, this.life.places);
    this.life.over(error);
  }
}

/** Folders of the function's packages that are the same as packages of the zygote, with the zygote's. */
function samePackages(wanted: PackageLayer | undefined, loaded: PackageLayer | undefined): Record<string, string> {
  const bySubtree = new Map(loaded?.packages.map(({ subtree, dir }) => [subtree, dir]));
  const same: Record<string, string> = {};
  for (const { subtree, dir } of wanted?.packages ?? []) {
    const copy = bySubtree.get(subtree);
    if (copy !== undefined) same[dir] = copy;
  }
  return same;
}
