/** The messages between the desk of simulations and the thread that makes their films (workers/films.ts). Plain data. */
import type { ErrorRecord } from '../core/errors.ts';
import type { SimulationRun } from '../inspect/page-api.ts';
import type { FilmBounds } from '../sim/film.ts';
import type { Scenario } from '../sim/scenario.ts';
import type { RecordingFilmsOptions } from '../what-if/recording-films.ts';

/** One request of the page. */
export type FilmsTask =
  | ({ readonly kind: 'scenario'; readonly scenario: Scenario; readonly policies: readonly string[]; readonly seed: number } & FilmBounds)
  | ({ readonly kind: 'recording' } & RecordingFilmsOptions);

/** Errors lose their class between threads: they come as data. */
export type FilmsAnswer = { readonly runs: readonly SimulationRun[] } | { readonly error: ErrorRecord };
