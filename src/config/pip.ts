/**
 * How pip is run: as `python3 -m pip`, but so that nothing is ever built. `--only-binary` does not hold for addresses and folders,
 * be they named by the user or by a wheel that is needed: pip would build those, which runs their code. A build is another Python, or
 * git fetching the source: pip may start neither. Nor does it take modules from the folder that it is run in.
 */

/** What pip says when it was kept from building. */
export const WOULD_BUILD = 'metronome: it would have to be built';

/** Before the arguments of pip. */
export const PIP: readonly string[] = ['-c', `
import sys
sys.path[:] = [path for path in sys.path if path != '']
import os
def refuse(event, details):
    if event == 'subprocess.Popen':
        name = os.path.basename(os.fsdecode(details[0]))
        if os.fsdecode(details[0]) == sys.executable or name in ('git', 'hg', 'svn', 'bzr'):
            sys.stderr.write('${WOULD_BUILD}\\n')
            raise RuntimeError('nothing is built here')
sys.addaudithook(refuse)
import runpy
runpy.run_module('pip', run_name='__main__', alter_sys=True)
`];
