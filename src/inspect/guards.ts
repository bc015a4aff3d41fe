/** Which guards let a transition of an invocation happen: read from the machine, because source, event and target name one edge of it. */
import { invocationMachine } from '../../machines/invocation.ts';
import { outlineOf } from './mermaid.ts';

let known: ReadonlyMap<string, readonly string[]> | undefined;

/** The results in the order in which they were tested, "!" before those that said no; empty when nothing was tested. */
export function guardsOf(from: string, event: string, to: string): readonly string[] {
  known ??= read();
  return known.get(`${from} ${event} ${to}`) ?? [];
}

function read(): Map<string, readonly string[]> {
  const results = new Map<string, readonly string[]>();
  const refused = new Map<string, string[]>();
  for (const { from, event, guard, to } of outlineOf(invocationMachine).edges) {
    const before = refused.get(`${from} ${event}`) ?? [];
    results.set(`${from} ${event} ${to ?? from}`, guard === '' ? before : [...before, guard]);
    if (guard !== '') refused.set(`${from} ${event}`, [...before, `!${guard}`]);
  }
  return results;
}
