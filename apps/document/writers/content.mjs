/** What stands in the documents: headings, paragraphs, lists and tables of seeded words, with whatever may trip a converter in between. */

const WORDS = 'amber anchor answer autumn balance basket bridge bright butter candle canvas carbon castle cedar circle cloud cobalt copper coral cotton crystal current dawn delta desert distant dragon early echo ember engine evening falcon feather field fiber flame forest fossil frost garden gentle glacier golden granite gravel harbor harvest hazel hollow honey horizon island ivory jasper journey juniper kernel kettle ladder lantern laurel lemon letter level linen lively lunar magnet maple marble meadow mellow mercury meter mirror morning mountain narrow needle nickel north number ocean olive orange orchid pebble pepper pilot planet plaster pocket prairie quartz quiet rapid raven reason ribbon river rocket saffron salmon sand scarlet season shadow signal silent silver simple slate solar spring stable steady summer sunset tablet temple thunder timber topaz tunnel valley velvet violet walnut water willow window winter wonder yellow zenith'.split(' ');
/** Words that mean something to XML, HTML, Markdown or CSV, and letters beyond ASCII. */
const AWKWARD = ['R&D', 'a<b', 'x|y', '5*7', 'snake_case_name', 'C:\\temp', '[sic]', '~5', '"quoted"', "it's", 'naïve', 'Zürich', 'çà', '#1', '`tick`', '50%', '日本語', '🙂', 'b>c', '<i>'];
const AWKWARD_SHARE = 0.03;

const pick = (random, list) => list[Math.floor(random() * list.length)];
const between = (random, least, most) => least + Math.floor(random() * (most - least + 1));

/** Blocks of about so many characters. Types: those wanted, all by default. `clean` takes out what the format cannot hold. */
export function makeBlocks({ random, characters, types = ['heading', 'paragraph', 'list', 'table'], clean = (text) => text }) {
  const blocks = [{ type: 'heading', level: 1, text: clean(title(random)) }, { type: 'paragraph', text: clean(sentences(random, 2)) }];
  let made = blocks[0].text.length + blocks[1].text.length;
  let level = 1;
  while (made < characters) {
    const u = random();
    const before = blocks.at(-1).type;
    let block;
    if (u < 0.15 && before !== 'heading') {
      level = Math.min(3, Math.max(2, level + between(random, -1, 1)));
      block = { type: 'heading', level, text: clean(title(random)) };
    } else if (u < 0.27 && before === 'paragraph' && types.includes('list')) block = list(random);
    else if (u < 0.37 && before === 'paragraph' && types.includes('table')) block = { type: 'table', rows: Array.from({ length: between(random, 2, 8) }, () => Array.from({ length: 4 }, () => words(random, between(random, 1, 3)))) };
    else block = { type: 'paragraph', text: clean(sentences(random, between(random, 2, 7))) };
    blocks.push(block);
    made += lengthOf(block);
  }
  return blocks;
}

/** Slides: a heading of level 2 each, then a list, and a table on every fifth. */
export function makeSlides({ random, characters }) {
  const blocks = [];
  let made = 0;
  do {
    const slide = [{ type: 'heading', level: 2, text: title(random) }, list(random)];
    if (random() < 0.2) slide.push({ type: 'table', rows: Array.from({ length: between(random, 2, 6) }, () => Array.from({ length: 3 }, () => words(random, 2))) });
    blocks.push(...slide);
    made += slide.reduce((sum, block) => sum + lengthOf(block), 0);
  } while (made < characters);
  return blocks;
}

/** Sheets: a heading of level 2 with the name, and a table whose cells are { kind, text, value }; the first row is the head. */
export function makeSheets({ random, characters, sheets = 3 }) {
  const blocks = [];
  for (let i = 0; i < sheets; i++) {
    const rows = [['id', 'name', 'day', 'amount', 'done', 'note'].map((text) => ({ kind: 'shared', text }))];
    let made = 0;
    do {
      const row = [number(rows.length), { kind: 'shared', text: words(random, 2) }, day(random), number(Math.round(random() * 1e7) / 100), truth(random() < 0.5), { kind: random() < 0.5 ? 'inline' : 'shared', text: words(random, between(random, 2, 6)) }];
      if (random() < 0.1) row[3] = { ...row[3], kind: 'formula' };
      rows.push(row);
      made += row.reduce((sum, { text }) => sum + text.length + 1, 0);
    } while (made < characters / sheets);
    blocks.push({ type: 'heading', level: 2, text: `${pick(random, WORDS)} ${i + 1}` }, { type: 'table', rows });
  }
  return blocks;
}

const number = (value) => ({ kind: 'number', text: String(value), value });
const truth = (value) => ({ kind: 'boolean', text: value ? 'TRUE' : 'FALSE', value });

function day(random) {
  const serial = between(random, 36_526, 47_848);
  return { kind: 'date', text: new Date(Date.UTC(1899, 11, 30) + serial * 86_400_000).toISOString().slice(0, 10), value: serial };
}

function list(random) {
  let level = 0;
  return { type: 'list', items: Array.from({ length: between(random, 2, 6) }, (_, i) => {
    level = i === 0 ? 0 : Math.min(2, Math.max(0, level + between(random, -1, 1)));
    return { level, text: words(random, between(random, 3, 9)) };
  }) };
}

function lengthOf(block) {
  if (block.type === 'table') return block.rows.flat().reduce((sum, text) => sum + text.length, 0);
  if (block.type === 'list') return block.items.reduce((sum, { text }) => sum + text.length, 0);
  return block.text.length;
}

function sentences(random, count) {
  return Array.from({ length: count }, () => {
    const text = words(random, between(random, 6, 16));
    return `${text[0].toUpperCase()}${text.slice(1)}.`;
  }).join(' ');
}

function title(random) {
  return Array.from({ length: between(random, 2, 5) }, () => pick(random, WORDS)).map((word) => `${word[0].toUpperCase()}${word.slice(1)}`).join(' ');
}

/** Words; the first one is always plain, so that what stands at the beginning of a line means nothing. */
function words(random, count) {
  return Array.from({ length: count }, (_, i) => (i > 0 && random() < AWKWARD_SHARE ? pick(random, AWKWARD) : pick(random, WORDS))).join(' ');
}
