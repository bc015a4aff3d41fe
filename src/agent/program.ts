/** What a sandbox needs of a function on this node: its unpacked code and, if it names packages, the layer with them. */

/** One package of a layer. */
export interface LayerPackage {
  /** "name@version", the same on all nodes. */
  readonly id: string;
  readonly name: string;
  readonly version: string;
  /** Its folder, absolute. */
  readonly dir: string;
  /** The function names it itself: a zygote imports these. */
  readonly isDirect: boolean;
  /**
   * Digest of the package and of all that it resolves to. Two layers whose packages have the same subtree may share a module that
   * was loaded from one of them.
   */
  readonly subtree: string;
}

/** The installed packages of one package set: whole, verified, never written to, readable by everybody (isolated functions have a user of their own). */
export interface PackageLayer {
  /** Package set (PackageLock.digest). */
  readonly digest: string;
  readonly runtime: 'node' | 'python3';
  /** Folder of the layer, absolute; Node: it holds node_modules. */
  readonly dir: string;
  /** Python: folders for sys.path, in order, absolute. Node: none. */
  readonly importPaths: readonly string[];
  readonly packages: readonly LayerPackage[];
}

/** Code and packages in use; `release` it when no sandbox needs them any more. */
export interface ProgramLease {
  /** The unpacked bundle. For Node, its node_modules is a link to the layer's. */
  readonly dir: string;
  /** Undefined for a function without packages. */
  readonly layer: PackageLayer | undefined;
  /** False when something had to be fetched or installed. */
  readonly wasHere: boolean;
  release(): void;
}
