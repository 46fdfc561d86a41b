// Package event carries events to all nodes, messages to one, and queries to many.
//
// A Service is one node's part. It keeps a log of the newest events on the node's disk (package journal); watchers read the log at their own pace, by
// position, so that nothing is queued for them and they can go on where they were, also after a restart of the node.
//
// Events. Send puts an event into the own log and returns; from there it spreads. A small one travels in the membership's gossip as a whole, signed. Of a larger one
// the gossip has the hash and the size, and the payload is fetched from its sender or from a node that has it: each gives it to a few and refers the rest to those.
// Gossip loses some and is slow, so it is a shortcut only: now and then, and as soon as something is found missing, a node asks another for all that it lacks.
//
//   - Every node that is alive, or back within the time that events are kept (an hour, 64 MiB, unless it says otherwise), gets every event that its sender sent, if some
//     node that it reaches still has it. What nobody has any more is counted as missed, for the watchers too.
//   - Each event is in a log once; a restarted node does not get again what it has. A watcher gets each once.
//   - Those of one sender are in the order in which they were sent, without unsaid holes, over its restarts too.
//   - Among senders: an event has a greater Lamport time than every event that its sender had seen in its log. A node lets an event wait for the settling time
//     (200 ms), and then has those with a smaller time go first, and the smaller node id where times are the same. So a cause comes before its effect unless it reaches
//     the node later than the effect by more than the settling time; Time then still tells. Events that nobody caused may be in another order at another node.
//   - From is proven: the event is signed by the node's key, whose hash the node's id is, however many nodes passed it on. By, a person's name, is what that node says.
//
// Messages. Tell returns nil once all who receive messages of that name at the node (Receive) have it in their inboxes, which it enters exactly once; From is by the certificate
// of the connection. Inboxes are bounded, and one that is full is the sender's ErrBusy. They are in memory: what waits there when the node stops is lost.
//
// Queries. Query asks many nodes at the same time; a Handler on each answers. Every node that was asked yields an Answer, or says why not.
//
// Names have 1 to 64 of the letters, digits and "._:/-"; payloads and answers at most 4 MiB. All numbers and sizes that others send are checked, what waits is bounded, and what
// does not hold is counted as garbage and dropped. The package owns its log and its goroutines; Run and Close wait for them.
package event
