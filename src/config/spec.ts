/** Checks specs that come over gRPC against the bounds of the contract. Fields are named as in the proto: "spec.memory_mb". */
import { suggest, type Violation } from '../core/errors.ts';
import type { FunctionSpec } from '../rpc/gen/metronome/v1/function.ts';
import type { WorkflowSpec } from '../rpc/gen/metronome/v1/workflow.ts';
import { findCycle } from '../workflow/graph.ts';
import {
  BOUNDS, FOR_EACH, ISOLATIONS, MAX_ENV, MAX_LABELS, MAX_LOCALITY_KEY, MAX_PACKAGES, NAME_FORM, NAME_PATTERN, RUNTIMES, type Runtime,
  envNameProblem, envValueProblem, handlerProblem, labelNameProblem, labelValueProblem, packageNameProblem, packageVersionProblem,
} from './bounds.ts';
import { show } from './fields.ts';

/** All that is wrong with a function; empty if it is valid. */
export function validateFunctionSpec(spec: FunctionSpec): Violation[] {
  const report = reporter();
  report.name('spec.name', spec.name);
  if (!isRuntime(spec.runtime)) report.add('spec.runtime', `must be one of ${RUNTIMES.join(', ')}, not ${show(spec.runtime)}`);
  else report.problem('spec.handler', handlerProblem(spec.handler, spec.runtime));
  report.range('spec.memory_mb', spec.memoryMb, BOUNDS.memoryMb, true);
  report.range('spec.cpu', spec.cpu, BOUNDS.cpu);
  report.range('spec.timeout_ms', spec.timeoutMs, BOUNDS.timeoutMs);
  report.range('spec.sla_ms', spec.slaMs, BOUNDS.slaMs);
  report.range('spec.keep_alive_ms', spec.keepAliveMs, BOUNDS.keepAliveMs);
  report.range('spec.concurrency', spec.concurrency, BOUNDS.concurrency, true);
  report.range('spec.retries', spec.retries, BOUNDS.retries, true);
  if (spec.retries > 0 && !spec.idempotent) report.add('spec.retries', RETRIES_NEED_IDEMPOTENT);
  report.map('spec.packages', spec.packages, MAX_PACKAGES, packageNameProblem, packageVersionProblem);
  report.map('spec.env', spec.env, MAX_ENV, envNameProblem, envValueProblem);
  report.map('spec.labels', spec.labels, MAX_LABELS, labelNameProblem, labelValueProblem);
  if (spec.localityKey.length > MAX_LOCALITY_KEY) report.add('spec.locality_key', `must be at most ${MAX_LOCALITY_KEY} characters, not ${spec.localityKey.length}`);
  if (spec.isolation !== '' && !(ISOLATIONS as readonly string[]).includes(spec.isolation)) report.add('spec.isolation', `must be one of ${ISOLATIONS.join(', ')} or empty, not ${show(spec.isolation)}`);
  // Whether there is such a policy is known to the registry of policies only.
  if (spec.policy !== '') report.name('spec.policy', spec.policy);
  return report.violations;
}

/** All that is wrong with a workflow; empty if it is valid. Whether its functions exist is the registry's question. */
export function validateWorkflowSpec(spec: WorkflowSpec): Violation[] {
  const report = reporter();
  report.name('spec.name', spec.name);
  report.range('spec.sla_ms', spec.slaMs, BOUNDS.slaMs);
  report.range('spec.timeout_ms', spec.timeoutMs, BOUNDS.timeoutMs);
  report.map('spec.labels', spec.labels, MAX_LABELS, labelNameProblem, labelValueProblem);
  if (spec.steps.length < BOUNDS.steps.min || spec.steps.length > BOUNDS.steps.max) {
    report.add('spec.steps', `must be ${BOUNDS.steps.min} to ${BOUNDS.steps.max} steps, not ${spec.steps.length}`);
    return report.violations;
  }
  for (const [i, step] of spec.steps.entries()) {
    report.name(`spec.steps[${i}].name`, step.name);
    report.name(`spec.steps[${i}].function`, step.function);
    if (step.forEach !== '' && !(FOR_EACH as readonly string[]).includes(step.forEach)) report.add(`spec.steps[${i}].for_each`, `must be one of ${FOR_EACH.join(', ')} or empty, not ${show(step.forEach)}`);
  }
  for (const { path, description } of stepProblems(spec.steps)) report.add(`spec.${path}`, description);
  return report.violations;
}

