/**
 * What the agent's loop asks of the thread that installs packages, and what comes back. Archives are fetched, unpacked, hashed and
 * linked there: a cold start must not hold up the warm ones.
 *
 * A store has for each package, by its key: the folder <key> with its files, <key>.files with the size, time and digest of each, and
 * <key>.json, which is written last: without it the other two are leftovers of a crash.
 */
import type { ErrorRecord } from '../../core/errors.ts';
import type { NpmSettings } from './npm-settings.ts';

/** A package to be brought into the store. */
export interface InstallOrder {
  /** Folder of the store. */
  readonly store: string;
  readonly key: string;
  /** Folder to work in; it does not exist yet and is gone afterwards, unless the thread dies. */
  readonly work: string;
  readonly runtime: 'node' | 'python3';
  readonly id: string;
  readonly name: string;
  readonly version: string;
  readonly integrity: string;
  /** Absolute path of an archive that is here already (a file of the bundle). */
  readonly file?: string;
  /** Explicit address of the archive. */
  readonly url?: string;
  /** Registry, proxy and tokens; for npm packages that are not a file. */
  readonly npm?: NpmSettings;
  /** Interpreter; for Python. */
  readonly python?: string;
  /** More unpacked bytes than this are refused. */
  readonly maxBytes: number;
}

/** One file of a package: path in it, size, mtime in ms, executable or not, SHA-256 in hex. */
export type FileEntry = readonly [path: string, sizeBytes: number, mtimeMs: number, isExecutable: boolean, digest: string];

/** <key>.json. */
export interface PackageRecord {
  readonly id: string;
  readonly name: string;
  readonly version: string;
  readonly integrity: string;
  readonly bytes: number;
  /** The boot of the machine in which the files were last known to be whole: what was written shortly before a power cut may be gone. */
  readonly boot: string;
}

/** A tree of links to be made in a folder that does not exist yet. */
export interface LinkOrder {
  readonly store: string;
  /** The folder. */
  readonly target: string;
  /** Which packages, and below which path of the folder; '' merges them. */
  readonly packages: readonly { readonly key: string; readonly path: string }[];
}

export type InstallRequest =
  | { readonly kind: 'install'; readonly call: number; readonly order: InstallOrder }
  | { readonly kind: 'link'; readonly call: number; readonly order: LinkOrder }
  /** `digests`: reads every file; otherwise only sizes and times are compared. */
  | { readonly kind: 'verify'; readonly call: number; readonly store: string; readonly keys: readonly string[]; readonly digests: boolean };

/** What became of it. */
export interface Installed {
  readonly bytes: number;
}

/** `damaged`: packages whose files are not what was installed; nothing was made then. */
export interface Linked {
  readonly damaged: readonly Damage[];
  readonly folders: number;
}

/** A package whose files are not what was installed. */
export interface Damage {
  readonly key: string;
  /** Which file, and what is wrong with it. */
  readonly problem: string;
}

export type InstallReport = { readonly call: number } & ({ readonly error: ErrorRecord } | { readonly installed: Installed } | { readonly linked: Linked } | { readonly damaged: readonly Damage[] });
