package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"orrery/deploy"
	"orrery/fabric"
)

// operation is one run on one manifest that holds the journal.
type operation struct {
	*Engine
	name     string
	holder   string
	progress func(deploy.Event)
	reports  sync.Mutex // progress is called by one goroutine at a time
	lose     context.CancelCauseFunc
	undo     context.Context         //nolint:containedctx // lives as long as the operation, whatever the caller's does
	stop     context.CancelCauseFunc // ends the context that begin returned
	renewing sync.WaitGroup

	turn     chan struct{} // holds one token: whoever has it may use the fields below
	journal  journal
	revision uint64

	mu      sync.Mutex
	outcome deploy.Outcome
	renewed time.Time // when the last write of the journal that succeeded began
}

// begin takes the journal of a manifest, waiting for as long as it takes to know that its owner is gone.
// The journal that the operation then holds may be open: its work must be brought to an end first. The context
// ends with ctx and when the journal is lost.
func (e *Engine) begin(ctx context.Context, manifest, kind string, progress func(deploy.Event)) (*operation, context.Context, error) {
	if progress == nil {
		progress = func(deploy.Event) {}
	}
	o := &operation{Engine: e, name: manifest, holder: newID(), progress: progress, turn: make(chan struct{}, 1)}
	o.outcome.Pauses = map[string]time.Duration{}
	e.mu.Lock()
	e.holders[o.holder] = true
	e.mu.Unlock()
	if err := o.acquire(ctx, kind); err != nil {
		o.forget()
		return nil, nil, err
	}
	o.turn <- struct{}{}
	o.undo, o.lose = context.WithCancelCause(context.WithoutCancel(ctx))
	o.renewing.Go(func() { o.renew(o.undo) })
	forward, stop := context.WithCancelCause(ctx)
	o.stop = stop
	context.AfterFunc(o.undo, func() { stop(context.Cause(o.undo)) })
	return o, forward, nil
}

// acquire makes the journal ours.
func (o *operation) acquire(ctx context.Context, kind string) error {
	var seen uint64
	var since time.Time
	for {
		o.renewed = time.Now()
		j, revision, err := o.readJournal(ctx, o.name)
		if err != nil {
			return err
		}
		now := time.Now()
		switch {
		case o.free(j), seen == revision && now.Sub(since) >= o.Lease:
			return o.take(ctx, j, revision, kind)
		case seen == 0:
			seen, since = revision, now
		case seen != revision:
			return fmt.Errorf("cannot %s %s: %w on node %s: %s", kind, o.name, deploy.ErrBusy, o.nodeName(j.Owner), j.Kind)
		}
		if err := wait(ctx, o.Lease/8); err != nil {
			return err
		}
	}
}

// free says whether nobody who lives holds j.
func (o *operation) free(j journal) bool {
	if j.Phase == phaseClosed || j.Holder == "" {
		return true
	}
	o.Engine.mu.Lock()
	defer o.Engine.mu.Unlock()
	return j.Owner == o.Self && !o.holders[j.Holder]
}

// take writes j as ours: an open one as it is, a closed one as the beginning of a new operation.
func (o *operation) take(ctx context.Context, j journal, revision uint64, kind string) error {
	if j.Phase == phaseClosed && kind == kindRecover {
		j.Phase = phaseRunning // only to clean up; what was last stays to be read
		j.Version = journalVersion
	} else if j.Phase == phaseClosed {
		j = journal{
			Version: journalVersion, Operation: newID(), Kind: kind, Phase: phaseRunning,
			Started: time.Now().UTC(), Beat: j.Beat, Leftovers: j.Leftovers,
		}
	}
	j.Owner, j.Holder, j.Beat = o.Self, o.holder, j.Beat+1
	value, err := json.Marshal(j)
	if err != nil {
		return err
	}
	o.revision, err = o.swap(ctx, deploy.JournalPrefix+o.name, revision, value)
	if errors.Is(err, fabric.ErrConflict) {
		return fmt.Errorf("cannot %s %s: %w", kind, o.name, deploy.ErrBusy)
	}
	o.journal = j
	return err
}

// wait returns after d, or with an error when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// renew writes the journal often enough that others see its owner alive, until ctx ends. Where that
// fails for so long that another engine could think it dead, the operation is over before that one begins.
func (o *operation) renew(ctx context.Context) {
	for wait(ctx, o.Lease/4) == nil {
		attempt, cancel := context.WithTimeout(ctx, o.Lease/4)
		err := o.write(attempt, func(*journal) {})
		cancel()
		if err != nil && !o.fresh() {
			return
		}
	}
}

// fresh says whether the journal was written so lately that nobody can have taken it over. Otherwise the
// operation ends here: also when it was asleep, and has not had the time to try.
func (o *operation) fresh() bool {
	o.mu.Lock()
	late := time.Since(o.renewed) >= o.Lease*3/4
	o.mu.Unlock()
	if late {
		o.lose(errSilent)
	}
	return !late
}

