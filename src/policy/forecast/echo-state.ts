/**
 * Forecast of a series one step ahead, with its uncertainty: a small recurrent net whose recurrent weights are random and fixed (an echo
 * state network) and whose output is a Bayesian linear regression, learned on line. The stand-in for Aquatope's LSTM with
 * variational dropout: it keeps recurrent features and a predictive variance, and costs microseconds instead of hours of training.
 */
import type { Random } from '../../core/random.ts';

/** A forecast: mean and standard deviation, in the units of the series. */
export interface Forecast {
  readonly mean: number;
  readonly deviation: number;
}

const UNITS = 24;
/** Inputs of a unit: the value, and where in the cycle it stands. */
const INPUTS = 3;
/** Features of the regression: bias, value, units. */
const FEATURES = UNITS + 2;
const LEAK = 0.5;
/** Scale of the recurrent weights: below 1, so that old inputs fade. */
const RADIUS = 0.9;
/** Of a unit's recurrent weights, how many are not zero. */
const CONNECTIONS = 4;
/** Prior variance of the regression's weights. */
const PRIOR = 10;
/** Weight of old observations after each step. */
const FORGETTING = 0.995;
/** Steps until the variance rests on residuals alone. */
const EARLY = 12;

/** Learns one series. */
export class EchoState {
  readonly #recurrent = new Float64Array(UNITS * UNITS);
  readonly #input = new Float64Array(UNITS * INPUTS);
  #state = new Float64Array(UNITS);
  #next = new Float64Array(UNITS);
  readonly #features = new Float64Array(FEATURES);
  readonly #weights = new Float64Array(FEATURES);
  /** Covariance of the weights over the noise variance, row by row. */
  readonly #covariance = new Float64Array(FEATURES * FEATURES);
  readonly #gain = new Float64Array(FEATURES);
  /** Largest value so far: the series is scaled by it. */
  #scale = 1;
  #noise = 1;
  /** Values seen. */
  count = 0;

  constructor(random: Random) {
    for (let i = 0; i < UNITS; i++) {
      for (let k = 0; k < CONNECTIONS; k++) this.#recurrent[i * UNITS + random.below(UNITS)] = ((random.uniform() * 2 - 1) * RADIUS) / Math.sqrt(CONNECTIONS / 3);
      for (let k = 0; k < INPUTS; k++) this.#input[i * INPUTS + k] = random.uniform() * 2 - 1;
    }
    for (let i = 0; i < FEATURES; i++) this.#covariance[i * FEATURES + i] = PRIOR;
    // Before anything is known, the next value is expected to be the last one.
    this.#weights[1] = 1;
  }

  /** The next value came. `phase`: where in the cycle (a day) it was measured, 0 to 1. O(units²). */
  add(value: number, phase: number): void {
    if (this.count > 0) this.#learn(value);
    if (value > this.#scale) this.#rescale(value);
    const x = value / this.#scale;
    const sin = Math.sin(2 * Math.PI * phase), cos = Math.cos(2 * Math.PI * phase);
    for (let i = 0; i < UNITS; i++) {
      let sum = (this.#input[i * INPUTS] as number) * x + (this.#input[i * INPUTS + 1] as number) * sin * 0.5 + (this.#input[i * INPUTS + 2] as number) * cos * 0.5;
      for (let k = 0; k < UNITS; k++) sum += (this.#recurrent[i * UNITS + k] as number) * (this.#state[k] as number);
      this.#next[i] = (1 - LEAK) * (this.#state[i] as number) + LEAK * Math.tanh(sum);
    }
    [this.#state, this.#next] = [this.#next, this.#state];
    this.#features[0] = 1;
    this.#features[1] = x;
    for (let i = 0; i < UNITS; i++) this.#features[i + 2] = this.#state[i] as number;
    this.count++;
  }

  /** What the next value is expected to be. */
  predict(): Forecast {
    if (this.count === 0) return { mean: 0, deviation: 0 };
    let spread = 1;
    for (let i = 0; i < FEATURES; i++) {
      let sum = 0;
      for (let k = 0; k < FEATURES; k++) sum += (this.#covariance[i * FEATURES + k] as number) * (this.#features[k] as number);
      spread += (this.#features[i] as number) * sum;
    }
    return { mean: Math.max(0, this.#expected()) * this.#scale, deviation: Math.sqrt(this.#noise * spread) * this.#scale };
  }

  #expected(): number {
    let sum = 0;
    for (let i = 0; i < FEATURES; i++) sum += (this.#weights[i] as number) * (this.#features[i] as number);
    return sum;
  }

  /** Recursive least squares on the features of the step before. */
  #learn(value: number): void {
    const P = this.#covariance, phi = this.#features, gain = this.#gain;
    const residual = value / this.#scale - this.#expected();
    const weight = Math.max(0.05, 1 / (1 + Math.min(this.count, EARLY)));
    this.#noise += weight * (residual * residual - this.#noise);
    // Directions that are never excited would grow without end: at the prior's bound nothing more is forgotten.
    let widest = 0;
    for (let i = 0; i < FEATURES; i++) widest = Math.max(widest, P[i * FEATURES + i] as number);
    const forgetting = widest > PRIOR ? 1 : FORGETTING;
    let denominator = forgetting;
    for (let i = 0; i < FEATURES; i++) {
      let sum = 0;
      for (let k = 0; k < FEATURES; k++) sum += (P[i * FEATURES + k] as number) * (phi[k] as number);
      gain[i] = sum;
      denominator += (phi[i] as number) * sum;
    }
    for (let i = 0; i < FEATURES; i++) this.#weights[i] = (this.#weights[i] as number) + ((gain[i] as number) / denominator) * residual;
    for (let i = 0; i < FEATURES; i++) {
      for (let k = 0; k < FEATURES; k++) P[i * FEATURES + k] = ((P[i * FEATURES + k] as number) - ((gain[i] as number) * (gain[k] as number)) / denominator) / forgetting;
    }
  }

  #rescale(value: number): void {
    const ratio = this.#scale / value;
    this.#scale = value;
    this.#noise *= ratio * ratio;
    // What stands for values in the features shrinks; the weight of the value itself is a ratio and stays.
    for (let i = 0; i < FEATURES; i++) if (i !== 1) this.#weights[i] = (this.#weights[i] as number) * ratio;
  }
}
