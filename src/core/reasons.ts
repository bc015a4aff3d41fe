/** The one vocabulary of reasons: API, logs, metrics, page and explain use these words and no others. */

export const REASONS = {
  // life cycle
  arrived: 'The invocation was accepted.',
  predicted: 'Its execution times were predicted.',
  started: 'The handler was called.',
  completed: 'The handler returned.',
  functionFailed: 'The function threw, crashed or broke a limit of its own.',
  platformFailed: 'The platform could not run it.',
  callerCancelled: 'The caller cancelled it or went away.',
  deadlineExceeded: 'The time that the caller or the function allowed was up.',
  functionDeleted: 'The function was deleted while it waited.',
  // dispatching
  noLocalNode: 'No node offers locality; the best node with room was taken.',
  bestNodeHasRoom: 'The best local node has room.',
  gainTooSmall: 'The best local node is busy, and not better enough than one with room.',
  fallbackAsPrinted: 'Strict mode: the gain was too small, so a fallback node was taken as Algorithm 1 prints it.',
  localNodeReleased: 'The local node it waited for has room now.',
  otherLocalNodeReleased: 'Another local node, as good within the gain, has room now.',
  roomAppeared: 'Some node has room now.',
  slackExhausted: 'Waiting longer would endanger the SLA.',
  waitInVain: 'The local nodes are not expected to have room before waiting would endanger the SLA.',
  nextInTurn: 'Round robin: the next node with room.',
  mostLocalityKinds: 'Naive locality: the free node with most kinds of locality.',
  leastLoaded: 'No free node has locality: the least loaded one.',
  hasData: 'A free node holds input data of it.',
  waitIsOver: 'Rule delay: the fixed wait for the data is over.',
  earliestEnd: 'Lookahead: on this node it is expected to end first.',
  riskTooHigh: 'Lookahead: waiting might break the SLA.',
  twoChoices: 'XFaaS: the less loaded of two workers of its group.',
  warmSandbox: 'A free node has a warm sandbox of it.',
  adopted: 'It was found running on the node after a restart of the scheduler.',
  // delaying
  waitForLocalNode: 'A busy local node is better enough to wait for it.',
  waitForData: 'Rule delay: all nodes that hold input data are busy.',
  waitForEarlierEnd: 'Lookahead: waiting for a busy node and running there is expected to end first.',
  groupFull: 'XFaaS: no worker of its group has room.',
  putOff: 'XFaaS: it is not critical and the workers are busy, or its rate is used up.',
  noRoom: 'No node has room.',
  noNodes: 'No node is ready.',
  concurrencyLimit: 'As many of this function run as may.',
  // going back
  targetLost: 'The node it waited for is gone, stale or draining.',
  localityLost: 'What made the node local is gone.',
  localityGained: 'Its function became warm on another node; it was classified again.',
  askedAgain: 'The policy that made it wait for room was asked again at the time it had named.',
  revised: 'Another node is expected to end first by now.',
  rejectedByNode: 'The node refused it.',
  nodeLost: 'The node was lost during the run.',
  retried: 'A further attempt after a failure of the platform.',
} as const;

/** A reason. */
export type Reason = keyof typeof REASONS;
