/**
 * What the agent and its data thread ask of each other. The thread has the sockets, the bytes and the hashes; the agent has the
 * index of the store and decides what may come in.
 */
import type { ObjectRef } from '../../rpc/gen/metronome/v1/common.ts';
import type { HandOvers } from './hand-over.ts';
import type { StoredObject } from './stored-object.ts';

/** The node's link as the data plane imitates it. */
export interface LinkShape {
  /** For everything that goes out, and again for everything that comes in, bytes per second; 0: no limit. */
  readonly bytesPerS: number;
  /** Added once to every exchange with another node, by each of the two, ms. */
  readonly latencyMs: number;
}

/** How patient a download is, ms. */
export interface FetchTimeouts {
  readonly connectMs: number;
  /** Until the answer begins. */
  readonly headersMs: number;
  /** Between two pieces of the body. */
  readonly bodyMs: number;
}

/** One object to be brought into a file. */
export interface DownloadOrder {
  readonly id: string;
  readonly sizeBytes: number;
  /** SHA-256, lower-case hex; '': not known. */
  readonly digest: string;
  /** Holders in the order in which they are asked. */
  readonly holders: readonly { readonly node: string; readonly url: string }[];
  /** The file; made or emptied. What becomes of it after a failure is the asker's business. */
  readonly path: string;
}

/** A download that was verified. */
export interface DownloadReport {
  /** Bytes that were moved, lost ones included. */
  readonly movedBytes: number;
  readonly tookMs: number;
  readonly digest: string;
}

/** What a file holds. */
export interface FileDigest {
  readonly sizeBytes: number;
  /** SHA-256, lower-case hex. */
  readonly digest: string;
}

/** What the thread is born with. */
export interface DataThreadData {
  readonly link: LinkShape;
  readonly timeouts: FetchTimeouts;
}

/** What the agent asks of the thread. */
export type DataThreadCalls = {
  /** Begins to serve; answers with the port. PORT_IN_USE, CONFIG_INVALID. */
  readonly listen: { readonly ask: { readonly host: string; readonly port: number }; readonly answer: number };
  /** OBJECT_LOST, OBJECT_CORRUPT, STORE_FULL (the disk). */
  readonly download: { readonly ask: DownloadOrder; readonly answer: DownloadReport };
  readonly digest: { readonly ask: string; readonly answer: FileDigest };
  /** Closes the port and every connection. */
  readonly close: { readonly ask: undefined; readonly answer: void };
};

/** What the thread asks of the agent. */
export type StoreCalls = {
  /** An object for a reader, which counts as a use. */
  readonly find: { readonly ask: string; readonly answer: StoredObject | undefined };
  readonly list: { readonly ask: undefined; readonly answer: StoreListing };
  /** Room for bytes that come in; STORE_FULL. */
  readonly begin: { readonly ask: number; readonly answer: { readonly upload: number; readonly path: string } };
  /** More room. */
  readonly reserve: { readonly ask: { readonly upload: number; readonly bytes: number }; readonly answer: void };
  readonly commit: { readonly ask: { readonly upload: number; readonly name: string } & FileDigest; readonly answer: ObjectRef };
  readonly abort: { readonly ask: { readonly upload: number; readonly diskFull: boolean }; readonly answer: void };
  /** False if it is not here; IN_USE. */
  readonly delete: { readonly ask: string; readonly answer: boolean };
  /** Somebody got other bytes than the digest says: true if ours are sound, false if they were not and are gone; undefined: not here. */
  readonly verify: { readonly ask: string; readonly answer: boolean | undefined };
  /** For the agent's log. */
  readonly log: { readonly ask: { readonly fields: object; readonly event: string }; readonly answer: void };
};

/** The store as GET /objects shows it. */
export interface StoreListing {
  readonly node: string;
  readonly usedBytes: number;
  readonly quotaBytes: number;
  /** Bytes of objects that nothing may push out now. */
  readonly heldBytes: number;
  readonly handOvers: Readonly<HandOvers>;
  readonly objects: readonly ListedObject[];
  /** Objects in all; `objects` names at most 1000, the most recently used. */
  readonly count: number;
}

/** One object of the listing. */
export interface ListedObject {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly digest: string;
  /** Running invocations that use it. */
  readonly pins: number;
  /** Workflow runs that need it. */
  readonly owners: readonly string[];
}
