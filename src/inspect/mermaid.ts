/**
 * A machine as text: Mermaid's stateDiagram-v2, and a page around it for docs/machines. Read from the machine itself, so that the
 * pictures cannot say something else than the code. Flat machines only, as machines/compile.ts demands.
 */
import type { AnyStateMachine } from 'xstate';

/** One edge of a machine. */
export interface MachineEdge {
  readonly from: string;
  readonly event: string;
  /** '': always. */
  readonly guard: string;
  readonly actions: readonly string[];
  /** Undefined: stays, without leaving and entering. */
  readonly to: string | undefined;
}

/** One state of a machine. */
export interface MachineState {
  readonly name: string;
  readonly description: string;
  readonly isFinal: boolean;
  readonly entry: readonly string[];
}

/** A machine as data. */
export interface MachineOutline {
  readonly id: string;
  readonly initial: string;
  readonly states: readonly MachineState[];
  readonly edges: readonly MachineEdge[];
}

/** Reads a flat machine. Throws on a nested one, naming the state. */
export function outlineOf(machine: AnyStateMachine): MachineOutline {
  const { root } = machine;
  const states: MachineState[] = [];
  const edges: MachineEdge[] = [];
  for (const [name, state] of Object.entries(root.states)) {
    if (state.type !== 'atomic' && state.type !== 'final') throw new Error(`machine "${machine.id}": state "${name}" is ${state.type}; only flat machines can be drawn.`);
    states.push({ name, description: state.description ?? '', isFinal: state.type === 'final', entry: state.entry.map(nameOf) });
    for (const [event, definitions] of state.transitions) {
      for (const { guard, actions, target } of definitions) {
        edges.push({ from: name, event, guard: guard === undefined ? '' : nameOf(guard), actions: actions.map(nameOf), to: target?.[0]?.key });
      }
    }
  }
  return { id: machine.id, initial: root.initial.target[0]?.key ?? '', states, edges };
}

/** The machine as a Mermaid stateDiagram-v2, ending with a line break: descriptions, events, guards in brackets, actions behind a slash. */
export function toMermaid(machine: AnyStateMachine): string {
  const { initial, states, edges } = outlineOf(machine);
  const lines = ['stateDiagram-v2', `  [*] --> ${initial}`];
  for (const { name, description } of states) if (description !== '') lines.push(`  ${name} : ${plain(description)}`);
  for (const { from, event, guard, actions, to } of edges) {
    const label = [event, guard === '' ? '' : `[${guard}]`, actions.length === 0 ? '' : `/ ${actions.join(', ')}`].filter((part) => part !== '').join(' ');
    lines.push(`  ${from} --> ${to ?? from} : ${plain(label)}`);
  }
  for (const { name, isFinal } of states) if (isFinal) lines.push(`  ${name} --> [*]`);
  return `${lines.join('\n')}\n`;
}

/** A Markdown page: what the machine is, its diagram, its states, and its transitions as a table. */
export function toMachinePage(machine: AnyStateMachine, summary: string): string {
  const { id, states, edges } = outlineOf(machine);
  const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
    [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`).join('\n');
  return `${[
    `# The ${id} machine`,
    `<!-- Written by src/inspect/diagrams.ts from machines/${id}.ts; do not edit. -->`,
    summary,
    `\`\`\`mermaid\n${toMermaid(machine)}\`\`\``,
    '## States',
    table(['state', 'meaning', 'on entry'], states.map(({ name, description, isFinal, entry }) => [`\`${name}\``, `${description}${isFinal ? ' (final)' : ''}`, entry.join(', ')])),
    '## Transitions',
    'In the order in which they are tried. “stays”: the state is neither left nor entered.',
    table(['in', 'event', 'if', 'to', 'does'], edges.map(({ from, event, guard, to, actions }) => [`\`${from}\``, `\`${event}\``, guard, to === undefined ? 'stays' : `\`${to}\``, actions.join(', ')])),
  ].join('\n\n')}\n`;
}

/** The name of an action or guard as the machine's definition gives it. */
function nameOf(given: unknown): string {
  if (typeof given === 'string') return given;
  if (typeof given === 'object' && given !== null && 'type' in given) return String(given.type);
  return typeof given === 'function' && given.name !== '' ? given.name : 'inline';
}

/** Mermaid ends a label at a colon, a semicolon or a line break. */
function plain(text: string): string {
  return text.replaceAll(/\s*[;\n]\s*/g, ', ').replaceAll(/:\s*/g, ' - ').trim();
}