/** Why retries are refused. */
export const RETRIES_NEED_IDEMPOTENT = 'above 0 needs idempotent: true, because a retried function may run twice';

/** What is wrong between steps: names given twice, unknown or repeated `after`, cycles. Paths begin with "steps[". */
export function stepProblems(steps: readonly { readonly name: string; readonly after: readonly string[] }[]): { readonly path: string; readonly index: number; readonly afterIndex: number; readonly description: string }[] {
  const problems: { path: string; index: number; afterIndex: number; description: string }[] = [];
  const firstIndex = new Map<string, number>();
  for (const [index, step] of steps.entries()) {
    const first = firstIndex.get(step.name);
    if (step.name === '') continue;
    if (first === undefined) firstIndex.set(step.name, index);
    else problems.push({ path: `steps[${index}].name`, index, afterIndex: -1, description: `"${step.name}" is already the name of step ${first + 1}` });
  }
  const names = [...firstIndex.keys()];
  for (const [index, step] of steps.entries()) {
    for (const [afterIndex, name] of step.after.entries()) {
      const path = `steps[${index}].after[${afterIndex}]`;
      if (step.after.indexOf(name) < afterIndex) problems.push({ path, index, afterIndex, description: `names "${name}" twice` });
      else if (!firstIndex.has(name)) {
        const near = suggest(name, names.filter((other) => other !== step.name));
        problems.push({ path, index, afterIndex, description: `there is no step "${name}"${near === undefined ? `; steps: ${names.join(', ')}` : `; did you mean "${near}"?`}` });
      }
    }
  }
  const cycle = findCycle(steps);
  if (cycle !== undefined) {
    // Told at the step that waits for the last one before the cycle closes.
    const index = firstIndex.get(cycle[0] ?? '') ?? 0;
    problems.push({ path: `steps[${index}].after`, index, afterIndex: -1, description: `makes a cycle: ${cycle.join(' → ')}` });
  }
  return problems;
}

function isRuntime(runtime: string): runtime is Runtime {
  return (RUNTIMES as readonly string[]).includes(runtime);
}

function reporter() {
  const violations: Violation[] = [];
  const add = (field: string, description: string): void => void violations.push({ field, description });
  return {
    violations,
    add,
    problem(field: string, description: string | undefined): void {
      if (description !== undefined) add(field, description);
    },
    name(field: string, name: string): void {
      if (!NAME_PATTERN.test(name)) add(field, `must be ${NAME_FORM}, not ${show(name)}`);
    },
    range(field: string, value: number, { min, max }: { readonly min: number; readonly max: number }, isWhole = false): void {
      // Written so that NaN is refused too.
      if (!(value >= min && value <= max) || (isWhole && !Number.isInteger(value))) add(field, `must be ${isWhole ? 'a whole number ' : ''}from ${min} to ${max}, not ${value}`);
    },
    map(field: string, map: Readonly<Record<string, string>>, maxEntries: number, key: (name: string) => string | undefined, value: (text: string) => string | undefined): void {
      const entries = Object.entries(map);
      if (entries.length > maxEntries) add(field, `must have at most ${maxEntries} entries, not ${entries.length}`);
      for (const [name, text] of entries.slice(0, maxEntries)) {
        const wrong = key(name) ?? value(text);
        if (wrong !== undefined) add(`${field}.${name.slice(0, 80)}`, wrong);
      }
    },
  };
}
