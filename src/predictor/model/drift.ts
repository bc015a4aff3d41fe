/**
 * Notices sudden changes: two-sided CUSUM on standardised residuals, one per function and one per node. Every execution counts for both. A change
 * is believed to be the function's when it was seen on two nodes, the node's when three functions saw it; so a slow node does not make all functions look
 * changed, and a changed function does not make its node look slow. Slow changes are the business of forgetting, not of this file.
 */

/** Standard deviations that a residual must exceed to count, most that one counts, and the sum that is an alarm. */
const TOLERATED = 1, MOST = 4, ALARM = 8;
/** Mean residual (logarithm) below which the least squares follow well enough by themselves. */
const LEAST_SHIFT = 0.04;
/** A function is watched from so many observations on. */
const WATCHED_FROM = 15;
/** With only one node in sight a function needs so many residuals. */
const ALONE = 5;
/** Members of an episode that are remembered. */
const REMEMBERED = 16;

/** A shift of one function or node, from its first member to now. */
interface Episode {
  up: number;
  down: number;
  /** Window slots and serial numbers of the executions since both sums were zero, with what they were on and by how much they were off. */
  readonly slots: number[];
  readonly serials: number[];
  readonly others: number[];
  readonly residuals: number[];
}

/** Something changed. `slots`: those of the executions that showed it, oldest first; the window may have given one to another execution since, as its serial number tells. */
export interface Change {
  readonly kind: 'function' | 'node';
  readonly record: number;
  readonly slots: readonly number[];
  readonly serials: readonly number[];
}

export class DriftDetector {
  readonly #functions: (Episode | undefined)[] = [];
  readonly #nodes: (Episode | undefined)[] = [];
  readonly functionEvents: number[] = [];
  nodeEvents = 0;

  /**
   * Takes in one prequential residual. `scale`: the mean |residual| of the function lately; `observations` of the function so far; `nodes` known. Returns the
   * change that it completes, if any.
   */
  add(record: number, node: number, slot: number, serial: number, residual: number, scale: number, observations: number, nodes: number): Change | undefined {
    if (observations < WATCHED_FROM) return undefined;
    const z = Math.min(MOST, Math.max(-MOST, residual / (1.25 * scale + 0.003)));
    if (node > 0) {
      const episode = this.#step(this.#nodes, node, record, slot, serial, residual, z);
      if (this.#isAlarm(episode) && new Set(episode.others).size >= 3) {
        this.nodeEvents++;
        return this.#close(this.#nodes, 'node', node, episode);
      }
    }
    const episode = this.#step(this.#functions, record, node, slot, serial, residual, z);
    if (!this.#isAlarm(episode)) return undefined;
    const places = new Set(episode.others).size;
    if (places < 2 && !(nodes <= 1 && episode.slots.length >= 3) && episode.slots.length < 2 * ALONE) return undefined;
    this.functionEvents[record] = (this.functionEvents[record] ?? 0) + 1;
    return this.#close(this.#functions, 'function', record, episode);
  }

  /** Forgets a function, also as a witness of nodes. */
  forget(record: number): void {
    this.#functions[record] = undefined;
    this.#nodes.forEach((episode, node) => {
      if (episode?.others.includes(record) === true) this.#nodes[node] = undefined;
    });
    this.functionEvents[record] = 0;
  }

  #step(episodes: (Episode | undefined)[], at: number, other: number, slot: number, serial: number, residual: number, z: number): Episode {
    const episode = (episodes[at] ??= { up: 0, down: 0, slots: [], serials: [], others: [], residuals: [] });
    episode.up = Math.max(0, episode.up + z - TOLERATED);
    episode.down = Math.max(0, episode.down - z - TOLERATED);
    if (episode.up === 0 && episode.down === 0) {
      episode.slots.length = episode.serials.length = episode.others.length = episode.residuals.length = 0;
      return episode;
    }
    episode.slots.push(slot);
    episode.serials.push(serial);
    episode.others.push(other);
    episode.residuals.push(residual);
    if (episode.slots.length > REMEMBERED) {
      episode.slots.shift();
      episode.serials.shift();
      episode.others.shift();
      episode.residuals.shift();
    }
    return episode;
  }

  #isAlarm({ up, down, residuals }: Episode): boolean {
    if (Math.max(up, down) < ALARM) return false;
    const mean = residuals.reduce((sum, residual) => sum + residual, 0) / residuals.length;
    return Math.abs(mean) >= LEAST_SHIFT;
  }

  #close(episodes: (Episode | undefined)[], kind: Change['kind'], record: number, episode: Episode): Change {
    episodes[record] = undefined;
    // What showed the change of a node must not count for its functions any more, and the other way round.
    const gone = new Set(episode.serials);
    for (const other of new Set(episode.others)) {
      const list = kind === 'node' ? this.#functions : this.#nodes;
      if (list[other]?.serials.some((serial) => gone.has(serial)) === true) list[other] = undefined;
    }
    return { kind, record, slots: episode.slots, serials: episode.serials };
  }
}
