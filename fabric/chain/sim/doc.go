// Package sim runs whole chains, and buckets of several, in a simulated world, to find schedules in which the protocol breaks.
//
// A run is a function of its seed. One random source and one queue of events in virtual time drive everything: nodes with clocks of
// their own, disks whose writes become durable later (a crash loses those that are not), a network that loses, repeats, delays and reorders, processes
// that are stopped for longer than a lease, a linearizable table with late watches, keepers that overlap, clients that ask
// again. The code under test is the real one: fabric/chain/replica and fabric/chain/placement; only their drivers are the simulator's.
//
// Which faults happen, how often, and how fast everything is, is drawn from the seed as well (nature), so that
// runs differ in kind and not only in order. A trap lets a node die, stop or be cut off at a chosen point: before or after a message, after a write, after a sync.
//
// What is checked (truth, at every step, with the knowledge of all disks): the log of a linked successor is a prefix of its predecessor's; what is
// committed is durable on all members of the epoch, and on all that serve in the newest epoch; nothing committed is ever replaced; a command is
// done once; a client is told nothing that is not committed; an answer is the state as of the entry that it names, and misses only what its consistency allows. At the end:
// all requests have ended and the chain is whole again within a time after the last fault, and porcupine puts the history of all strong operations of the
// chain (puts, deletes, increments, appends, conditions, mini-transactions, ranges, expiry) in an order that a naive model accepts.
//
// A third of the runs has an unsynced chain, whose acknowledged writes are lost when all that served have crashed, and only then; and operators give up
// chains whose replicas are lost. What goes on then is another line of the chain's history (line): it begins with what was committed up to some entry, and
// porcupine sees it as a step that takes the state back. Replicas that do not know of it yet may go on with the old line: they agree with each other on what is committed there,
// and tell of nothing else; clients are not told, as if they had been before.
//
// In the mode Splitting the bucket has one chain at first, and several later: an operator splits chains at chosen keys, while all of the above goes on. Clients go by maps
// that may be old, as fabric/client does, and give a command another number where a chain says that it does not have the key; scans go from
// chain to chain; watches follow their keys. What is checked besides: all members' parts of a chain that is split off are the same, and are what was committed at the boundary; a
// command is done once, whatever chains it was sent to, under whatever numbers; no strong read misses what the chain that has the key now
// acknowledged; a watch is told of every change of a key, in their order. Porcupine looks at each key's history over all chains that had it.
//
// With Options.Skip, or Options.Break, a rule is broken, and tests see to it that the simulator notices.
package sim
