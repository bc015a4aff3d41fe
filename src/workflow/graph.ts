/** The shape of a workflow: which steps follow which, where it ends, and whether it has a cycle. Pure; linear in steps and edges. */

/** What matters of a step. */
export interface StepEdges {
  readonly name: string;
  /** Names of the steps that must have ended before. */
  readonly after: readonly string[];
}

/** A cycle as the names along it, the first repeated at the end (["a", "b", "a"]), or undefined. Unknown names are ignored. */
export function findCycle(steps: readonly StepEdges[]): readonly string[] | undefined {
  const byName = new Map(steps.map((step) => [step.name, step]));
  const done = new Set<string>();
  for (const root of steps) {
    const path: string[] = [];
    const onPath = new Set<string>();
    // Depth first without recursion: each frame remembers which predecessor comes next.
    const frames: { readonly step: StepEdges; next: number }[] = [];
    const enter = (step: StepEdges): void => {
      frames.push({ step, next: 0 });
      path.push(step.name);
      onPath.add(step.name);
    };
    if (!done.has(root.name)) enter(root);
    for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
      const name = frame.step.after[frame.next++];
      if (name === undefined) {
        frames.pop();
        path.pop();
        onPath.delete(frame.step.name);
        done.add(frame.step.name);
      } else if (onPath.has(name)) {
        // The path runs from a step to what it waits for; turned round it reads in the order of execution.
        return [...path.slice(path.indexOf(name)), name].reverse();
      } else if (!done.has(name)) {
        const step = byName.get(name);
        if (step !== undefined) enter(step);
      }
    }
  }
  return undefined;
}

/** For each step: the steps before it along the longest way, and how many it waits for. Of a graph without a cycle. */
export function placesOf(steps: readonly StepEdges[]): ReadonlyMap<string, { readonly stage: number; readonly predecessors: number }> {
  const byName = new Map(steps.map((step) => [step.name, step]));
  const places = new Map<string, { stage: number; predecessors: number }>();
  const placeOf = (step: StepEdges): { stage: number; predecessors: number } => {
    const known = places.get(step.name);
    if (known !== undefined) return known;
    const before = step.after.flatMap((name) => byName.get(name) ?? []);
    const place = { stage: before.reduce((stage, other) => Math.max(stage, placeOf(other).stage + 1), 0), predecessors: before.length };
    places.set(step.name, place);
    return place;
  };
  for (const step of steps) placeOf(step);
  return places;
}

/** The steps that no other step waits for, in the order given. */
export function terminalSteps<S extends StepEdges>(steps: readonly S[]): readonly S[] {
  const awaited = new Set(steps.flatMap((step) => step.after));
  return steps.filter((step) => !awaited.has(step.name));
}
