/** The document application with its real packages: real documents of every kind against what their maker put in, and documents that are not what they seem. */
import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { APPS, inputOf, unpackApp, type Input, type Ran, type UnpackedApp } from './unpacked.ts';

interface Block {
  readonly type: string;
  readonly text?: string;
  readonly rows?: readonly (readonly string[])[];
}
interface Truth {
  readonly kind: string;
  readonly bytes: number;
  readonly blocks: readonly Block[];
}
interface Maker {
  readonly KINDS: readonly string[];
  makeInput(options: { path: string; bytes: number; seed?: number; kind?: string }): Promise<Truth>;
}
interface Checker {
  checkOutput(run: { truth: Truth; result: unknown; outputs: readonly Input[] }): Promise<readonly string[]>;
  readMarkdown(text: string): readonly Block[];
}
type Part = readonly [name: string, content: string | Uint8Array, options?: { readonly stored?: boolean }];

// Plain JavaScript, all three.
const appModule = async (path: string): Promise<unknown> => import(pathToFileURL(join(APPS, 'document', path)).href);
const { makeInput, KINDS } = (await appModule('make-input.mjs')) as Maker;
const { checkOutput, readMarkdown } = (await appModule('check-output.mjs')) as Checker;
const { zip } = (await appModule('writers/zip.mjs')) as { zip: (parts: readonly Part[]) => Buffer };

let folder = '';
let call: UnpackedApp['call'];
let given: UnpackedApp['given'];
beforeAll(async () => {
  ({ folder, call, given } = await unpackApp('document'));
}, 180_000);
afterAll(() => (folder === '' ? undefined : rm(folder, { recursive: true, force: true })));

async function made(kind: string, bytes: number, name = `made.${kind}`, seed = 3): Promise<{ readonly truth: Truth; readonly input: Input }> {
  const path = join(folder, name);
  return { truth: await makeInput({ path, bytes, seed, kind }), input: await inputOf(path) };
}

/** What the workflow does, step by step. */
async function convert(input: Input, event: unknown = null): Promise<{ readonly validated: Ran; readonly processed: Ran }> {
  const validated = await call('any2md-validate', event, [input]);
  return { validated, processed: await call('any2md-process', validated.result, validated.outputs) };
}

/** The Markdown that becomes of a file. */
async function markdownOf(name: string, content: string | Uint8Array, event: unknown = null): Promise<string> {
  const { processed } = await convert(await given(name, content), event);
  return readFile(processed.outputs[0]?.path ?? '', 'utf8');
}

/** The parts of an archive, to be changed. */
const office = (main: string, more: readonly Part[] = []): Part[] => [['[Content_Types].xml', '<Types/>'], [main, '<x/>'], ...more];

describe('the maker', () => {
  it.each(KINDS)('makes the same %s for the same seed, of about the size that is asked for', async (kind) => {
    const digest = async (seed: number): Promise<string> => createHash('sha256').update(await readFile((await made(kind, 60_000, `d.${kind}`, seed)).input.path)).digest('hex');
    expect(await digest(1)).toBe(await digest(1));
    expect(await digest(1)).not.toBe(await digest(2));
    const { truth, input } = await made(kind, 60_000);
    expect(truth.bytes).toBe(input.sizeBytes);
    expect(Math.abs(truth.bytes / 60_000 - 1)).toBeLessThan(0.2);
  });

  it('refuses a kind that it does not know', async () => {
    await expect(makeInput({ path: join(folder, 'x.doc'), bytes: 1_000 })).rejects.toThrow('one of docx, xlsx, pptx, pdf, html, csv, not "doc"');
  });
});

