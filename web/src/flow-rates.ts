/** How many transitions per second each edge of each machine carries, smoothed over about two seconds. */
import type { Tick } from '../../src/inspect/page-api.ts';

const SMOOTH_MS = 2_000;

interface Machine {
  flow: readonly number[];
  readonly rates: Float64Array;
}

class FlowRates {
  readonly #machines = new Map<string, Machine>();
  #atMs = 0;

  add({ atMs, machines }: Tick): void {
    const passedMs = atMs - this.#atMs;
    const weight = 1 - Math.exp(-passedMs / SMOOTH_MS);
    for (const [name, { flow }] of Object.entries(machines)) {
      const before = this.#machines.get(name);
      if (before === undefined || before.flow.length !== flow.length || passedMs <= 0) {
        this.#machines.set(name, { flow, rates: new Float64Array(flow.length) });
        continue;
      }
      for (let i = 0; i < flow.length; i++) {
        const rate = (Math.max(0, (flow[i] ?? 0) - (before.flow[i] ?? 0)) * 1_000) / passedMs;
        const smoothed = (before.rates[i] ?? 0) + weight * (rate - (before.rates[i] ?? 0));
        before.rates[i] = smoothed < 0.01 ? 0 : smoothed;
      }
      before.flow = flow;
    }
    this.#atMs = atMs;
  }

  /** Per second, by index of edge. */
  of(machine: string): Float64Array | undefined {
    return this.#machines.get(machine)?.rates;
  }

  clear(): void {
    this.#machines.clear();
    this.#atMs = 0;
  }
}

export const flowRates = new FlowRates();
