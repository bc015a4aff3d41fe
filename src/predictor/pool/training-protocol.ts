/** The tasks of the training thread: what the loop asks, what the thread answers. Plain data; typed arrays are moved, not copied. */
import type { ErrorRecord } from '../../core/errors.ts';
import type { FunctionProfile, ModelStatus, OnlineModelOptions, UpdateReason } from '../model/online-model.ts';
import type { KeyNames } from '../model-keys.ts';
import type { Exclusion } from '../model/observation.ts';

/** A change in the list of functions: a profile, or the index of one that is gone. */
export type FunctionChange = FunctionProfile | { readonly gone: number };

/** Runs that must not teach, counted by function and reason. */
export interface ExcludedRuns {
  readonly functionIndex: number;
  readonly why: Exclusion;
  readonly count: number;
}

/** Where observations are recorded (config model.observationLog). */
export interface RecordingOptions {
  readonly folder: string;
  readonly maxBytes: number;
  readonly files: number;
}

export type TrainTask =
  /** Makes the model, from the snapshot file if there is one. The first task of a thread. */
  | { readonly kind: 'open'; readonly options: OnlineModelOptions; readonly snapshotPath: string; readonly recording: RecordingOptions | undefined;
      /** Keys in use; a snapshot with other nodes is of no use. Undefined: whatever the snapshot has. */
      readonly names: KeyNames | undefined }
  /** Learns `count` observations. `nodes`: names by index, as far as they changed since the last time. */
  | { readonly kind: 'learn'; readonly batch: Float64Array; readonly count: number; readonly functions: readonly FunctionChange[]; readonly nodes: readonly (readonly [number, string])[]; readonly excluded: readonly ExcludedRuns[] }
  /** Begins an update. With 'extra-trees', whose trees take milliseconds, this is all of it; with 'ml-random-forest' the trees follow, one per task. */
  | { readonly kind: 'update' }
  /** Grows the next tree of the update that has begun; the last one ends it. What comes in between is done in between; an import ends it without a version. */
  | { readonly kind: 'tree' }
  | { readonly kind: 'status' }
  /** Writes the snapshot file. */
  | { readonly kind: 'save'; readonly path: string; readonly names: KeyNames }
  /** The snapshot as bytes. */
  | { readonly kind: 'export'; readonly names: KeyNames }
  /** Another model takes the place of this one. */
  | { readonly kind: 'import'; readonly bytes: Uint8Array };

/** What readers have to know after a task: the version they see, and the memory when it is another one. */
export interface Published {
  /** 0: nothing is published. */
  readonly version: number;
  /** Shared memory, when readers must go over to it. */
  readonly memory?: SharedArrayBuffer;
}

/** What a task did for an update. */
export interface UpdateStep extends Published {
  /** Trees that are still to be grown, one per task; 0: the update is over, and `version` is its version. */
  readonly treesLeft: number;
  /** Trees that were left out because they could not be grown, and why the last of them; known at the end. */
  readonly failed?: { readonly trees: number; readonly error: ErrorRecord };
  /** Why the next update is due; known at the end. */
  readonly due: UpdateReason | undefined;
  /** What the task cost the thread, ms of CPU. */
  readonly computedMs: number;
}

export interface TrainAnswers {
  open: Published & {
    /** A snapshot was read. */
    readonly restored: boolean;
    /** Keys of the snapshot that was read. */
    readonly names: KeyNames | undefined;
    /** Why the snapshot file was not used; it was moved aside. */
    readonly refused?: ErrorRecord;
    /** Why observations cannot be recorded. */
    readonly notRecorded?: string;
    readonly observations: number;
  };
  learn: Published & {
    readonly taken: number;
    /** Why the observations could not be recorded. */
    readonly notRecorded?: string;
    /** Why an update is due; while one is under way it says that itself when it ends. */
    readonly due: UpdateReason | undefined;
    readonly observations: number;
    /** What it cost the thread, ms of CPU. */
    readonly computedMs: number;
  };
  update: UpdateStep;
  tree: UpdateStep;
  status: ModelStatus;
  save: { readonly bytes: number; readonly version: number };
  export: { readonly bytes: Uint8Array; readonly version: number };
  import: Published & { readonly observations: number; readonly names: KeyNames };
}

export type TrainKind = keyof TrainAnswers;

/** What comes back: thrown errors lose their codes between threads. */
export type TrainOutcome<K extends TrainKind> = { readonly answer: TrainAnswers[K] } | { readonly error: ErrorRecord };
