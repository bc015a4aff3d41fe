/**
 * The control groups that this process is in. Both worlds exist, also side by side on one machine: v1 with a hierarchy per
 * controller, and v2 ("unified") with one for all. A container may see only its own part of either.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Folders of the own groups, absolute. */
export interface OwnCgroups {
  /** By v1 controller, for example "cpu", "cpuacct", "memory", "blkio". */
  readonly v1: ReadonlyMap<string, string>;
  /** In the unified hierarchy; undefined where none is mounted. */
  readonly unified: string | undefined;
  /** Where the hierarchies are mounted: their root groups, as far as this process can see. */
  readonly roots: { readonly v1: ReadonlyMap<string, string>; readonly unified: string | undefined };
}

/** Reads them; without /proc there are none. Tests give another place of /proc/self, and what stands before the paths of mounts. */
export function ownCgroups(procDir = '/proc/self', root = ''): OwnCgroups {
  const v1 = new Map<string, string>();
  const v1Roots = new Map<string, string>();
  let unified: string | undefined;
  let unifiedRoot: string | undefined;
  const mounts = mountsOf(procDir, root);
  // A line is "4:cpu,cpuacct:/path", that of the unified hierarchy "0::/path".
  for (const line of linesOf(`${procDir}/cgroup`)) {
    const [, names, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (names === undefined || path === undefined) continue;
    const controllers = names.split(',');
    const mount = mounts.find(({ type, options }) => (names === '' ? type === 'cgroup2' : type === 'cgroup' && controllers.every((name) => options.includes(name))));
    if (mount === undefined) continue;
    const folder = folderOf(mount, path);
    if (names === '') [unified, unifiedRoot] = [folder, mount.point];
    else {
      for (const name of controllers) {
        v1.set(name, folder);
        v1Roots.set(name, mount.point);
      }
    }
  }
  return { v1, unified, roots: { v1: v1Roots, unified: unifiedRoot } };
}

interface Mount {
  /** The part of the hierarchy that is mounted there. */
  readonly root: string;
  readonly point: string;
  readonly type: string;
  readonly options: readonly string[];
}

/** A line is "36 35 0:31 /part /mount/point rw shared:1 - cgroup cgroup rw,cpu". */
function mountsOf(procDir: string, before: string): Mount[] {
  return linesOf(`${procDir}/mountinfo`).flatMap((line) => {
    const [first = '', second = ''] = line.split(' - ');
    const [, , , root = '', point = ''] = first.split(' ');
    const [type = '', , options = ''] = second.split(' ');
    return type === 'cgroup' || type === 'cgroup2' ? [{ root, point: before + point, type, options: options.split(',') }] : [];
  });
}

/** The path in /proc counts from the root of the hierarchy, the mount may show only a part of it. */
function folderOf({ root, point }: Mount, path: string): string {
  const inside = root !== '/' && (path === root || path.startsWith(`${root}/`)) ? path.slice(root.length) : path;
  return join(point, inside);
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n');
  } catch {
    return []; // no Linux, no groups
  }
}
