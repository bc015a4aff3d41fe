/**
 * The CPU of a virtual node: everything that runs shares its cores equally (processor sharing). Work is given in milliseconds at full
 * speed; with more demand than cores all of it goes slower by the same factor. Nodes that stand on one machine, as emulated ones do, share its
 * cores in the same way. One timer per processor; O(log n) per change, on a shared machine times its nodes.
 */
import type { Clock, TimerHandle } from '../core/clock.ts';
import { Heap } from '../core/heap.ts';

/** A piece of work under way; opaque. */
export interface Job {
  /** Cores that it can use. */
  readonly demand: number;
  /** Service time at which it is done. */
  readonly endsAt: number;
  done: (() => void) | undefined;
}

/** How fast a job goes on a machine of which so many cores are wanted, beyond what its own node allows: 0 to 1. */
export function hostRate(busy: number, cores: number, contention: number): number {
  const shared = busy > cores ? cores / busy : 1;
  return contention === 0 || cores <= 1 ? shared : shared / (1 + contention * Math.max(0, Math.min(1, (busy - 1) / (cores - 1))));
}

/** The machine that several virtual nodes stand on. */
export class Host {
  readonly cores: number;
  /** How much longer everything takes with all cores busy than with one, beyond the sharing: caches, memory, two threads of one core. 0.3: by 30 %. */
  readonly contention: number;
  readonly processors: Processor[] = [];

  constructor(cores: number, contention = 0) {
    this.cores = cores;
    this.contention = contention;
  }

  /** How fast a job goes here that its own node lets go at full speed, 0 to 1. */
  get rate(): number {
    let busy = 0;
    for (const { demand, cores } of this.processors) busy += Math.min(demand, cores);
    return hostRate(busy, this.cores, this.contention);
  }
}

/** What is left of a job when its timer fires, for the rounding of times: less than this is nothing. */
const TOLERANCE_MS = 1e-5;

export class Processor {
  readonly #clock: Clock;
  readonly cores: number;
  /** Below 1: a slow node; its work takes so many times longer. */
  speed = 1;
  readonly #jobs = new Heap<Job>();
  #order = 0;
  /** Cores that the jobs under way could use. */
  demand = 0;
  /** Service time so far: what a job that was always there has been given, ms at full speed. */
  #served = 0;
  #atMs: number;
  #timer: TimerHandle;
  #usedMs = 0;

  readonly #host: Host | undefined;

  constructor(clock: Clock, cores: number, host?: Host) {
    this.#clock = clock;
    this.cores = cores;
    this.#host = host;
    host?.processors.push(this);
    this.#atMs = clock.nowMs();
  }

  /** How fast a job goes now, 0 to `speed`. */
  get rate(): number {
    return this.speed * (this.demand > this.cores ? this.cores / this.demand : 1) * (this.#host?.rate ?? 1);
  }

  /** Core-milliseconds used since the start. */
  get usedMs(): number {
    this.#advance();
    return this.#usedMs;
  }

  /** How fast a job would go with so much more demand, 0 to `speed`. */
  rateWith(moreDemand: number): number {
    const demand = this.demand + moreDemand;
    return this.speed * (demand > this.cores ? this.cores / demand : 1);
  }

  /** What a job still needs, ms at full speed. */
  leftMs(job: Job): number {
    this.#advance();
    return job.done === undefined ? 0 : Math.max(0, job.endsAt - this.#served);
  }

  /** Begins `workMs` of work that can use `demand` cores; calls `done` at its end. */
  start(workMs: number, demand: number, done: () => void): Job {
    this.#before();
    const job: Job = { demand, endsAt: this.#served + Math.max(0, workMs), done };
    this.#jobs.push(job.endsAt, this.#order++, job);
    this.demand += demand;
    this.#after();
    return job;
  }

  /** Ends a job without calling its `done`. Harmless when it is over. */
  stop(job: Job): void {
    if (job.done === undefined) return;
    this.#before();
    job.done = undefined;
    this.demand -= job.demand;
    this.#after();
  }

  /** Changes the speed of the node from now on. */
  setSpeed(speed: number): void {
    this.#advance();
    this.speed = speed;
    this.#arm();
  }

  /** Before the demand changes: all whose speed may change with it are brought to this moment. */
  #before(): void {
    if (this.#host === undefined) this.#advance();
    else for (const processor of this.#host.processors) processor.#advance();
  }

  /** After it changed. */
  #after(): void {
    if (this.#host === undefined) this.#arm();
    else for (const processor of this.#host.processors) processor.#arm();
  }

  #advance(): void {
    const now = this.#clock.nowMs();
    const { rate } = this;
    this.#served += (now - this.#atMs) * rate;
    this.#usedMs += (now - this.#atMs) * Math.min(this.demand, this.cores);
    this.#atMs = now;
  }

  #arm(): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
    let next = this.#jobs.peek();
    while (next !== undefined && next.done === undefined) {
      this.#jobs.pop();
      next = this.#jobs.peek();
    }
    if (next === undefined) {
      // Nobody counts on what was served: begin again from 0, so that sums stay exact over long times.
      this.#served = this.demand = 0;
      return;
    }
    this.#timer = this.#clock.setTimer(this.#atMs + Math.max(0, next.endsAt - this.#served) / this.rate, this.#fire);
  }

  readonly #fire = (): void => {
    this.#timer = undefined;
    this.#before();
    const over: (() => void)[] = [];
    for (let next = this.#jobs.peek(); next !== undefined && (next.done === undefined || next.endsAt <= this.#served + TOLERANCE_MS); next = this.#jobs.peek()) {
      this.#jobs.pop();
      if (next.done === undefined) continue;
      over.push(next.done);
      next.done = undefined;
      this.demand -= next.demand;
    }
    this.#after();
    for (const done of over) done();
  };
}
