/** Numbers and times as the page writes them. */
export { formatBytes, formatMs } from '../../src/core/units.ts';

/** 950 → "950", 12345 → "12.3k", 2500000 → "2.5M". */
export function count(value: number): string {
  const size = Math.abs(value);
  if (size < 1_000) return Number.isInteger(value) ? String(value) : value.toFixed(size < 10 ? 1 : 0);
  const [divided, unit] = size < 999_950 ? [value / 1e3, 'k'] : size < 999_950_000 ? [value / 1e6, 'M'] : [value / 1e9, 'G'];
  return `${Math.abs(divided) < 100 ? divided.toFixed(1) : Math.round(divided)}${unit}`;
}

/** Exact, with thin spaces: 12 345. */
export function exact(value: number): string {
  return Math.round(value).toString().replaceAll(/\B(?=(\d{3})+$)/g, '\u2009');
}

/** "12.3/s". */
export function perSecond(rate: number): string {
  return `${rate > 0 && rate < 10 ? rate.toFixed(1) : count(Math.round(rate))}/s`;
}

/** 0.923 → "92 %"; one place below 10 % and above 99 %, where it matters. */
export function percent(share: number): string {
  if (!Number.isFinite(share)) return '–';
  const value = Math.round(share * 1_000) / 10;
  return `${Number.isInteger(value) || (value >= 10 && value < 99) ? Math.round(value) : value.toFixed(1)} %`;
}

/** Milliseconds for a column: "0.42", "12.3", "940"; "–" for what is not known. */
export function ms(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (value === 0) return '0';
  if (size < 10) return value.toFixed(2);
  return size < 100 ? value.toFixed(1) : exact(value);
}

/** Time of day with milliseconds, of this machine's zone. */
export function clock(unixMs: number): string {
  const at = new Date(unixMs);
  return `${[at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, '0')).join(':')}.${String(at.getMilliseconds()).padStart(3, '0')}`;
}

/** "timedOut" → "timed out". */
export function spaced(name: string): string {
  return name.replaceAll(/([a-z])([A-Z])/g, (_, before: string, after: string) => `${before} ${after.toLowerCase()}`);
}

/** First letter small, unless the word is a name or an abbreviation. */
export function lowerFirst(text: string): string {
  return /^[A-Z](?:[a-z]|\s)/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}
