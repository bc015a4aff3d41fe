/** `metronome completion`: scripts that complete commands and options in a shell. Made from the tree of commands. */
import { Command } from 'commander';
import { withExamples } from '../arguments.ts';
import type { CliApp } from '../app.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** What can follow a path of commands. */
interface Place {
  /** "function apply"; '' for the root. */
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly description: string }[];
  readonly options: readonly { readonly long: string; readonly short: string | undefined; readonly description: string }[];
}

export function completionCommand(app: CliApp): Command {
  return withExamples(
    new Command('completion').argument('<shell>', SHELLS.join(', ')).description('print a completion script for a shell').action(app.action((shell: string, _options: object, command: Command) => {
      const places = collectPlaces(app.root());
      switch (shell) {
        case 'bash': return app.io.out(bashScript(places));
        case 'zsh': return app.io.out(`#compdef metronome\nautoload -U +X bashcompinit && bashcompinit\n${bashScript(places)}`);
        case 'fish': return app.io.out(fishScript(places));
        default: return command.error(`error: no completion for "${shell}". Shells: ${SHELLS.join(', ')}`);
      }
    })),
    'source <(metronome completion bash)', 'metronome completion zsh > "${fpath[1]}/_metronome"', 'metronome completion fish > ~/.config/fish/completions/metronome.fish');
}

function collectPlaces(root: Command): Place[] {
  const places: Place[] = [];
  const global = root.options.map(describe);
  const walk = (command: Command, path: string): void => {
    const own = path === '' ? [] : command.options.map(describe);
    places.push({ path, commands: command.commands.map((child) => ({ name: child.name(), description: child.description() })), options: [...own, ...global] });
    for (const child of command.commands) walk(child, path === '' ? child.name() : `${path} ${child.name()}`);
  };
  walk(root, '');
  return places;
}

function describe(option: Command['options'][number]): Place['options'][number] {
  return { long: option.long ?? '', short: option.short, description: option.description };
}

function bashScript(places: readonly Place[]): string {
  const cases = places.map(({ path, commands, options }) => {
    const words = [...commands.map(({ name }) => name), ...options.flatMap(({ long, short }) => [long, ...(short === undefined ? [] : [short])]), '--help'].join(' ');
    return `    ${path === '' ? "''" : `'${path}'`}) words='${words}' ;;`;
  });
  const paths = places.filter(({ path }) => path !== '').map(({ path }) => `'${path}'`).join('|');
  return `# Completion of metronome; made by "metronome completion".
_metronome() {
  local current="\${COMP_WORDS[COMP_CWORD]}" path='' word words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${path:+$path }\${COMP_WORDS[i]}"
    case "$word" in
      ${paths}) path="$word" ;;
    esac
  done
  case "\${COMP_WORDS[COMP_CWORD-1]}" in
    -o|--output) COMPREPLY=($(compgen -W 'table wide json yaml' -- "$current")); return ;;
    -f|--file|--input|--config|--out|--data-dir) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o filenames -o bashdefault -F _metronome metronome
`;
}

function fishScript(places: readonly Place[]): string {
  const quote = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = ['# Completion of metronome; made by "metronome completion".', 'complete -c metronome -f'];
  for (const { path, commands, options } of places) {
    const [first, second] = path.split(' ');
    const siblings = second === undefined ? commands.map(({ name }) => name).join(' ') : '';
    const where = path === '' ? '__fish_use_subcommand' : second === undefined ? `__fish_seen_subcommand_from ${first}${siblings === '' ? '' : `; and not __fish_seen_subcommand_from ${siblings}`}` : `__fish_seen_subcommand_from ${first}; and __fish_seen_subcommand_from ${second}`;
    for (const { name, description } of commands) lines.push(`complete -c metronome -n ${quote(where)} -a ${name} -d ${quote(description)}`);
    // The global options come once, with the root, and hold everywhere.
    for (const { long, short, description } of path === '' ? options : options.slice(0, options.length - (places[0]?.options.length ?? 0))) {
      lines.push(`complete -c metronome ${path === '' ? '' : `-n ${quote(where)} `}-l ${long.replace(/^--/, '')}${short === undefined ? '' : ` -s ${short.replace(/^-/, '')}`} -d ${quote(description)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}
