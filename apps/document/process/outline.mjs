/** What a Markdown text consists of, in numbers: reads the forms that our converters write, line by line. */

const MAX_HEADINGS = 50;

/** { title, headings: the first 50 with their levels, headingCount, paragraphs, listItems, tables, tableRows (without the heads), words }. */
export function outline(markdown) {
  const headings = [];
  const counts = { headingCount: 0, paragraphs: 0, listItems: 0, tables: 0, tableRows: 0, words: 0 };
  let before = 'blank';
  let isFenced = false;
  for (const line of markdown.split('\n')) {
    if (/^\s*(```|~~~)/.test(line)) isFenced = !isFenced;
    const kind = isFenced ? 'code' : kindOf(line);
    if (kind === 'heading') {
      const [, marks, text] = /^(#{1,6}) (.*)$/.exec(line);
      counts.headingCount++;
      if (headings.length < MAX_HEADINGS) headings.push({ level: marks.length, text: text.slice(0, 200) });
    } else if (kind === 'item') counts.listItems++;
    else if (kind === 'rule') counts.tables++;
    else if (kind === 'row' && (before === 'row' || before === 'rule')) counts.tableRows++;
    else if (kind === 'text' && before !== 'text' && before !== 'item') counts.paragraphs++;
    counts.words += line.match(/[\p{L}\p{N}]+/gu)?.length ?? 0;
    before = kind;
  }
  return { title: headings[0]?.text ?? null, headings, ...counts };
}

function kindOf(line) {
  if (line.trim() === '') return 'blank';
  if (/^#{1,6} /.test(line)) return 'heading';
  if (/^\s*([-*+]|\d+\.)\s/.test(line)) return 'item';
  if (/^\|( *:?-+:? *\|)+$/.test(line)) return 'rule';
  return line.startsWith('|') ? 'row' : 'text';
}
