/** Writes a workbook: shared and inline strings, numbers, dates by style, truth values, formulas with stored results, and a hidden sheet. */
import { DECLARATION, contentTypesPart, relationsPart, xml } from './xml.mjs';
import { zip } from './zip.mjs';

const X = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"';
/** Style 1 shows a date, by a format of the file's own. */
const STYLES = `${DECLARATION}<styleSheet ${X}><numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd"/></numFmts><cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="164" applyNumberFormat="1"/></cellXfs></styleSheet>`;

/** The bytes of a workbook; every heading names a sheet, the table behind it fills it. */
export function writeXlsx(blocks) {
  const shared = new Map();
  const names = [...blocks.filter(({ type }) => type === 'heading').map(({ text }) => text), 'hidden'];
  const sheets = [...blocks.filter(({ type }) => type === 'table').map(({ rows }) => sheetXml(rows, shared)), sheetXml([[{ kind: 'shared', text: 'nobody sees this' }]], shared)];
  return zip([
    ['[Content_Types].xml', contentTypesPart([['xl/workbook.xml', 'spreadsheetml.sheet.main'], ['xl/styles.xml', 'spreadsheetml.styles'], ['xl/sharedStrings.xml', 'spreadsheetml.sharedStrings'], ...sheets.map((_, i) => [`xl/worksheets/sheet${i + 1}.xml`, 'spreadsheetml.worksheet'])])],
    ['_rels/.rels', relationsPart([['officeDocument', 'xl/workbook.xml']])],
    ['xl/_rels/workbook.xml.rels', relationsPart([...sheets.map((_, i) => ['worksheet', `worksheets/sheet${i + 1}.xml`]), ['styles', 'styles.xml'], ['sharedStrings', 'sharedStrings.xml']])],
    ['xl/workbook.xml', `${DECLARATION}<workbook ${X}><sheets>${names.map((name, i) => `<sheet name="${xml(name)}" sheetId="${i + 1}"${name === 'hidden' ? ' state="hidden"' : ''} r:id="rId${i + 1}"/>`).join('')}</sheets></workbook>`],
    ['xl/styles.xml', STYLES],
    ['xl/sharedStrings.xml', `${DECLARATION}<sst ${X} uniqueCount="${shared.size}">${[...shared.keys()].map((text) => `<si><t xml:space="preserve">${xml(text)}</t></si>`).join('')}</sst>`],
    ...sheets.map((sheet, i) => [`xl/worksheets/sheet${i + 1}.xml`, sheet]),
  ]);
}

/** A sheet that begins at B3, as if somebody had left a margin. */
function sheetXml(rows, shared) {
  return `${DECLARATION}<worksheet ${X}><sheetData>${rows.map((row, i) => `<row r="${i + 3}">${row.map((cell, j) => cellXml(cell, `${String.fromCharCode(66 + j)}${i + 3}`, shared)).join('')}</row>`).join('')}</sheetData></worksheet>`;
}

function cellXml({ kind, text, value }, place, shared) {
  if (kind === 'inline') return `<c r="${place}" t="inlineStr"><is><t xml:space="preserve">${xml(text)}</t></is></c>`;
  if (kind === 'number') return `<c r="${place}"><v>${value}</v></c>`;
  if (kind === 'formula') return `<c r="${place}"><f>${value}+0</f><v>${value}</v></c>`;
  if (kind === 'date') return `<c r="${place}" s="1"><v>${value}</v></c>`;
  if (kind === 'boolean') return `<c r="${place}" t="b"><v>${value ? 1 : 0}</v></c>`;
  if (!shared.has(text)) shared.set(text, shared.size);
  return `<c r="${place}" t="s"><v>${shared.get(text)}</v></c>`;
}