// write changes the journal if it is still ours.
func (o *operation) write(ctx context.Context, change func(*journal)) error {
	select {
	case <-o.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { o.turn <- struct{}{} }()
	if cause := context.Cause(o.undo); cause != nil {
		return cause
	}
	began := time.Now()
	next := o.journal
	change(&next)
	next.Beat++
	value, err := json.Marshal(next)
	if err != nil {
		return err
	}
	revision, err := o.swap(ctx, deploy.JournalPrefix+o.name, o.revision, value)
	if errors.Is(err, fabric.ErrConflict) {
		o.lose(errFenced)
		return errFenced
	}
	if err != nil {
		return fmt.Errorf("cannot write the journal of %s: %w", o.name, err)
	}
	o.journal, o.revision = next, revision
	o.mu.Lock()
	o.renewed = began
	o.mu.Unlock()
	return nil
}

// read copies the journal.
func (o *operation) read() journal {
	<-o.turn
	defer func() { o.turn <- struct{}{} }()
	return o.journal
}

// lost says whether the journal is not ours any more, and why.
func (o *operation) lost() error {
	if cause := context.Cause(o.undo); cause != nil {
		return fmt.Errorf("%w: %w (whoever has the journal goes on)", deploy.ErrStuck, cause)
	}
	return nil
}

// undoing is the context of undoing: it outlives the caller's, and has a bound.
func (o *operation) undoing() (context.Context, context.CancelFunc) {
	return context.WithTimeout(o.undo, o.Undo)
}

// release ends the operation and frees the journal.
func (o *operation) release(result string) error {
	ctx, cancel := o.undoing()
	defer cancel()
	err := o.write(ctx, func(j *journal) {
		j.Phase, j.Holder, j.Result, j.Doing, j.Work, j.At = phaseClosed, "", result, "", nil, 0
	})
	o.end()
	return err
}

// abandon frees the journal and leaves it open, for whoever comes next.
func (o *operation) abandon(why error) {
	ctx, cancel := context.WithTimeout(o.undo, o.Lease)
	defer cancel()
	if err := o.write(ctx, func(j *journal) { j.Holder, j.Result = "", why.Error() }); err != nil {
		o.Logger.WarnContext(ctx, "journal stays held until its lease ends", "manifest", o.name, "err", err)
	}
	o.end()
}

// end stops the renewing.
func (o *operation) end() {
	o.lose(context.Canceled)
	o.stop(context.Canceled)
	o.renewing.Wait()
	o.forget()
}

func (o *operation) forget() {
	o.Engine.mu.Lock()
	defer o.Engine.mu.Unlock()
	delete(o.holders, o.holder)
}

// do carries out one small action, reporting its begin and end. It does not start when the journal is lost, and
// it is given up when one of the nodes that it needs is dead.
func (o *operation) do(ctx context.Context, service, action string, f func(ctx context.Context) (int64, error), nodes ...fabric.NodeID) error {
	if !o.fresh() {
		return fmt.Errorf("cannot %s: %w", action, errSilent)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("cannot %s: %w", action, context.Cause(ctx))
	}
	began := time.Now()
	o.report(deploy.Event{Time: began, Service: service, Action: action})
	moved, err := o.whileAlive(ctx, nodes, f)
	done := deploy.Event{Time: time.Now(), Service: service, Action: action, Done: true, Took: time.Since(began), Bytes: moved}
	if err != nil {
		done.Err = err.Error()
		err = fmt.Errorf("cannot %s: %w", action, err)
	}
	o.report(done)
	return err
}

// lookout is how often the membership is asked whether a node that an action waits for is dead.
const lookout = time.Second

// whileAlive runs f with a context that ends when a node is dead: a connection to one may hang for long.
func (e *Engine) whileAlive(ctx context.Context, nodes []fabric.NodeID, f func(ctx context.Context) (int64, error)) (int64, error) {
	if len(nodes) == 0 {
		return f(ctx)
	}
	if err := e.dead(nodes); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(lookout)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if err := e.dead(nodes); err != nil {
					cancel(err)
					return
				}
			}
		}
	})
	n, err := f(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	close(done)
	watching.Wait()
	cancel(nil)
	return n, err
}

// errDead says that a node is dead or has left, as the membership has it.
var errDead = errors.New("node is dead")

// dead says which of nodes is dead.
func (e *Engine) dead(nodes []fabric.NodeID) error {
	_, byID := e.members()
	for _, id := range nodes {
		if m, ok := byID[id]; ok && !usable(m) {
			return fmt.Errorf("%w: %s", errDead, m.Name)
		}
	}
	return nil
}

// note reports something that has happened.
func (o *operation) note(service, action string) {
	o.report(deploy.Event{Time: time.Now(), Service: service, Action: action, Done: true})
}

func (o *operation) report(event deploy.Event) {
	o.reports.Lock()
	defer o.reports.Unlock()
	o.progress(event)
}
