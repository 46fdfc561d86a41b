package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/replica"
	"orrery/internal/clock"
	"orrery/internal/fault"
)

// runner runs one replica. One goroutine takes what came in, hands it to the replica and does what that asks for; another one makes entries durable
// meanwhile. Reads of clean keys are answered by whoever asks, without either.
type runner struct {
	node  *Node
	id    chain.ID
	store *disk.Store
	born  uint64 // epoch of the newest entry that the store had when it was opened
	clean uint64 // what it knew of an incarnation that ended in order

	readCount, writeCount atomic.Uint64 // so far

	fmu     sync.Mutex
	figures figures

	lease   atomic.Pointer[replica.Lease]
	applied atomic.Uint64 // the entry up to which the store has applied the log
	shrunk  atomic.Uint64 // how often keys may have left the store: the config has another range, or the replica was stopped

	// core is written to by the goroutine alone, with mu held; permissions are read with mu held for reading.
	mu     sync.RWMutex
	core   *replica.Replica
	failed error       // of the disk
	member bool        // of the config that the replica knows
	scope  chain.Range // of that config
	config chain.Config

	inbox inbox
	ended chan struct{} // closed when the goroutine has ended
	syncs chan written  // the newest entry that was written
	cuts  uint64        // how often entries were cut off
	work  sync.WaitGroup
	stop  context.CancelFunc
	ctx   context.Context //nolint:containedctx // of the replica

	pmu sync.Mutex // held while a part of the store is made another chain's

	// Of the goroutine.
	token  replica.Token
	spare  leavings
	writes map[replica.Token]*writing
	reads  map[replica.Token]*reading
	out    outbox
	gather gathered
	told   uint64 // the watermark that the successor was told last

	fresh    uint64          // the newest entry that was written and is not being made durable; 0: none
	busy     bool            // entries are being made durable
	begun    bool            // that began with this step
	durable  uint64          // the newest entry that was made durable
	patience replica.Instant // until when the next ones wait for its commit
	pause    *time.Timer     // fires then

	hear chan struct{} // closed and replaced when entries were applied
	hmu  sync.Mutex
}

// bucket is the bucket of the config that the replica knows.
func (r *runner) bucket() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.config.Bucket
}

// writing is a command that waits.
type writing struct {
	session *session // nil: nobody waits for the answer
	id      uint64
	command chain.Command
	begun   replica.Instant
}

func (w *writing) done(result chain.Result, err error) {
	if w.session != nil {
		w.session.done(w.id, result, err)
		n := w.session.node
		n.metrics.writeTimes.Observe((n.Now() - w.begun).Seconds())
	}
}

// input is something that happened; one field is set.
type input struct {
	message   *replica.Message
	write     *writing
	read      *reading
	config    *chain.Config
	settled   bool // with config: nothing of the chain is being split off
	persisted *written
	lease     chan struct{}  // closed when it was taken over; nil: it is not about the lease
	copied    *chain.Replica // a copy was sent to it, or could not be
	tick      bool
	broken    error
}

// inbox is a queue of inputs, bounded by their bytes.
type inbox struct {
	mu    sync.Mutex
	queue []input
	spare []input
	bytes int
	limit int
	wake  chan struct{} // holds a token when there is something
	over  bool
}

