/** PDF → Markdown: lines from the places of the letters, headings from their size, paragraphs from the gaps. */
import { extractTextItems, getDocumentProxy, getResolvedPDFJS } from 'unpdf';
import { escape, heading } from './markdown.mjs';

const MAX_PAGES = 2_000;
/** Letters this much larger than those of most of the text make a heading. */
const HEADING_RATIO = 1.15;
/** A gap of more than so many sizes of a line begins a paragraph. */
const PARAGRAPH_GAP = 1.6;

await getResolvedPDFJS(); // part of loading the function, not of its first run

export async function pdfToMarkdown(bytes, { name }) {
  let pages;
  try {
    const document = await getDocumentProxy(new Uint8Array(bytes), { verbosity: 0, isEvalSupported: false });
    try {
      if (document.numPages > MAX_PAGES) throw new RangeError(`"${name}" has ${document.numPages} pages, more than ${MAX_PAGES}`);
      ({ items: pages } = await extractTextItems(document));
    } finally {
      await document.destroy();
    }
  } catch (error) {
    if (error instanceof RangeError) throw error;
    if (error?.name === 'PasswordException') throw new TypeError(`"${name}" is protected with a password; remove the protection first`, { cause: error });
    throw new TypeError(`"${name}" is no PDF that can be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  const lines = pages.flatMap((items, page) => linesOf(items, page));
  if (lines.length === 0) return { markdown: '', pages: pages.length, hasText: false };
  return { markdown: blocksOf(lines).join('\n\n'), pages: pages.length, hasText: true };
}

/** Items at the same height are one line. */
function linesOf(items, page) {
  const lines = [];
  for (const { str, x, y, width, fontSize } of items) {
    if (str === '') continue;
    const last = lines.at(-1);
    if (last !== undefined && Math.abs(last.y - y) < fontSize / 2) {
      // A gap between two items is a space that the file does not write.
      last.text += x - last.end > fontSize * 0.15 && !last.text.endsWith(' ') ? ` ${str}` : str;
      last.end = x + width;
      last.size = Math.max(last.size, fontSize);
    } else if (str.trim() !== '') {
      lines.push({ page, y, size: fontSize, text: str, end: x + width });
    }
  }
  return lines;
}

function blocksOf(lines) {
  const body = bodySize(lines);
  // The larger the letters, the higher the heading.
  const sizes = [...new Set(lines.map(({ size }) => round(size)).filter((size) => size > body * HEADING_RATIO))].sort((a, b) => b - a);
  const blocks = [];
  let before;
  for (const line of lines) {
    const level = sizes.indexOf(round(line.size)) + 1;
    const continues = before !== undefined && before.level === level && before.page === line.page && before.y - line.y > 0 && before.y - line.y <= line.size * PARAGRAPH_GAP;
    if (continues) blocks.at(-1).text += ` ${line.text.trim()}`;
    else blocks.push({ level, text: line.text.trim() });
    before = { ...line, level };
  }
  return blocks.map(({ level, text }) => (level > 0 ? heading(level, text) : escape(text.replaceAll(/\s+/g, ' '))));
}

/** The size in which most characters are. */
function bodySize(lines) {
  const characters = new Map();
  for (const { size, text } of lines) characters.set(round(size), (characters.get(round(size)) ?? 0) + text.length);
  return [...characters].sort((a, b) => b[1] - a[1])[0][0];
}

function round(size) {
  return Math.round(size * 2) / 2;
}