describe('the workflow any2md', () => {
  it.each(KINDS)('makes of a %s exactly what is in it', async (kind) => {
    const { truth, input } = await made(kind, 80_000);
    const { validated, processed } = await convert(input);
    expect(validated.result).toMatchObject({ kind, name: input.name, bytes: truth.bytes, mismatch: null });
    expect(validated.outputs.map(({ name, sizeBytes }) => [name, sizeBytes])).toEqual([[`document.${kind}`, truth.bytes]]);
    expect(processed.outputs.map(({ name }) => name)).toEqual(['made.md']);
    expect(processed.result).toMatchObject({ kind, file: 'made.md', bytes: processed.outputs[0]?.sizeBytes });
    expect(processed.result).toMatchObject({ docx: { pictures: 1 }, xlsx: { sheets: 3 }, pdf: { hasText: true }, csv: { columns: 6 } }[kind] ?? {});
    expect(await checkOutput({ truth, ...processed })).toEqual([]);
  }, 60_000);

  it('has a check that finds a lost cell, a lost block and a wrong word', async () => {
    const { truth, input } = await made('html', 20_000);
    const { processed } = await convert(input);
    const changed = (change: (block: Block, i: number) => Block | undefined): Truth => ({ ...truth, blocks: truth.blocks.map(change).filter((block) => block !== undefined) });
    expect(await checkOutput({ truth: changed((block, i) => (i === 0 ? undefined : block)), ...processed })).not.toEqual([]);
    expect((await checkOutput({ truth: changed((block, i) => (i === 1 ? { ...block, text: `${block.text} x` } : block)), ...processed })).join()).toMatch(/^block 2 is /);
    expect((await checkOutput({ truth: changed((block) => (block.type === 'table' ? { ...block, rows: block.rows?.map((row) => row.slice(1)) ?? [] } : block)), ...processed })).length).toBeGreaterThan(0);
  });

  it.each([
    ['a Word document that calls itself text', 'docx', 'notes.txt', null],
    ['a PDF that calls itself a Word document', 'pdf', 'report.docx', 'docx'],
    ['a page that calls itself a table', 'html', 'page.csv', 'csv'],
    ['a document without a name that says anything', 'pptx', 'blob', null],
  ])('believes the bytes of %s', async (_what, kind, name, mismatch) => {
    const { truth, input } = await made(kind, 8_000, name);
    const { validated, processed } = await convert(input);
    expect(validated.result).toMatchObject({ kind, mismatch });
    expect(await checkOutput({ truth, ...processed })).toEqual([]);
  });
});

