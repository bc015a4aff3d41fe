/** The model's status as the daemon sends it (GetModelStatusResponse as JSON, where zeros are left out), read into whole records. */

export interface FunctionAccuracy {
  readonly name: string;
  readonly observations: number;
  readonly medianError: number;
  readonly p95Error: number;
  readonly forestMedianError: number;
  readonly coverageP95: number;
  readonly coverageP99: number;
  readonly driftEvents: number;
}

export interface ModelStatus {
  readonly predictor: string;
  readonly state: string;
  readonly trainer: string;
  readonly version: number;
  readonly observations: number;
  readonly trees: number;
  readonly treeNodes: number;
  readonly windowSize: number;
  readonly windowRoom: number;
  readonly driftEvents: number;
  readonly nodeDriftEvents: number;
  readonly answerP50Ms: number;
  readonly answerP99Ms: number;
  /** The most observed first, at most 50. */
  readonly functions: readonly FunctionAccuracy[];
}

const MAX_FUNCTIONS = 50;

export function readModel(json: unknown): ModelStatus {
  const given = fieldsOf(json);
  const functions = Array.isArray(given['functions']) ? given['functions'].map(fieldsOf) : [];
  const n = (name: string): number => Number(given[name] ?? 0);
  const t = (name: string): string => String(given[name] ?? '');
  return {
    predictor: t('predictor'), state: t('state'), trainer: t('trainer'), version: n('version'), observations: n('observations'), trees: n('trees'), treeNodes: n('treeNodes'), windowSize: n('windowSize'), windowRoom: n('windowRoom'),
    driftEvents: n('driftEvents'), nodeDriftEvents: n('nodeDriftEvents'), answerP50Ms: n('answerP50Ms'), answerP99Ms: n('answerP99Ms'),
    functions: functions.map((each): FunctionAccuracy => {
      const f = (name: string): number => Number(each[name] ?? 0);
      return {
        name: String(each['function'] ?? ''), observations: f('observations'), medianError: f('medianError'), p95Error: f('p95Error'), forestMedianError: f('forestMedianError'),
        coverageP95: f('servedCoverageP95') || f('coverageP95'), coverageP99: f('servedCoverageP99') || f('coverageP99'), driftEvents: f('driftEvents'),
      };
    }).sort((a, b) => b.observations - a.observations).slice(0, MAX_FUNCTIONS),
  };
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}; // read field by field above
}
