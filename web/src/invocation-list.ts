/** A list of invocations of any length: pages of 500 as the reader scrolls, the first one asked for again and again while he is at the top. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { InvocationList, InvocationRow } from '../../src/inspect/page-api.ts';
import { apiUrl, ask } from './api.ts';
import { exact } from './words.ts';

const PAGE = 500;
/** Rows that the page keeps of one list. */
const MAX_ROWS = 20_000;
const REFRESH_MS = 1_000;

export interface InvocationQuery {
  readonly state: string;
  readonly function: string;
  readonly node: string;
}

export interface Listed {
  readonly rows: readonly InvocationRow[];
  readonly hasMore: boolean;
  readonly error: string;
  readonly isLoading: boolean;
  /** How many are shown, and whether there are more; '' for none. */
  readonly said: string;
  /** The reader has scrolled on, and what he reads is not renewed. */
  readonly isKept: boolean;
  /** Fetches the next page, if there is one. */
  more(): void;
  /** Begins with the newest again. */
  anew(): void;
}

/** Follows the list of what fits `query`; undefined asks nothing. Starts anew when `era` changes. */
export function useInvocations(query: InvocationQuery | undefined, era: number): Listed {
  const key = query === undefined ? '' : `${era}\n${query.state}\n${query.function}\n${query.node}`;
  const [shown, setShown] = useState<{ key: string; rows: readonly InvocationRow[]; hasMore: boolean; error: string }>({ key: '', rows: [], hasMore: false, error: '' });
  const asking = useRef(false);
  const state = useRef(shown);
  state.current = shown;
  const put = (next: { rows?: readonly InvocationRow[]; hasMore?: boolean; error: string }): void => {
    const before = state.current.key === key ? state.current : { key, rows: [], hasMore: false, error: '' };
    const made = { ...before, ...next, key };
    state.current = made;
    setShown(made);
  };
  /** The newest, or those before the last one that is known. */
  const fetchPage = async (last: InvocationRow | undefined, signal?: AbortSignal): Promise<void> => {
    if (query === undefined || asking.current) return;
    asking.current = true;
    try {
      const { invocations: rows, more: hasMore } = await ask<InvocationList>(apiUrl('invocations', { state: query.state, function: query.function, node: query.node, limit: PAGE, ...(last === undefined ? {} : { before: last.arrivedAtMs, beforeSeq: last.seq }) }), signal === undefined ? {} : { signal });
      if (signal?.aborted === true) return;
      const known = state.current.key === key ? state.current.rows : [];
      if (last === undefined && known.length <= PAGE) put({ rows, hasMore, error: '' });
      else if (last !== undefined) {
        const ids = new Set(known.map(({ id }) => id));
        const all = [...known, ...rows.filter(({ id }) => !ids.has(id))];
        put({ rows: all.slice(0, MAX_ROWS), hasMore: hasMore && rows.length > 0 && all.length < MAX_ROWS, error: '' });
      }
    } catch (error) {
      if (signal?.aborted !== true) put({ error: error instanceof Error ? error.message : String(error) });
    } finally {
      asking.current = false;
    }
  };
  useEffect(() => {
    if (key === '') return undefined;
    const aborting = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const turn = async (): Promise<void> => {
      // Whoever has scrolled on keeps what he reads.
      if (state.current.key !== key || state.current.rows.length <= PAGE) await fetchPage(undefined, aborting.signal);
      if (!aborting.signal.aborted) timer = setTimeout(() => void turn(), REFRESH_MS);
    };
    asking.current = false;
    void turn();
    return () => {
      aborting.abort();
      clearTimeout(timer);
    };
  }, [key]);
  const isMine = shown.key === key;
  const length = isMine ? shown.rows.length : 0;
  return {
    said: length === 0 ? '' : `${exact(length)}${shown.hasMore ? ' shown, more below' : length >= MAX_ROWS ? ' shown; older ones are not listed' : ''}`,
    isKept: length > PAGE,
    rows: isMine ? shown.rows : [], hasMore: isMine && shown.hasMore, error: isMine ? shown.error : '', isLoading: key !== '' && !isMine,
    more() {
      const last = state.current.rows.at(-1);
      if (isMine && state.current.hasMore && last !== undefined) void fetchPage(last);
    },
    anew() {
      put({ rows: [], hasMore: false, error: '' });
      void fetchPage(undefined);
    },
  };
}