describe('any2md-validate', () => {
  it('reads encodings and delimiters from the bytes', async () => {
    const look = async (name: string, content: string | Uint8Array, event: unknown = null): Promise<unknown> => (await call('any2md-validate', event, [await given(name, content)])).result;
    expect(await look('a.csv', 'a;b\n1;2\n')).toMatchObject({ kind: 'csv', charset: 'utf-8', delimiter: ';' });
    expect(await look('a.bin', 'a\tb,c\n1\t2\n"x\ty\n"\t3\n')).toMatchObject({ kind: 'csv', delimiter: '\t' });
    expect(await look('a.csv', 'only\none\ncolumn\n')).toMatchObject({ kind: 'csv', delimiter: ',' });
    expect(await look('a.csv', Buffer.from('\uFEFFa,b\n1,2\n', 'utf16le'))).toMatchObject({ kind: 'csv', charset: 'utf-16le' });
    expect(await look('a.csv', 'Stra\xdfe,Stadt\nGr\xfcn,K\xf6ln\n')).toMatchObject({ charset: 'windows-1252' });
    expect(await look('a', '<!-- c --> <!-- d -->\n<HTML><p>x</HTML>')).toMatchObject({ kind: 'html', charset: 'utf-8', mediaType: 'text/html' });
    expect(await look('a', '<!doctype html><meta http-equiv="Content-Type" content="text/html; charset=ISO-8859-2"><p>x')).toMatchObject({ charset: 'iso-8859-2' });
    expect(await look('a', '<p>a part of a page', { type: 'text/html' })).toMatchObject({ kind: 'html' });
    expect(await look('a', 'x', { type: '.CSV' })).toMatchObject({ kind: 'csv' });
  });

  const forged = (change: (bytes: Buffer, directory: number) => void): Buffer => {
    const bytes = zip(office('word/document.xml'));
    change(bytes, bytes.indexOf('PK\x01\x02', 0, 'latin1'));
    return bytes;
  };
  it.each<[what: string, content: string | Uint8Array, message: RegExp]>([
    ['nothing', '', /"f\.docx" is empty/],
    ['garbage', Buffer.from([1, 0, 2, 0, 250, 251]), /neither a known document nor text: it has zero bytes/],
    ['prose', 'Just some words.\nAnd some more.\n', /is text, but neither HTML nor CSV/],
    ['an archive cut in the middle', zip(office('word/document.xml')).subarray(0, 90), /the file is truncated/],
    ['an archive that is no document', zip([['a.txt', 'a']]), /no Office document: it has no \[Content_Types\]\.xml/],
    ['an Office document of another kind', zip(office('visio/document.xml')), /neither text, table nor slides/],
    ['an encrypted archive', forged((bytes, at) => bytes.writeUInt16LE(0x801, at + 8)), /is encrypted \(part \[Content_Types\]\.xml\)/],
    ['an archive that claims a quarter of a gigabyte', forged((bytes, at) => bytes.writeUInt32LE(0x1000_0001, at + 24)), /would have 2684\d+ bytes unpacked, more than 268435456/],
    ['a damaged directory', forged((bytes, at) => bytes.writeUInt32LE(0xffff, at + 42)), /damaged: part \[Content_Types\]\.xml is not where the directory says/],
    ['a protected document', Buffer.concat([Buffer.from('d0cf11e0a1b11ae1', 'hex'), Buffer.alloc(512), Buffer.from('EncryptedPackage', 'utf16le')]), /protected with a password/],
    ['an old Word document', Buffer.concat([Buffer.from('d0cf11e0a1b11ae1', 'hex'), Buffer.alloc(512), Buffer.from('WordDocument', 'utf16le')]), /old binary form/],
    ['a PDF without its end', '%PDF-1.7\n1 0 obj\n<<>>\nendobj\n', /PDF without its end: the file is truncated/],
  ])('refuses %s', async (_what, content, message) => {
    await expect(call('any2md-validate', null, [await given('f.docx', content)])).rejects.toThrow(message);
  });

  it('says what it needs', async () => {
    await expect(call('any2md-validate', null, [])).rejects.toThrow('exactly one input object, the document, not 0');
    await expect(call('any2md-validate', { type: 'application/msword' }, [await given('a', 'a')])).rejects.toThrow('documents of type "application/msword" cannot be converted');
    await expect(call('any2md-validate', { type: 7 }, [await given('a', 'a')])).rejects.toThrow('type must be a media type or a file ending, not 7');
  });
});

