/** Builds the inspector's page into dist/web: one document, one script, one style sheet, nothing from elsewhere. `npm run web`. */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  // Relative, so that the page works below any path: /inspect/ of the daemon, or a folder of a web server.
  base: './',
  build: {
    outDir: fileURLToPath(new URL('../dist/web', import.meta.url)),
    emptyOutDir: true,
    target: 'es2023',
    // The daemon's Content-Security-Policy allows no data: beyond images, and small files need no requests saved on loopback.
    assetsInlineLimit: 0,
    modulePreload: false,
    reportCompressedSize: false,
  },
});
