/** Tells a child process that its parent is gone, even when the parent was killed and could not say goodbye. */

const LOOK_EVERY_MS = 500;

/**
 * Calls back once when the parent is gone: at once when there is an IPC channel (it closes with the parent), otherwise,
 * if `watchPid`, when another process has become the parent. Without both it never calls back.
 */
export function onParentGone(watchPid: boolean, gone: () => void): void {
  if (process.connected) {
    process.once('disconnect', gone);
    return;
  }
  if (!watchPid) return;
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    gone();
  }, LOOK_EVERY_MS);
  timer.unref();
}
