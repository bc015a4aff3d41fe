/** Writes HTML pages and CSV files. */
import { xml } from './xml.mjs';

/** A page with what surrounds the text of real ones: head, style, script, navigation. Every second table has no marked head. */
export function writeHtml(blocks) {
  let tables = 0;
  const body = blocks.map((block) => {
    if (block.type === 'heading') return `<h${block.level}>${xml(block.text)}</h${block.level}>`;
    if (block.type === 'list') return listHtml(block.items);
    if (block.type === 'table') return tableHtml(block.rows, tables++ % 2 === 0);
    return `<p>${xml(block.text)}</p>`;
  });
  return `<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>${xml(blocks[0].text)}</title>\n<style>p { margin: 1em 0 }</style>\n<script>if (1 < 2) document.title += '<p>not text</p>';</script>\n</head>\n<body>\n${body.join('\n')}\n</body>\n</html>\n`;
}

/** Items of one level follow each other; deeper ones lie inside the item before. */
function listHtml(items) {
  let html = '';
  let depth = -1;
  for (const { level, text } of items) {
    if (level > depth) html += '<ul>'.repeat(level - depth);
    else html += `</li>${'</ul></li>'.repeat(depth - level)}`;
    html += `<li>${xml(text)}`;
    depth = level;
  }
  return `${html}</li>${'</ul></li>'.repeat(depth)}</ul>`;
}

function tableHtml(rows, isMarked) {
  const row = (cells, tag) => `<tr>${cells.map((text) => `<${tag}>${xml(text)}</${tag}>`).join('')}</tr>`;
  const [head, ...body] = rows;
  return isMarked ? `<table>\n<thead>${row(head, 'th')}</thead>\n<tbody>\n${body.map((cells) => row(cells, 'td')).join('\n')}\n</tbody>\n</table>` : `<table>\n${rows.map((cells) => row(cells, 'td')).join('\n')}\n</table>`;
}

/** RFC 4180 with a byte order mark; every tenth note has a line break, which quotes carry. */
export function writeCsv(rows) {
  const lines = rows.map((row, i) => row.map((text, j) => field(i % 10 === 9 && j === row.length - 1 ? text.replace(' ', '\n') : text)).join(','));
  return `\uFEFF${lines.join('\r\n')}\r\n`;
}

function field(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
