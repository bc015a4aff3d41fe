/**
 * An update of the model that is done tree by tree, so that its thread can do other things in between. Rows, targets and seeds of all trees are drawn when it
 * begins: whatever is learned meanwhile, and in whatever order the trees are grown, the same update grows the same trees.
 */
import { MetronomeError } from '../../core/errors.ts';
import type { FlatTree } from '../model/flat-forest.ts';
import type { OnlineModel, UpdateReport } from '../model/online-model.ts';
import { trainTree } from '../model/train-tree.ts';
import type { Trainer, TreeJob } from '../model/trainer.ts';

export class TreeByTree {
  readonly #model: OnlineModel;
  readonly #grow: Trainer;
  readonly #jobs: TreeJob[];
  readonly #grown: { readonly place: number; readonly tree: FlatTree }[] = [];
  #failures = 0;
  #failure: MetronomeError | undefined;

  /** Begins the update. Until `end` the model predicts with the trees that it has. */
  constructor(model: OnlineModel, grow: Trainer = trainTree) {
    this.#model = model;
    this.#grow = grow;
    this.#jobs = [...model.beginUpdate()];
  }

  /** Trees that are still to be grown. */
  get treesLeft(): number {
    return this.#jobs.length;
  }

  /** Trees that could not be grown so far, and why not the last of them. */
  get failed(): { readonly trees: number; readonly error: MetronomeError } | undefined {
    return this.#failure === undefined ? undefined : { trees: this.#failures, error: this.#failure };
  }

  /** Grows one tree, and lets its rows go. One that cannot be grown is left out. */
  growNext(): void {
    const job = this.#jobs.shift();
    if (job === undefined) return;
    try {
      this.#grown.push({ place: job.place, tree: this.#grow(job) });
    } catch (error) {
      this.#failures++;
      this.#failure = MetronomeError.from(error);
    }
  }

  /** Puts the trees in their places. Throws what the last tree failed with when there is none; then the model is what it was, and the update is due again after as many observations. */
  end(): UpdateReport {
    if (this.#grown.length === 0 && this.#failure !== undefined) throw this.#failure;
    return this.#model.finishUpdate(this.#grown);
  }
}
