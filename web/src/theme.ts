/** Light or dark: what the system says, until the reader says otherwise. */
import { effect, signal } from '@preact/signals';

export type Theme = 'light' | 'dark';

const KEY = 'metronome.theme';
const system = matchMedia('(prefers-color-scheme: dark)');

const chosen = signal<Theme | undefined>(remembered());
const systemTheme = signal<Theme>(system.matches ? 'dark' : 'light');
system.addEventListener('change', () => {
  systemTheme.value = system.matches ? 'dark' : 'light';
});

/** The theme in force. */
export function theme(): Theme {
  return chosen.value ?? systemTheme.value;
}

export function toggleTheme(): void {
  chosen.value = theme() === 'dark' ? 'light' : 'dark';
  try {
    localStorage.setItem(KEY, chosen.value);
  } catch {
    // Storage is forbidden here: the choice lasts as long as the page.
  }
}

/** The value of a colour of the style sheet, for canvases. Reading it inside a render subscribes to the theme. */
export function colour(name: string): string {
  theme();
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

effect(() => {
  document.documentElement.dataset['theme'] = theme();
});

function remembered(): Theme | undefined {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'light' || value === 'dark' ? value : undefined;
  } catch {
    return undefined;
  }
}
