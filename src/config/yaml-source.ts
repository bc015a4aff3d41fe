/** YAML text with places: every value and key can be traced back to file, line and column, also through aliases. */
import { LineCounter, isAlias, isMap, isScalar, isSeq, parseAllDocuments, type Document, type Node, type Pair } from 'yaml';
import type { Violation } from '../core/errors.ts';

/** A place in a file; line and column start at 1. */
export interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** One document of a YAML file. */
export interface YamlDocument {
  /** Plain data; undefined when the text is no YAML at all. */
  readonly value: unknown;
  /** False when there is nothing but comments. */
  readonly hasContent: boolean;
  /** False after a syntax error: the value may be half of what was meant. */
  readonly isWhole: boolean;
  readonly place: Place;
  /**
   * Where the value at this path stands. A missing value is placed at the key of its parent; with `key`, the key itself.
   */
  placeOf(path: readonly PropertyKey[], part?: 'key' | 'value'): Place;
}

/** A YAML file. */
export interface YamlSource {
  readonly documents: readonly YamlDocument[];
  /** Syntax errors, duplicate keys, unknown and excessive aliases. */
  readonly violations: readonly Violation[];
}

/** Aliases may multiply the size of a document at most so often. */
const MAX_ALIASES = 100;

/** Parses all documents of a text. Never throws for bad text. */
export function parseYaml(text: string, file: string): YamlSource {
  const lineCounter = new LineCounter();
  const placeAt = (offset: number): Place => {
    const { line, col } = lineCounter.linePos(offset);
    return { file, line: Math.max(1, line), column: Math.max(1, col) };
  };
  const violations: Violation[] = [];
  const parsed = parseAllDocuments(text, { lineCounter, prettyErrors: false, logLevel: 'error' });
  const documents = [...parsed].map((document): YamlDocument => {
    let isWhole = true;
    for (const error of document.errors) {
      if (error.code !== 'DUPLICATE_KEY') isWhole = false;
      const [start] = error.pos;
      const key = error.code === 'DUPLICATE_KEY' ? duplicateKey(document, start) : undefined;
      const description = key === undefined ? `is not valid YAML: ${error.message}` : 'is given twice';
      violations.push({ field: at(placeAt(start), key ?? ''), description });
    }
    let value: unknown;
    try {
      value = document.toJS({ maxAliasCount: MAX_ALIASES });
    } catch (error) {
      isWhole = false;
      violations.push({ field: at(placeAt(document.contents?.range?.[0] ?? 0), ''), description: `has a bad alias: ${error instanceof Error ? error.message : String(error)}` });
    }
    const offset = document.contents?.range?.[0] ?? document.range?.[0] ?? 0;
    return {
      value,
      hasContent: document.contents !== null && !(isScalar(document.contents) && document.contents.value === null),
      isWhole,
      place: placeAt(offset),
      placeOf: (path, part = 'value') => placeAt(offsetOf(document, path, part) ?? offset),
    };
  });
  return { documents, violations };
}

/** "file:line:column". */
export function formatPlace(place: Place): string {
  return `${place.file}:${place.line}:${place.column}`;
}

/** The field of a violation: place and path, "metronome.yaml:7:3 spec.memory". */
export function at(place: Place, path: string): string {
  return path === '' ? formatPlace(place) : `${formatPlace(place)} ${path}`;
}

/** ["steps", 0, "name"] → "steps[0].name". */
export function pathText(path: readonly PropertyKey[]): string {
  return path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? String(part) : `.${String(part)}`)).join('');
}

function offsetOf(document: Document.Parsed, path: readonly PropertyKey[], part: 'key' | 'value'): number | undefined {
  let node: Node | null | undefined = document.contents;
  let offset = node?.range?.[0];
  for (const [i, segment] of path.entries()) {
    const isLast = i === path.length - 1;
    if (isAlias(node)) node = node.resolve(document);
    if (isMap(node)) {
      const pair: Pair | undefined = node.items.find((item) => keyText(item.key) === String(segment));
      if (pair === undefined) return offset;
      const key = rangeStart(pair.key);
      const value = pair.value as Node | null; // parsed documents hold nodes only
      // A map under its key starts on the next line; people look for the key. The same holds for an empty value.
      const keyIsBetter = value === null || isMap(value) || isSeq(value) || (isScalar(value) && value.value === null && value.source === '');
      offset = (isLast && part === 'key') || keyIsBetter ? (key ?? offset) : (rangeStart(value) ?? offset);
      node = value;
    } else if (isSeq(node) && typeof segment === 'number') {
      const item: unknown = node.items[segment];
      if (item === undefined) return offset;
      node = item as Node; // parsed documents hold nodes only
      offset = rangeStart(node) ?? offset;
    } else {
      return offset;
    }
  }
  return offset;
}

function rangeStart(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0]; // keys and values of parsed documents are nodes
}

function keyText(key: unknown): string {
  return isScalar(key) ? String(key.value) : String(key);
}

function duplicateKey(document: Document.Parsed, offset: number): string | undefined {
  const search = (node: unknown, path: string): string | undefined => {
    if (isMap(node)) {
      for (const { key, value } of node.items) {
        const here = path === '' ? keyText(key) : `${path}.${keyText(key)}`;
        if (rangeStart(key) === offset) return here;
        const found = search(value, here);
        if (found !== undefined) return found;
      }
    } else if (isSeq(node)) {
      for (const [i, item] of node.items.entries()) {
        const found = search(item, `${path}[${i}]`);
        if (found !== undefined) return found;
      }
    }
    return undefined;
  };
  return search(document.contents, '');
}
