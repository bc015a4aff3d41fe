/** HTML → Markdown, by turndown with GitHub's extensions. Tables are ours: also those without a head, with joined cells, with bars in cells. */
import TurndownService from 'turndown';
import gfm from 'turndown-plugin-gfm';
import { decode } from './encoding.mjs';

/** Turndown builds a whole document in memory and takes about a second per 200 KB of tables. */
const MAX_CHARACTERS = 8 * 1024 * 1024;
/** What browsers do not show either. */
const UNSEEN = ['script', 'style', 'noscript', 'template', 'title'];

const turndown = createTurndown();

export function htmlToMarkdown(bytes, { name, charset }) {
  return { markdown: fromHtml(decode(bytes, charset, name), name) };
}

/** Markdown of HTML text; RangeError if it is too long. */
export function fromHtml(html, name) {
  if (html.length > MAX_CHARACTERS) throw new RangeError(`"${name}" is HTML of ${html.length} characters, more than ${MAX_CHARACTERS}`);
  return turndown.turndown(html);
}

function createTurndown() {
  const service = new TurndownService({ headingStyle: 'atx', bulletListMarker: '-', codeBlockStyle: 'fenced', hr: '---' });
  service.use(gfm.gfm);
  // Turndown leaves "<" of the text as it is, which Markdown reads as a tag.
  service.escape = (text) => TurndownService.prototype.escape.call(service, text).replaceAll('<', '\\<');
  service.remove(UNSEEN);
  // Pictures inside the text would be megabytes of base64.
  service.addRule('inlinePicture', { filter: (node) => node.nodeName === 'IMG' && /^data:/i.test(node.getAttribute('src') ?? ''), replacement: (_content, node) => node.getAttribute('alt') ?? '' });
  service.addRule('tableCell', { filter: ['th', 'td'], replacement: (content, node) => ` ${content.replaceAll(/\s+/g, ' ').trim().replaceAll('|', '\\|')} |${' |'.repeat(spanOf(node) - 1)}` });
  service.addRule('tableRow', { filter: 'tr', replacement: (content, node) => `\n|${content}${isFirstRow(node) ? `\n|${' --- |'.repeat(columnsOf(node))}` : ''}` });
  service.addRule('tableSection', { filter: ['thead', 'tbody', 'tfoot'], replacement: (content) => content });
  service.addRule('caption', { filter: ['caption', 'colgroup', 'col'], replacement: () => '' });
  service.addRule('table', { filter: 'table', replacement: (content, node) => (isInCell(node) ? ` ${service.escape(node.textContent)} ` : `\n\n${content.replaceAll(/\n{2,}/g, '\n').trim()}\n\n`) });
  return service;
}

/** The first row of a table is its head, whatever its cells are: Markdown has no table without. */
function isFirstRow(row) {
  const section = row.parentNode;
  if (previousElement(row) !== null) return false;
  if (section.nodeName === 'TABLE') return true;
  for (let before = previousElement(section); before !== null; before = previousElement(before)) {
    if (/^(THEAD|TBODY|TFOOT)$/.test(before.nodeName) && before.firstChild !== null) return false;
  }
  return true;
}

function previousElement(node) {
  let before = node.previousSibling;
  while (before !== null && before.nodeType !== 1) before = before.previousSibling;
  return before;
}

function columnsOf(row) {
  let columns = 0;
  for (let cell = row.firstChild; cell !== null; cell = cell.nextSibling) if (cell.nodeName === 'TH' || cell.nodeName === 'TD') columns += spanOf(cell);
  return columns;
}

function spanOf(cell) {
  const span = Number(cell.getAttribute('colspan') ?? 1);
  return Number.isInteger(span) && span > 1 ? Math.min(span, 100) : 1;
}

function isInCell(node) {
  for (let above = node.parentNode; above !== null; above = above.parentNode) if (above.nodeName === 'TD' || above.nodeName === 'TH') return true;
  return false;
}
