/** The messages between the recorder's sink and the thread that writes segments. */

/** What happens at recording.maxBytes. */
export const ON_FULL = ['stop', 'rotate'] as const;
export type OnFull = (typeof ON_FULL)[number];

/** What the thread is born with. */
export interface SegmentThreadData {
  /** Folder of the recording; it exists. */
  readonly folder: string;
  readonly segmentBytes: number;
  readonly maxBytes: number;
  /** At maxBytes: it ends, or its oldest segments go. */
  readonly onFull: OnFull;
  /** Head without the number of the segment, plain data. */
  readonly head: object;
  /** Shared: see SHARED. */
  readonly shared: SharedArrayBuffer;
}

/** Places in the shared counters (Int32). */
export const SHARED = { waitingKib: 0, isOver: 1, writtenKib: 2, segments: 3 } as const;

/** From the loop to the thread. */
export type SegmentRequest =
  | { readonly kind: 'block'; readonly firstEntry: number; readonly entries: number; readonly numbers: Float64Array<ArrayBuffer>; readonly values: Uint8Array<ArrayBuffer>; readonly kib: number }
  | { readonly kind: 'end' };

/** From the thread to the loop: why nothing is written any more. */
export type SegmentReport = { readonly kind: 'full'; readonly bytes: number } | { readonly kind: 'failed'; readonly message: string };
