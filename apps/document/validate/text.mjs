/** Text documents: their encoding by byte order mark, declaration or trial, and whether they are HTML or CSV. */

const LOOKED_AT = 64 * 1024;
const DELIMITERS = [',', ';', '\t', '|'];
/** Lines that are looked at to find the delimiter. */
const SAMPLE_LINES = 20;
/** Byte order marks, with the encoding that they tell. */
const MARKS = [['utf-8', [0xef, 0xbb, 0xbf]], ['utf-16le', [0xff, 0xfe]], ['utf-16be', [0xfe, 0xff]]];

/** { kind, charset, delimiter? }; TypeError if it is no text, or text of neither kind. */
export function textKind(bytes, declared, name) {
  const head = bytes.subarray(0, LOOKED_AT);
  const charset = charsetOf(bytes, head);
  if (!charset.startsWith('utf-16') && head.includes(0)) throw new TypeError(`"${name}" is neither a known document nor text: it has zero bytes`);
  const text = (charset === 'utf-16be' ? Buffer.from(head.subarray(0, head.length & ~1)).swap16().toString('utf16le') : head.toString(charset === 'utf-16le' ? 'utf16le' : charset === 'utf-8' ? 'utf8' : 'latin1')).replace(/^\uFEFF/, '');
  if (/^(<!doctype\s+html|<html[\s>])/i.test(behindComments(text)) || (declared === 'html' && /<[a-z]/i.test(text))) return { kind: 'html', charset };
  const delimiter = delimiterOf(text, head.length === bytes.length);
  if (delimiter !== undefined) return { kind: 'csv', charset, delimiter };
  // One column has no delimiter at all; then only the name can say that it is a table.
  if (declared === 'csv') return { kind: 'csv', charset, delimiter: ',' };
  throw new TypeError(`"${name}" is text, but neither HTML nor CSV; if it is, say so with {"type":"html"} or {"type":"csv"}`);
}

function charsetOf(bytes, head) {
  const marked = MARKS.find(([, mark]) => mark.every((byte, i) => bytes[i] === byte));
  if (marked !== undefined) return marked[0];
  const declared = /<meta[^>]+charset\s*=\s*["']?\s*([\w-]{1,40})/i.exec(head.subarray(0, 4096).toString('latin1'))?.[1]?.toLowerCase();
  if (declared !== undefined && declared !== 'utf-8' && declared !== 'utf8') return declared;
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return 'utf-8';
  } catch {
    // What is not UTF-8 is taken for what Windows programs write; every sequence of bytes is valid in it.
    return 'windows-1252';
  }
}

/** The text from its first character that is neither white space nor in a comment. */
function behindComments(text) {
  let rest = text.trimStart();
  while (rest.startsWith('<!--')) {
    const end = rest.indexOf('-->');
    if (end < 0) return '';
    rest = rest.slice(end + 3).trimStart();
  }
  return rest.slice(0, 200);
}

/** The delimiter that stands equally often, and at least once, in the first lines; undefined without one. */
function delimiterOf(text, isWhole) {
  const lines = unquoted(text).split(/\r\n|\n|\r/);
  if (!isWhole) lines.pop(); // cut off somewhere
  const sample = lines.filter((line) => line !== '').slice(0, SAMPLE_LINES);
  if (sample.length < 2) return undefined;
  const often = (delimiter) => {
    const counts = sample.map((line) => line.split(delimiter).length - 1);
    return counts.every((count) => count === counts[0]) ? counts[0] : 0;
  };
  const [best] = DELIMITERS.map((delimiter) => ({ delimiter, count: often(delimiter) })).sort((a, b) => b.count - a.count);
  return best.count > 0 ? best.delimiter : undefined;
}

/** The text without what stands in double quotes: line breaks and delimiters in there count for nothing. */
function unquoted(text) {
  return text.replaceAll(/"[^"]*"/g, '""');
}
