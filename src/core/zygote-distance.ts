/**
 * How far a zygote is from a function: the share of the function's imports that the zygote has not done. The agent chooses the
 * nearest one with it, and the scheduler predicts with it what a start would cost.
 */

/** No zygote is of use. */
export const NO_ZYGOTE = 1;

/**
 * Distance of a zygote that has imported nothing from a function with packages: it saves the start of the process, which is a
 * twentieth to a tenth of a cold start with many packages (record 016).
 */
export const BARE_DISTANCE = 0.95;

/** One package, as far as it matters here. */
export interface PackageVersion {
  readonly name: string;
  readonly version: string;
  /** The function names it itself; a zygote of its package set imports it. */
  readonly direct: boolean;
}

/** What a function's sandbox imports when it loads. */
export interface ImportNeed {
  /** Ids of the packages that the function names itself. */
  readonly direct: readonly string[];
  /** Id of each package by name; a name that is there in several versions maps to ''. */
  readonly byName: ReadonlyMap<string, string>;
}

/** A function that needs no packages. */
export const NO_IMPORTS: ImportNeed = { direct: [], byName: new Map() };

/** One id for both runtimes: "name@version". */
export function importId(name: string, version: string): string {
  return `${name}@${version}`;
}

/** The need of a function with these packages. */
export function importNeedOf(packages: Iterable<PackageVersion>): ImportNeed {
  const direct: string[] = [];
  const byName = new Map<string, string>();
  for (const { name, version, direct: isDirect } of packages) {
    const id = importId(name, version);
    if (isDirect) direct.push(id);
    const other = byName.get(name);
    byName.set(name, other === undefined || other === id ? id : '');
  }
  return direct.length === 0 ? NO_IMPORTS : { direct, byName };
}

/**
 * Distance of a zygote that has imported `loaded` from a function with this need: 0 when it covers all imports, 1 when it is of no
 * use, because it has imported something that the function has not, or has in another version. Packages weigh what their import
 * was measured to take; one that was never measured weighs as much as the others on average. O(need.direct + loaded).
 */
export function zygoteDistance(need: ImportNeed, loaded: ReadonlySet<string>, importMsOf: (id: string) => number | undefined): number {
  for (const id of loaded) {
    const own = need.byName.get(id.slice(0, id.lastIndexOf('@')));
    if (own === undefined || (own !== '' && own !== id)) return NO_ZYGOTE;
  }
  if (need.direct.length === 0) return 0;
  if (loaded.size === 0) return BARE_DISTANCE;
  let knownMs = 0;
  let known = 0;
  for (const id of need.direct) {
    const ms = importMsOf(id);
    if (ms === undefined) continue;
    knownMs += ms;
    known++;
  }
  const otherMs = knownMs > 0 ? knownMs / known : 1;
  let allMs = 0;
  let missingMs = 0;
  for (const id of need.direct) {
    const ms = knownMs > 0 ? (importMsOf(id) ?? otherMs) : otherMs;
    allMs += ms;
    if (!loaded.has(id)) missingMs += ms;
  }
  return (missingMs / allMs) * BARE_DISTANCE;
}
