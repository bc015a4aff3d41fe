/** The inspector's page. It asks nobody but the daemon that served it. */
import { render } from 'preact';
import { App } from './app.tsx';
import { connect } from './live.ts';
import './style.css';

const place = document.getElementById('page');
if (place === null) throw new Error('index.html has no element with the id "page".');
render(<App />, place);
connect();
