/**
 * Compares what any2md made of a document with what the maker put in: headings, paragraphs, lists and the cells of tables, one by one.
 * Reads the Markdown itself, so that it does not depend on how a converter writes it.
 */
import { readFile } from 'node:fs/promises';

const MAX_PROBLEMS = 5;

/** What differs, at most five lines; nothing if all is right. `result` is what any2md-process returned, `outputs` its objects as files. */
export async function checkOutput({ truth, result, outputs }) {
  if (result === null || typeof result !== 'object') return [`the result is ${JSON.stringify(result)}`];
  if (outputs.length !== 1) return [`there are ${outputs.length} output objects, not one`];
  const blocks = readMarkdown(await readFile(outputs[0].path, 'utf8'));
  const problems = [];
  const differ = (what, is, expected) => {
    if (JSON.stringify(is) !== JSON.stringify(expected)) problems.push(`${what} is ${shorten(is)}, not ${shorten(expected)}`);
  };
  differ('the kind', result.kind, truth.kind);
  differ('the number of headings in the result', result.headingCount, truth.blocks.filter(({ type }) => type === 'heading').length);
  differ('the number of tables in the result', result.tables, truth.blocks.filter(({ type }) => type === 'table').length);
  differ('the number of blocks', blocks.length, truth.blocks.length);
  for (let i = 0; i < Math.min(blocks.length, truth.blocks.length) && problems.length < MAX_PROBLEMS; i++) differ(`block ${i + 1}`, blocks[i], expectedBlock(truth.blocks[i]));
  return problems.slice(0, MAX_PROBLEMS);
}

/** White space is one space in Markdown. */
function expectedBlock(block) {
  const line = (text) => text.replaceAll(/\s+/g, ' ').trim();
  if (block.type === 'table') return { type: 'table', rows: block.rows.map((row) => row.map(line)) };
  if (block.type === 'list') return { type: 'list', items: block.items.map(({ level, text }) => ({ level, text: line(text) })) };
  return { ...block, text: line(block.text) };
}

/** The blocks of a Markdown text, in the form in which makers describe them. */
export function readMarkdown(markdown) {
  const blocks = [];
  for (const lines of markdown.split(/\n{2,}/).map((block) => block.split('\n').filter((line) => line.trim() !== ''))) {
    if (lines.length === 0) continue;
    const heading = /^(#{1,6}) (.*)$/.exec(lines[0]);
    if (heading !== null) blocks.push({ type: 'heading', level: heading[1].length, text: plain(heading[2]) });
    else if (/^\|( *:?-+:? *\|)+$/.test(lines[1] ?? '')) blocks.push({ type: 'table', rows: [lines[0], ...lines.slice(2)].map(cells) });
    else if (/^\s*- /.test(lines[0])) blocks.push({ type: 'list', items: levels(lines) });
    else blocks.push({ type: 'paragraph', text: plain(lines.join(' ')) });
  }
  return blocks;
}

/** Cells of a row: bars with a backslash before them do not end a cell. */
function cells(row) {
  return row.trim().replace(/^\|/, '').replace(/\|$/, '').split(/(?<=(?<!\\)(?:\\\\)*)\|/).map((cell) => plain(cell.trim()));
}

/** Levels by indentation: deeper than the item before is one level more, whatever the width. */
function levels(lines) {
  const open = [];
  return lines.map((line) => {
    const [, indent, text] = /^(\s*)-\s+(.*)$/.exec(line) ?? [undefined, '', line];
    while (open.length > 0 && open.at(-1) >= indent.length) open.pop();
    open.push(indent.length);
    return { level: open.length - 1, text: plain(text) };
  });
}

/** The text without the backslashes that mark it as text. */
function plain(text) {
  return text.replaceAll(/\\([!-/:-@[-`{-~])/g, '$1').replaceAll(/\s+/g, ' ').trim();
}

function shorten(value) {
  const text = JSON.stringify(value) ?? 'missing';
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}
