/** Questions to the daemon, beside its stream. */
import { useEffect, useState } from 'preact/hooks';

const API = new URL('api/', new URL('.', location.href));

/** The address of a route of src/inspect/page-api.ts. Works below any path that the page is served from. */
export function apiUrl(path: string, query: Readonly<Record<string, string | number>> = {}): string {
  const url = new URL(path, API);
  for (const [key, value] of Object.entries(query)) if (value !== '') url.searchParams.set(key, String(value));
  return url.href;
}

/** Asks, and throws an error with the daemon's own words. */
export async function ask<T>(url: string, init: RequestInit = {}): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(url, init);
  } catch (error) {
    if (init.signal?.aborted === true) throw error;
    throw new Error('The daemon does not answer. The page goes on by itself when it is back.', { cause: error });
  }
  const text = await answer.text();
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined; // a proxy's page, or nothing
  }
  if (!answer.ok) throw new Error(messageIn(body) ?? `The daemon answered ${answer.status} ${answer.statusText}.`);
  return body as T; // The daemon's door sends what page-api.ts says; both are built from one file.
}

/** Sends a change. */
export function send<T>(method: 'POST' | 'PUT', url: string, body: unknown = {}, signal?: AbortSignal): Promise<T> {
  return ask<T>(url, { method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body), ...(signal === undefined ? {} : { signal }) });
}

/** What a question has come to. */
export interface Answer<T> {
  readonly data: T | undefined;
  readonly error: string;
  readonly isLoading: boolean;
}

/**
 * Asks while the component is there, and again every `everyMs` after the answer came (0: once). An answer to an earlier URL is never shown. '' asks
 * nothing. `turn`: asks anew when it changes.
 */
export function useAnswer<T>(url: string, everyMs = 0, turn: unknown = 0): Answer<T> {
  const [state, setState] = useState<Answer<T> & { readonly url: string }>({ url: '', data: undefined, error: '', isLoading: true });
  useEffect(() => {
    if (url === '') return undefined;
    const aborting = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const turnAround = async (): Promise<void> => {
      try {
        const data = await ask<T>(url, { signal: aborting.signal });
        if (!aborting.signal.aborted) setState({ url, data, error: '', isLoading: false });
      } catch (error) {
        if (aborting.signal.aborted) return;
        setState((before) => ({ url, data: before.url === url ? before.data : undefined, error: error instanceof Error ? error.message : String(error), isLoading: false }));
      }
      if (everyMs > 0 && !aborting.signal.aborted) timer = setTimeout(() => void turnAround(), everyMs);
    };
    void turnAround();
    return () => {
      aborting.abort();
      clearTimeout(timer);
    };
  }, [url, everyMs, turn]);
  return state.url === url ? state : { data: undefined, error: '', isLoading: url !== '' };
}

function messageIn(body: unknown): string | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const error = 'error' in body ? body.error : body;
  if (typeof error === 'string') return error;
  return typeof error === 'object' && error !== null && 'message' in error && typeof error.message === 'string' ? error.message : undefined;
}
