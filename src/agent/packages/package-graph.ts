/** Who finds whom among the packages of a lock, and the digest of a package with all that it finds. */
import { createHash } from 'node:crypto';
import type { LockedPackage } from '../../rpc/gen/metronome/v1/function.ts';

/**
 * Digest of each package with everything it resolves to, by path. Packages that need each other in a circle are one thing and get one
 * digest. Two packages with the same name and digest load the same code, whichever layer they lie in. O(packages + dependencies).
 */
export function subtreeDigests(packages: readonly LockedPackage[]): ReadonlyMap<string, string> {
  const byPath = new Map(packages.map((one) => [one.path, one]));
  const digests = new Map<string, string>();
  // Tarjan's strongly connected components: a component is complete before anything that needs it.
  const order = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: LockedPackage[] = [];
  const onStack = new Set<string>();
  const reaches = (path: string, number: number): void => void low.set(path, Math.min(low.get(path) as number, number)); // set when it was opened
  // Packages that are being looked at, each with what of its targets is left. Not the call stack: a lock may hold a chain of thousands.
  const open: { readonly one: LockedPackage; readonly targets: LockedPackage[] }[] = [];
  const enter = (one: LockedPackage): void => {
    low.set(one.path, order.size);
    order.set(one.path, order.size);
    stack.push(one);
    onStack.add(one.path);
    open.push({ one, targets: targetsOf(one, byPath) });
  };
  const close = (one: LockedPackage): void => {
    if (low.get(one.path) === order.get(one.path)) {
      const component = stack.splice(stack.lastIndexOf(one));
      for (const { path } of component) onStack.delete(path);
      const digest = digestOf(component, byPath, digests);
      for (const { path } of component) digests.set(path, digest);
    }
    const above = open.at(-1)?.one;
    if (above !== undefined) reaches(above.path, low.get(one.path) as number);
  };
  for (const root of packages) {
    if (order.has(root.path)) continue;
    enter(root);
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      const target = top.targets.pop();
      if (target === undefined) {
        open.pop();
        close(top.one);
      } else if (!order.has(target.path)) enter(target);
      else if (onStack.has(target.path)) reaches(top.one.path, order.get(target.path) as number);
    }
  }
  return digests;
}

function digestOf(component: readonly LockedPackage[], byPath: ReadonlyMap<string, LockedPackage>, known: ReadonlyMap<string, string>): string {
  const members = new Set(component);
  const lines = component.map((one) => {
    const needs = targetsOf(one, byPath).map((target) => JSON.stringify([target.name, members.has(target) ? `${target.version} ${target.integrity}` : known.get(target.path)]));
    return JSON.stringify([one.name, one.version, one.integrity, needs.sort()]);
  });
  return createHash('sha256').update(lines.sort().join('\n')).digest('hex').slice(0, 32);
}

/** The packages that a package finds under the names it looks up: in its own node_modules, else in those above. */
function targetsOf({ path, dependencies }: LockedPackage, byPath: ReadonlyMap<string, LockedPackage>): LockedPackage[] {
  const targets: LockedPackage[] = [];
  for (const name of dependencies) {
    for (let from = path; ; from = from.slice(0, Math.max(0, from.lastIndexOf('/node_modules/')))) {
      const target = byPath.get(from === '' ? `node_modules/${name}` : `${from}/node_modules/${name}`);
      if (target !== undefined) {
        targets.push(target);
        break;
      }
      if (from === '') {
        // Python has one folder for all; whatever else is not there is an optional one.
        const flat = byPath.get(name);
        if (flat !== undefined) targets.push(flat);
        break;
      }
    }
  }
  return targets;
}
