/**
 * An excerpt as one HTML file that opens from a disk: data, style and a small viewer in it, nothing from elsewhere. Light and dark by the
 * reader's setting, usable by keyboard, with a table behind the picture.
 */
import { VIEWER_SCRIPT, VIEWER_STYLE } from './html-viewer.ts';
import { invocationsOf, type Excerpt } from './excerpt.ts';

/** The whole file. */
export function toHtml(excerpt: Excerpt): string {
  const { title, missed, decisions } = excerpt;
  const data = { title, missed, invocations: invocationsOf(excerpt), decisions: Object.fromEntries(decisions) };
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${escaped(title)}</title>
<style>${VIEWER_STYLE}</style>
</head>
<body>
<header><h1>${escaped(title)}</h1><p id="summary"></p>
<label>Show <input id="filter" type="search" placeholder="function, id, node, state or reason" aria-label="Filter invocations"></label></header>
<main><section aria-label="Invocations"><ul id="list"></ul><p id="more"></p></section><section id="detail" aria-live="polite"></section></main>
<script type="application/json" id="data">${inScript(data)}</script>
<script>${VIEWER_SCRIPT}</script>
</body>
</html>
`;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

/** JSON that cannot end the script element that it stands in. */
function inScript(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c').replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029');
}
