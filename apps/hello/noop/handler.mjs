/** noop: returns at once. */
export function handler() {
  return null;
}