describe('any2md-process', () => {
  it('makes tables of HTML that Markdown can hold: without heads, with joined, nested and awkward cells', async () => {
    const markdown = await markdownOf('t.html', '<html><table><caption>c</caption><tr><td colspan=2>a|b<td>c</tr><tr><td>1<br>2<td><p>3</p><p>4</p><td><table><tr><td>in</table></table><p>after');
    expect(readMarkdown(markdown)).toEqual([{ type: 'table', rows: [['a|b', '', 'c'], ['1 2', '3 4', 'in']] }, { type: 'paragraph', text: 'after' }]);
  });

  it('leaves out what no reader of a page sees, and pictures inside the text', async () => {
    const markdown = await markdownOf('s.html', '<html><head><title>no</title><style>no</style></head><body><script>no()</script><h2>Yes</h2><noscript>no</noscript><p>a &lt;b&gt; <del>old</del> <img alt="logo" src="data:image/png;base64,AAAA"></p><ul><li><input type=checkbox checked> done</ul>');
    expect(markdown).toBe('## Yes\n\na \\<b> ~old~ logo\n\n-   [x]  done\n');
  });

  it('reads other encodings', async () => {
    expect(await markdownOf('l.csv', 'Stra\xdfe;Stadt\nGr\xfcn;K\xf6ln\n')).toBe('| Straße | Stadt |\n| --- | --- |\n| Grün | Köln |\n');
    expect(await markdownOf('l.csv', Buffer.from('\uFEFFa,b\né,"1\n2"\n', 'utf16le'))).toBe('| a | b |\n| --- | --- |\n| é | 1 2 |\n');
    expect(await markdownOf('l.html', '<!doctype html><meta charset=koi8-r><p>\xf0\xd2\xc9\xd7\xc5\xd4')).toBe('Привет\n');
    await expect(markdownOf('l.html', '<!doctype html><meta charset=klingon><p>x')).rejects.toThrow('in the encoding "klingon", which is not known');
  });

  it('reads sheets with dates of the other calendar, missing cells, rich text, errors and no styles', async () => {
    const workbook = (properties: string): Part[] => [
      ['[Content_Types].xml', '<Types/>'],
      ['xl/_rels/workbook.xml.rels', '<Relationships><Relationship Id="rId7" Target="/xl/worksheets/s.xml"/></Relationships>'],
      ['xl/workbook.xml', `<workbook xmlns:rel="r"><workbookPr ${properties}/><sheets><sheet name="A&amp;B" rel:id="rId7"/></sheets></workbook>`],
      ['xl/styles.xml', '<styleSheet><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/></cellXfs></styleSheet>'],
      ['xl/sharedStrings.xml', '<sst><si><r><t>two </t></r><r><t>runs</t></r><rPh><t>reading</t></rPh></si></sst>'],
      ['xl/worksheets/s.xml', '<x:worksheet xmlns:x="m"><x:sheetData><x:row><x:c t="s"><x:v>0</x:v></x:c><x:c r="D1" s="1"><x:v>1</x:v></x:c></x:row><x:row/><x:row><x:c r="B3" t="e"><x:v>#N/A</x:v></x:c><x:c s="2"><x:v>2.5</x:v></x:c><x:c t="str"><x:f>1</x:f><x:v>f</x:v></x:c><x:c><x:v>0.30000000000000004</x:v></x:c></x:row></x:sheetData></x:worksheet>'],
    ];
    const rows = async (properties: string): Promise<unknown> => readMarkdown(await markdownOf('w.xlsx', zip(workbook(properties))));
    expect(await rows('')).toEqual([{ type: 'heading', level: 2, text: 'A&B' }, { type: 'table', rows: [['two runs', '', '', '1899-12-31', ''], ['', '#N/A', '1900-01-01 12:00:00', 'f', '0.3']] }]);
    expect(await rows('date1904="1"')).toMatchObject([{}, { rows: [['two runs', '', '', '1904-01-02', ''], ['', '#N/A', '1904-01-03 12:00:00', 'f', '0.3']] }]);
  });

  const process = async (kind: string, content: string | Uint8Array): Promise<Ran> => call('any2md-process', { kind }, [await given(`bad.${kind}`, content)]);
  const pdfEnd = 'xref\n0 1\n0000000000 65535 f \ntrailer\n';
  it.each<[what: string, kind: string, content: string | Uint8Array, message: RegExp]>([
    ['a docx that is none', 'docx', 'garbage', /"bad\.docx" cannot be unpacked/],
    ['a docx without its document', 'docx', zip([['[Content_Types].xml', '<Types/>']]), /has no part word\/document\.xml/],
    ['a docx whose document is no XML', 'docx', zip(office('word/document.xml', [['_rels/.rels', '<not closed']])), /"bad\.docx" is damaged/],
    ['a docx that would blow itself up', 'docx', zip([['[Content_Types].xml', '<Types/>'], ['word/document.xml', '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>']]), /has a document type in word\/document\.xml/],
    ['an xlsx of zeros', 'xlsx', zip(office('xl/workbook.xml', [['xl/worksheets/s.xml', Buffer.alloc(33 * 1024 * 1024)]])), /too large unpacked: part xl\/worksheets\/s\.xml has 34603008 bytes/],
    ['an xlsx that names a sheet it does not have', 'xlsx', zip([['xl/workbook.xml', '<workbook><sheets><sheet name="S" r:id="rId1"/></sheets></workbook>'], ['xl/_rels/workbook.xml.rels', '<Relationships><Relationship Id="rId1" Target="worksheets/s1.xml"/></Relationships>']]), /names the sheet "S", but there is no xl\/worksheets\/s1\.xml/],
    ['an xlsx whose cell names a string it does not have', 'xlsx', zip([['xl/workbook.xml', '<workbook><sheets><sheet name="S" r:id="rId1"/></sheets></workbook>'], ['xl/_rels/workbook.xml.rels', '<Relationships><Relationship Id="rId1" Target="worksheets/s1.xml"/></Relationships>'], ['xl/worksheets/s1.xml', '<worksheet><sheetData><row><c r="A1" t="s"><v>5</v></c></row></sheetData></worksheet>']]), /cell A1 names string 5 of 0/],
    ['an xlsx whose sheet is cut off', 'xlsx', zip([['xl/workbook.xml', '<workbook><sheets><sheet name="S" r:id="rId1"/></sheets></workbook>'], ['xl/_rels/workbook.xml.rels', '<Relationships><Relationship Id="rId1" Target="worksheets/s1.xml"/></Relationships>'], ['xl/worksheets/s1.xml', '<worksheet><sheetData><row><c r="A1"><v>5</v></c></row>']]), /the rows of xl\/worksheets\/s1\.xml have no end/],
    ['a pptx whose XML is broken', 'pptx', zip([['ppt/presentation.xml', '<p:presentation><p:sldIdLst>'], ['ppt/_rels/presentation.xml.rels', '<Relationships/>']]), /ppt\/presentation\.xml is no XML/],
    ['a pptx without a slide that it names', 'pptx', zip([['ppt/presentation.xml', '<p:presentation><p:sldIdLst><p:sldId id="256" r:id="rId1"/></p:sldIdLst></p:presentation>'], ['ppt/_rels/presentation.xml.rels', '<Relationships><Relationship Id="rId1" Target="slides/slide1.xml"/></Relationships>']]), /names slide 1, but there is no ppt\/slides\/slide1\.xml/],
    ['a PDF that is none', 'pdf', 'garbage', /no PDF that can be read/],
    ['a PDF with a password', 'pdf', `%PDF-1.4\n${pdfEnd}<< /Size 1 /Root 1 0 R /ID [<00> <00>] /Encrypt << /Filter /Standard /V 1 /R 2 /Length 40 /P -4 /O <${'11'.repeat(32)}> /U <${'22'.repeat(32)}> >> >>\nstartxref\n9\n%%EOF\n`, /protected with a password/],
    ['a CSV with an open quote', 'csv', 'a,b\n"1,2\n', /no valid CSV: .*quote/i],
    ['a CSV without rows', 'csv', '\n\n', /has no rows/],
    ['a CSV of one row that makes all others too long', 'csv', `${','.repeat(999)}\n${'a\n'.repeat(4_001)}`, /a table of 4002 rows and 1000 columns is too large/],
  ])('refuses %s', async (_what, kind, content, message) => {
    await expect(process(kind, content)).rejects.toThrow(message);
  });

  it('refuses a job that any2md-validate did not make', async () => {
    await expect(process('exe', 'x')).rejects.toThrow('kind must be one of docx, xlsx, pptx, pdf, html, csv, not "exe"');
    await expect(process('constructor', 'x')).rejects.toThrow('not "constructor"');
    await expect(call('any2md-process', null, [await given('a', 'a')])).rejects.toThrow('kind must be one of');
    await expect(call('any2md-process', { kind: 'csv' }, [])).rejects.toThrow('exactly one input object, the document, not 0');
  });
});
