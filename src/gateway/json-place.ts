/** Where a text stops being JSON (RFC 8259). JSON.parse is faster but only sometimes says; this runs after it has refused. */

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const LITERAL = /true|false|null/y;

/** Offset of the first character that cannot stand there (the length: something is missing at the end); -1: it is JSON. */
export function findJsonError(text: string): number {
  // '{' and '[' that are open. Its length is bounded by the text's.
  const open: string[] = [];
  let position = skipSpace(text, 0);
  let expect: 'value' | 'firstValue' | 'key' | 'firstKey' | 'next' = 'value';
  for (;;) {
    const char = text[position];
    if (expect === 'next') {
      const inside = open.at(-1);
      if (inside === undefined) return position === text.length ? -1 : position;
      if (char === ',') expect = inside === '{' ? 'key' : 'value';
      else if (char === (inside === '{' ? '}' : ']')) open.pop();
      else return position;
      position++;
    } else if ((expect === 'firstKey' && char === '}') || (expect === 'firstValue' && char === ']')) {
      open.pop();
      position++;
      expect = 'next';
    } else if (expect === 'key' || expect === 'firstKey') {
      if (char !== '"') return position;
      const end = skipString(text, position);
      if (end < 0) return -end - 1;
      position = skipSpace(text, end);
      if (text[position] !== ':') return position;
      position++;
      expect = 'value';
    } else if (char === '{' || char === '[') {
      open.push(char);
      position++;
      expect = char === '{' ? 'firstKey' : 'firstValue';
    } else {
      const end = skipScalar(text, position);
      if (end < 0) return -end - 1;
      position = end;
      expect = 'next';
    }
    position = skipSpace(text, position);
  }
}

function skipSpace(text: string, start: number): number {
  let position = start;
  for (let code = text.charCodeAt(position); code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09; code = text.charCodeAt(position)) position++;
  return position;
}

/** End of the scalar, or -1 - offset of the error. */
function skipScalar(text: string, start: number): number {
  if (text[start] === '"') return skipString(text, start);
  for (const pattern of [NUMBER, LITERAL]) {
    pattern.lastIndex = start;
    if (pattern.test(text)) return pattern.lastIndex;
  }
  return -1 - start;
}

/** End of the string, or -1 - offset of the error. */
function skipString(text: string, start: number): number {
  for (let position = start + 1; position < text.length; position++) {
    const code = text.charCodeAt(position);
    if (code === 0x22) return position + 1;
    if (code < 0x20) return -1 - position;
    if (code !== 0x5c) continue;
    position++;
    const escape = text[position] ?? '';
    if (escape === 'u') {
      if (!/^[0-9a-fA-F]{4}$/.test(text.slice(position + 1, position + 5))) return -1 - position;
      position += 4;
    } else if (escape === '' || !'"\\/bfnrt'.includes(escape)) {
      return -1 - position;
    }
  }
  return -1 - text.length;
}
