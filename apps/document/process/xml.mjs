/** XML as a tree of elements in document order, by fast-xml-parser. Names of elements come without their prefixes, names of attributes with. */
import { XMLParser } from 'fast-xml-parser';

const parser = new XMLParser({ preserveOrder: true, ignoreAttributes: false, attributeNamePrefix: '', parseTagValue: false, parseAttributeValue: false, trimValues: false, processEntities: { enabled: true, maxTotalExpansions: Number.MAX_SAFE_INTEGER, maxExpandedLength: Number.MAX_SAFE_INTEGER }, htmlEntities: false });

/** The root element of a text. TypeError if it is no XML. */
export function parseXml(text, part, name) {
  let nodes;
  try {
    nodes = parser.parse(text, true);
  } catch (error) {
    throw new TypeError(`"${name}" is damaged: ${part} is no XML: ${error.message}`, { cause: error });
  }
  const root = nodes.map(elementOf).find((each) => each !== undefined && !each.name.startsWith('?'));
  if (root === undefined) throw new TypeError(`"${name}" is damaged: ${part} has no element`);
  return root;
}

/** { name, attributes, nodes } of what the parser made; undefined for text. */
function elementOf(node) {
  const name = Object.keys(node).find((key) => key !== ':@');
  if (name === undefined || name === '#text') return undefined;
  return { name: name.slice(name.indexOf(':') + 1), attributes: node[':@'] ?? {}, nodes: node[name] };
}

/** The child elements, all or those of some names. */
export function children(element, ...names) {
  const found = [];
  for (const node of element.nodes) {
    const child = elementOf(node);
    if (child !== undefined && (names.length === 0 || names.includes(child.name))) found.push(child);
  }
  return found;
}

/** The first child of a name along a path; undefined if one is missing. */
export function child(element, ...path) {
  let at = element;
  for (const name of path) {
    at = at === undefined ? undefined : children(at, name)[0];
  }
  return at;
}

/** All text below an element that stands in elements of one of the names. */
export function textOf(element, ...names) {
  let text = '';
  const walk = (at, isInside) => {
    for (const node of at.nodes) {
      if (node['#text'] !== undefined) {
        if (isInside) text += node['#text'];
        continue;
      }
      const inner = elementOf(node);
      if (inner === undefined) continue;
      if (inner.name === 'br' || inner.name === 'tab') text += ' ';
      walk(inner, isInside || names.includes(inner.name));
    }
  };
  walk(element, names.includes(element.name));
  return text;
}

/** The relations of a part: id → target, relative to the folder of the part. */
export function relations(root) {
  return new Map(children(root, 'Relationship').map(({ attributes }) => [attributes.Id, attributes.Target]));
}

/** The id of the relation that an element names ("r:id", under whatever prefix); undefined without one. */
export function relationId({ attributes }) {
  return Object.entries(attributes).find(([name]) => name.endsWith(':id'))?.[1];
}

/** "xl/workbook.xml" and "worksheets/sheet1.xml" → "xl/worksheets/sheet1.xml". */
export function targetOf(part, target) {
  const path = target.startsWith('/') ? [] : part.split('/').slice(0, -1);
  for (const step of target.split('/')) {
    if (step === '..') path.pop();
    else if (step !== '.' && step !== '') path.push(step);
  }
  return path.join('/');
}