// put adds an input. One that must be taken is taken even if there is no room.
func (b *inbox) put(in input, size int, must bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return fabric.ErrClosed
	}
	if !must && b.bytes > 0 && b.bytes+size > b.limit {
		return chain.ErrBusy
	}
	b.queue = append(b.queue, in)
	b.bytes += size
	if len(b.queue) == 1 {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// take takes all inputs.
func (b *inbox) take() []input {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := b.queue
	b.queue, b.spare, b.bytes = b.spare[:0], nil, 0
	return queue
}

// give gives a queue back after use.
func (b *inbox) give(queue []input) {
	clear(queue)
	b.mu.Lock()
	defer b.mu.Unlock()
	if cap(queue) <= 4096 {
		b.spare = queue[:0]
	}
}

func (b *inbox) close() []input {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	queue := b.queue
	b.queue = nil
	return queue
}

// openRunner opens a chain's replica, on what its disk has, and starts it.
func (n *Node) openRunner(id chain.ID) (*runner, error) {
	store, err := n.config.Disk.Open(id)
	if err != nil {
		return nil, err
	}
	state, err := store.State()
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	core, err := replica.New(replica.Config{
		Self: n.config.Self, Storage: store, Applied: state.Applied, AppliedEpoch: state.AppliedEpoch, Pending: state.Pending,
		MaxPending: n.config.MaxPending, Batch: 1 << 20, ResendAfter: n.config.ResendAfter, PlainReads: n.config.PlainReads,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	r := &runner{
		node: n, id: id, store: store, core: core, syncs: make(chan written, 1), hear: make(chan struct{}), ended: make(chan struct{}),
		writes: map[replica.Token]*writing{}, reads: map[replica.Token]*reading{},
		out:   outbox{node: n, buffers: map[fabric.NodeID][]byte{}, counts: map[fabric.NodeID]int{}},
		inbox: inbox{wake: make(chan struct{}, 1), limit: n.config.MaxPending}, pause: time.NewTimer(time.Hour),
	}
	if r.born = state.AppliedEpoch; len(state.Pending) > 0 {
		r.born = state.Pending[len(state.Pending)-1].Epoch
	}
	r.keepLog(true) // until a config says that no split is under way
	r.clean = state.Clean
	r.applied.Store(state.Applied)
	r.ctx, r.stop = context.WithCancel(n.ctx)
	r.work.Go(r.run)
	r.work.Go(r.sync)
	return r, nil
}

// close stops the replica. What waits is answered.
func (r *runner) close() error {
	r.shrunk.Add(1)
	r.stop()
	r.work.Wait()
	r.pmu.Lock() // a part is whole, or not begun
	defer r.pmu.Unlock()
	return r.store.Close()
}

// leave is close at the end of the process: an unsynced replica that had all keeps all, and that it did.
func (r *runner) leave() error {
	r.stop()
	r.work.Wait()
	var err error
	if r.member && r.config.Unsynced && r.failed == nil {
		err = r.store.Leave(r.node.config.Self.Incarnation)
	}
	return errors.Join(err, r.store.Close())
}

func (r *runner) do(w *writing) error {
	r.writeCount.Add(1)
	size := 64
	for _, d := range w.command.Do {
		size += len(d.Key) + len(d.Value) + 32
	}
	return r.inbox.put(input{write: w}, size, false)
}

func (r *runner) message(m *replica.Message) {
	r.node.metrics.received.Inc()
	size := 64
	for _, e := range m.Entries {
		for _, c := range e.Changes {
			size += len(c.Key) + len(c.Value)
		}
	}
	// One that finds no room is lost, and repeated.
	_ = r.inbox.put(input{message: m}, size, false)
}

func (r *runner) configure(c chain.Config, settled bool) {
	_ = r.inbox.put(input{config: &c, settled: settled}, 0, true)
}

func (r *runner) setLease(l replica.Lease) {
	r.lease.Store(&l)
	done := make(chan struct{})
	if r.inbox.put(input{lease: done}, 0, true) == nil && l.Until == 0 {
		select {
		case <-done: // now the replica permits nothing any more
		case <-r.ended:
		}
	}
}

// run is the replica's goroutine.
func (r *runner) run() {
	defer close(r.ended)
	defer r.end()
	tick := time.NewTicker(r.node.config.Tick)
	defer tick.Stop()
	defer r.pause.Stop()
	for {
		ticked := false
		select {
		case <-r.ctx.Done():
			return
		case <-r.inbox.wake:
		case <-r.pause.C:
		case <-tick.C:
			ticked = true
		}
		queue := r.inbox.take()
		if ticked {
			queue = append(queue, input{tick: true})
		}
		if err := r.steps(queue); err != nil {
			r.fail(err)
			return
		}
		r.inbox.give(queue)
	}
}

// end answers what still waits.
func (r *runner) end() {
	for _, in := range r.inbox.close() {
		if in.write != nil {
			in.write.done(chain.Result{}, chain.ErrNotServing)
		}
		if in.read != nil {
			r.refuse(in.read, chain.ErrNotServing)
		}
	}
	for _, w := range r.writes {
		w.done(chain.Result{}, chain.ErrUnknown)
	}
	for _, q := range r.reads {
		r.refuse(q, chain.ErrNotServing)
	}
}

// fail takes the replica out: it may not have what it said it had, or cannot keep what comes.
func (r *runner) fail(err error) {
	r.mu.Lock()
	r.failed = err
	r.mu.Unlock()
	r.lease.Store(nil)
	r.node.metrics.failed.Inc()
	r.node.config.Logger.Error("replica taken out of its chain: its disk failed (repair the disk, then restart the node)", "chain", uint64(r.id), "error", err)
}

// status says how the replica is. One whose disk failed is no member any more, whatever its chain believes.
func (r *runner) status() replica.Status {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := r.core.Status()
	if r.failed != nil {
		s.State, s.Linked = 0, false
	}
	return s
}

// written is an entry that was written, and how long it took to make it durable. What was cut off since must not count as durable.
type written struct {
	up, cuts uint64
	took     time.Duration
}

// leastPatience is how long entries wait at the least until those before them are committed: messages take their time, too.
const leastPatience = time.Millisecond

// sync makes what was written durable, again and again, everything that was written before each time.
func (r *runner) sync() {
	durable := uint64(0)
	for {
		var w written
		select {
		case <-r.ctx.Done():
			return
		case w = <-r.syncs:
		}
		if w = r.lazily(w); r.ctx.Err() != nil {
			return
		}
		begun := time.Now()
		err := fault.Point("chain.sync")
		if err == nil {
			err = r.store.Sync()
		}
		if err := errors.Join(err, fault.Point("chain.synced")); err != nil {
			r.broken(err)
			return
		}
		w.took = time.Since(begun)
		r.node.metrics.syncs.Observe(w.took.Seconds())
		if w.up > durable && durable > 0 {
			r.node.metrics.entries.Observe(float64(w.up - durable))
		}
		durable = w.up
		_ = r.inbox.put(input{persisted: &w}, 0, true)
	}
}

// lazily waits for a while before entries of an unsynced chain are made durable, and returns the newest entry that was written then.
func (r *runner) lazily(w written) written {
	r.mu.RLock()
	unsynced := r.config.Unsynced
	r.mu.RUnlock()
	if !unsynced || !clock.Wait(r.ctx, r.node.config.SyncEvery) {
		return w
	}
	select {
	case w = <-r.syncs:
	default:
	}
	return w
}

// broken tells the replica's goroutine that the disk failed; nil: it did not.
func (r *runner) broken(err error) {
	if err != nil {
		_ = r.inbox.put(input{broken: err}, 0, true)
	}
}

// written tells the sync goroutine of entries; of several it needs the last one only.
func (r *runner) written(up uint64) {
	w := written{up: up, cuts: r.cuts}
	for {
		select {
		case r.syncs <- w:
			return
		default:
		}
		select {
		case <-r.syncs:
		default:
		}
	}
}

// refuse answers a read with an error.
func (r *runner) refuse(q *reading, err error) {
	select {
	case q.session.later <- later{r, q, err}:
	default: // there is room for as many as may wait
	}
}

// heard returns what is closed when more entries are applied.
func (r *runner) heard() <-chan struct{} {
	r.hmu.Lock()
	defer r.hmu.Unlock()
	return r.hear
}

func (r *runner) tell() {
	r.hmu.Lock()
	defer r.hmu.Unlock()
	close(r.hear)
	r.hear = make(chan struct{})
}

func (r *runner) String() string { return fmt.Sprintf("chain %d", r.id) }
