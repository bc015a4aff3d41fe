/**
 * The network between virtual nodes: every node has one link out and one link in, shared max–min fairly by the transfers that cross
 * them (progressive filling). A change recomputes only the transfers that share links with it, directly or through others.
 */
import type { Clock, TimerHandle } from '../core/clock.ts';

/** A transfer under way; opaque. */
export interface Transfer {
  readonly from: number;
  readonly to: number;
  leftBytes: number;
  /** Bytes per ms. */
  rate: number;
  atMs: number;
  timer: TimerHandle;
  done: (() => void) | undefined;
  mark: number;
}

interface Link {
  bytesPerMs: number;
  readonly transfers: Set<Transfer>;
  /** What its transfers leave over, bytes per ms; stale while there are none. */
  left: number;
  /** Scratch of the filling. */
  open: number;
  mark: number;
}

/** What it is made of. */
export interface NetworkOptions {
  readonly clock: Clock;
  /** Capacity of each link, bytes per ms. */
  readonly bytesPerMs: number;
  /** From the request to the first byte, ms. */
  readonly latencyMs: number;
}

export class Network {
  readonly #options: NetworkOptions;
  readonly #out: Link[] = [];
  readonly #in: Link[] = [];
  #mark = 0;
  /** Bytes moved so far. */
  movedBytes = 0;

  constructor(options: NetworkOptions) {
    this.#options = options;
  }

  /** Adds the links of a node; its index is the next one. */
  addNode(bytesPerMs = this.#options.bytesPerMs): void {
    const link = (): Link => ({ bytesPerMs, transfers: new Set(), left: 0, open: 0, mark: 0 });
    this.#out.push(link());
    this.#in.push(link());
  }

  /** Transfers that cross the links of a node. */
  transfersOf(node: number): number {
    return (this.#out[node]?.transfers.size ?? 0) + (this.#in[node]?.transfers.size ?? 0);
  }

  /** Share of a node's link in use now, of the busier direction, 0 to 1. O(1). */
  utilisationOf(node: number): number {
    return Math.max(usedShare(this.#out[node]), usedShare(this.#in[node]));
  }

  /** Capacity of a link, bytes per ms. */
  get bytesPerMs(): number {
    return this.#options.bytesPerMs;
  }

  /** What each of `more` further transfers from one node to another would get now, latency aside, bytes per ms: at least, for others may be bound elsewhere. */
  shareFor(from: number, to: number, more: number): number {
    const out = this.#out[from]!, into = this.#in[to]!;
    return Math.min(out.bytesPerMs / (out.transfers.size + 1), into.bytesPerMs / (into.transfers.size + more));
  }

  /** Until a transfer is over if nothing changes, ms. */
  leftMs({ leftBytes, rate, atMs }: Transfer): number {
    const { clock, bytesPerMs } = this.#options;
    return rate > 0 ? Math.max(0, leftBytes / rate - (clock.nowMs() - atMs)) : leftBytes / bytesPerMs;
  }

  /** Moves `bytes` from one node to another; calls `done` at the end. */
  start(from: number, to: number, bytes: number, done: () => void): Transfer {
    const { clock, latencyMs } = this.#options;
    const transfer: Transfer = { from, to, leftBytes: Math.max(0, bytes), rate: 0, atMs: clock.nowMs(), timer: undefined, done, mark: 0 };
    transfer.timer = clock.setTimer(clock.nowMs() + latencyMs, () => {
      transfer.atMs = clock.nowMs();
      this.#out[from]!.transfers.add(transfer);
      this.#in[to]!.transfers.add(transfer);
      this.#share(transfer);
    });
    return transfer;
  }

  /** Ends a transfer without calling its `done`. Harmless when it is over. */
  stop(transfer: Transfer): void {
    if (transfer.done === undefined) return;
    transfer.done = undefined;
    this.#leave(transfer);
  }

  #leave(transfer: Transfer): void {
    const { clock } = this.#options;
    if (transfer.timer !== undefined) clock.clearTimer(transfer.timer);
    transfer.timer = undefined;
    this.#out[transfer.from]!.transfers.delete(transfer);
    this.#in[transfer.to]!.transfers.delete(transfer);
    this.#share(transfer);
  }

  /** The transfers and links that hang together with this one. */
  #component(seed: Transfer): { transfers: Transfer[]; links: Link[] } {
    const mark = ++this.#mark;
    const transfers: Transfer[] = [];
    const links: Link[] = [];
    const open: Link[] = [this.#out[seed.from]!, this.#in[seed.to]!];
    for (const link of open) link.mark = mark;
    for (let link = open.pop(); link !== undefined; link = open.pop()) {
      if (link.transfers.size > 0) links.push(link);
      for (const transfer of link.transfers) {
        if (transfer.mark === mark) continue;
        transfer.mark = mark;
        transfers.push(transfer);
        for (const other of [this.#out[transfer.from]!, this.#in[transfer.to]!]) {
          if (other.mark === mark) continue;
          other.mark = mark;
          open.push(other);
        }
      }
    }
    return { transfers, links };
  }

  #share(changed: Transfer): void {
    const { clock } = this.#options;
    const now = clock.nowMs();
    const { transfers, links } = this.#component(changed);
    if (transfers.length === 0) return;
    const before = transfers.map(({ rate }) => rate);
    for (const transfer of transfers) {
      const moved = Math.min(transfer.leftBytes, (now - transfer.atMs) * transfer.rate);
      transfer.leftBytes -= moved;
      this.movedBytes += moved;
      transfer.atMs = now;
      transfer.rate = -1;
    }
    for (const link of links) {
      link.left = link.bytesPerMs;
      link.open = link.transfers.size;
    }
    for (let fixed = 0; fixed < transfers.length; ) {
      // The link with the least share for each decides for those that cross it.
      let tight: Link | undefined;
      for (const link of links) if (link.open > 0 && (tight === undefined || link.left / link.open < tight.left / tight.open)) tight = link;
      if (tight === undefined) break;
      const share = Math.max(1e-6, tight.left / tight.open);
      for (const transfer of tight.transfers) {
        if (transfer.rate >= 0) continue;
        transfer.rate = share;
        fixed++;
        for (const link of [this.#out[transfer.from]!, this.#in[transfer.to]!]) {
          link.left -= share;
          link.open--;
        }
      }
    }
    transfers.forEach((transfer, i) => {
      if (transfer.rate === before[i] && transfer.timer !== undefined && transfer !== changed) return;
      if (transfer.timer !== undefined) clock.clearTimer(transfer.timer);
      transfer.timer = clock.setTimer(now + transfer.leftBytes / transfer.rate, () => {
        transfer.timer = undefined;
        this.movedBytes += transfer.leftBytes;
        transfer.leftBytes = 0;
        const { done } = transfer;
        transfer.done = undefined;
        this.#leave(transfer);
        done?.();
      });
    });
  }
}

function usedShare(link: Link | undefined): number {
  return link === undefined || link.transfers.size === 0 ? 0 : 1 - Math.max(0, link.left) / link.bytesPerMs;
}
