/**
 * The same model as in the daemon, in one thread and without time: predictions are made when they are asked for, and updates when they
 * are due. For the simulator, where a run must be repeatable, and for tests.
 */
import { COLUMN, SITUATION_WIDTH } from './features.ts';
import { createOnlineModel, type OnlineModel, type OnlineModelOptions, type UpdateReason } from './model/online-model.ts';
import { createMovingAveragePredictor } from './moving-average.ts';
import { BY_FOREST, NO_SITUATION, NO_TICKET, UNKNOWN_PROFILE, type Predictor, type SituationSource } from './predictor.ts';
import { SituationEncoder, SituationSlab, toModelExclusion } from './situations.ts';

/** A predictor with its model. */
export interface InlineForestPredictor extends Predictor {
  readonly model: OnlineModel;
  /** Updates so far; 0: moving averages answer. */
  readonly version: number;
}

/** Makes it; `model` may have been trained before. `mayUpdate`: asked when an update is due, after each observation until it says yes, for who paces them as the daemon does. */
export function createInlineForestPredictor(options: OnlineModelOptions, model: OnlineModel = createOnlineModel(options), mayUpdate: (reason: UpdateReason) => boolean = () => true): InlineForestPredictor {
  const fallback = createMovingAveragePredictor();
  const encoder = new SituationEncoder();
  const slab = new SituationSlab();
  let source: SituationSource | undefined;
  let version = model.status().version;
  let scratch = new Float64Array(64 * SITUATION_WIDTH);

  return {
    name: 'forest',
    model,
    get version() {
      return version;
    },
    predict(subject, rows) {
      const { count } = rows;
      if (version === 0) return fallback.predict(subject, rows, NO_TICKET);
      if (scratch.length < count * SITUATION_WIDTH) scratch = new Float64Array(count * SITUATION_WIDTH * 2);
      encoder.begin(subject);
      for (let row = 0; row < count; row++) encoder.write(subject, rows, row, scratch, row * SITUATION_WIDTH);
      model.predict(scratch, 0, count, rows, 0);
      rows.source.fill(BY_FOREST, 0, count);
      return true;
    },
    listen: () => {}, // it always answers at once
    attach(given) {
      source = given;
      encoder.attach(given);
    },
    functionPut(functionIndex) {
      const settings = source?.functions[functionIndex]?.settings;
      if (settings !== undefined) model.setFunction({ index: functionIndex, name: settings.name, ...(settings.profile ?? UNKNOWN_PROFILE) });
    },
    functionDeleted(functionIndex) {
      fallback.functionDeleted(functionIndex);
      model.forgetFunction(functionIndex);
    },
    dispatched: (subject, rows, row) => slab.keep(encoder, subject, rows, row),
    observe(observation) {
      fallback.observe(observation);
      const { situation } = observation;
      if (situation === NO_SITUATION) return;
      slab.complete(situation, observation);
      model.observe(slab.rows.subarray(slab.offset(situation)), 1);
      slab.release(situation);
      const due = model.updateDue;
      if (due !== undefined && mayUpdate(due)) ({ version } = model.update());
    },
    exclude(situation, why) {
      fallback.exclude(situation, why);
      if (situation === NO_SITUATION) return;
      const reason = toModelExclusion(why);
      if (reason !== undefined) model.exclude(slab.rows[slab.offset(situation) + COLUMN.functionIndex] as number, reason);
      slab.release(situation);
    },
    excluded: fallback.excluded,
    initialiseMs: (functionIndex, startState) => fallback.initialiseMs(functionIndex, startState),
    bytesPerMs: (node) => fallback.bytesPerMs(node),
    observations: (functionIndex) => fallback.observations(functionIndex),
    accuracy: () => fallback.accuracy(),
  };
}
