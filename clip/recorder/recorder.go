// Package recorder watches a display's clipboards and keeps what is copied.
//
// A Recorder owns its goroutines; Run returns after all have ended. An owner that does not answer delays nobody but itself: each selection has its own
// reader, which the next copy calls off. What an owner leaves behind when it exits is offered again, with all its types.
package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"orrery/clip"
	"orrery/clip/history"
	"orrery/clip/policy"
)

// Config is what a Recorder needs.
type Config struct {
	Display clip.Display
	History *history.History
	Rules   policy.Rules
	Limits  history.Limits
	// Keep are the selections that are offered again when their owner exits.
	Keep []clip.Selection
	// Rested is called when memory that was used has gone back, because nothing is to be done; nil: nothing.
	Rested func()
	Logger *slog.Logger // nil discards
}

const (
	// transferTime is how long all types of an offer may take.
	transferTime = 30 * time.Second
	// settle is the pause before an ownerless selection is offered again: some owners let go of one offer just before the next.
	settle = 50 * time.Millisecond
	// tidyEvery is how often expired items are looked for.
	tidyEvery = 30 * time.Second
	maxHint   = 64
	// standingTime is how long after the start the display may take to say what the clipboard has.
	standingTime = 5 * time.Second
)

// Recorder is a running recorder.
type Recorder struct {
	config Config
	work   sync.WaitGroup

	mu       sync.Mutex
	pause    time.Time                    // recording is paused until then
	forever  bool                         // it is paused until Resume
	skip     bool                         // the next copy is not recorded
	cancel   map[clip.Selection]func()    // ends what is done about the offer before
	live     map[clip.Selection]clip.Item // what a selection has, as far as it was recorded
	copying  map[clip.Selection]int       // offers that are being read
	begun    map[clip.Selection]bool      // there was an offer
	started  time.Time
	watchers map[chan clip.Summary]bool
	counts   Counts
	searched time.Time
	worked   bool // memory was used since the last rest
	failed   bool // to tidy the last time

	marked chan struct{} // holds a token when an item's mark has changed
}

// Counts are figures since the start.
type Counts struct {
	Recorded int            `json:"recorded"`
	Repeated int            `json:"repeated"` // copies of what the history had
	Restored int            `json:"restored"` // offered again after their owner had gone
	Refused  map[string]int `json:"refused"`  // by reason
	Failed   int            `json:"failed"`   // owners that did not give what they offered
}

// New makes a recorder.
func New(c Config) *Recorder {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Recorder{
		config: c, cancel: map[clip.Selection]func(){}, live: map[clip.Selection]clip.Item{}, watchers: map[chan clip.Summary]bool{}, begun: map[clip.Selection]bool{}, copying: map[clip.Selection]int{},
		counts: Counts{Refused: map[string]int{}}, marked: make(chan struct{}, 1),
	}
}

// Run records until ctx ends, or the display's connection does.
func (r *Recorder) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer r.work.Wait()
	defer stop()
	r.mu.Lock()
	r.started = time.Now()
	r.mu.Unlock()
	r.work.Go(func() { r.tidyAlways(ctx) })
	for {
		o, err := r.config.Display.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil // it was told to end
			}
			return err
		}
		r.begin(ctx, o)
	}
}

// begin calls off what was done about the offer before, and does what this one needs.
func (r *Recorder) begin(ctx context.Context, o clip.Offer) {
	s := o.Selection()
	r.mu.Lock()
	defer r.mu.Unlock()
	if end := r.cancel[s]; end != nil {
		end()
		delete(r.cancel, s)
	}
	standing := r.standing(s)
	if o.Own() {
		return
	}
	ctx, end := context.WithCancel(ctx)
	r.cancel[s] = end
	r.copying[s]++
	r.work.Go(func() {
		defer end()
		defer func() {
			r.mu.Lock()
			r.copying[s]--
			r.mu.Unlock()
		}()
		switch {
		case o.Cleared():
			r.setLive(s, nil)
			return
		case len(o.Types()) == 0:
			r.ownerless(ctx, s, o.Exited())
			return
		}
		r.take(ctx, o, standing)
	})
}

// ownerless offers again what the owner that has gone had.
func (r *Recorder) ownerless(ctx context.Context, s clip.Selection, exited bool) {
	if !exited {
		timer := time.NewTimer(settle)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	item, ok := r.live[s]
	r.mu.Unlock()
	if !ok || !slices.Contains(r.config.Keep, s) {
		return
	}
	if err := r.config.Display.Offer(s, item.Contents); err != nil {
		r.config.Logger.WarnContext(ctx, "cannot offer again what was copied", "selection", s.String(), "error", err)
		return
	}
	r.count(func(c *Counts) { c.Restored++ })
}

// take reads an offer and keeps it.
func (r *Recorder) take(ctx context.Context, o clip.Offer, standing bool) {
	ctx, end := context.WithTimeout(ctx, transferTime)
	defer end()
	s := o.Selection()
	r.setLive(s, nil) // whatever comes of it: what was there before is not offered again
	why := r.paused()
	if r.config.History.Locked() {
		why = "the history is locked"
	}
	if why != "" {
		r.refused(o, why)
		return
	}
	contents, refusal, err := r.read(ctx, o)
	switch {
	case errors.Is(err, clip.ErrGone) || errors.Is(err, context.Canceled):
		return // somebody copied meanwhile
	case err != nil:
		r.count(func(c *Counts) { c.Failed++ })
		r.config.Logger.WarnContext(ctx, "cannot record what was copied", "selection", s.String(), "application", o.App(), "error", err)
		return
	case refusal != "":
		r.refused(o, string(refusal))
		return
	}
	item := clip.Item{App: o.App(), Contents: contents}
	if err := r.record(s, item, standing); err != nil {
		r.config.Logger.ErrorContext(ctx, "cannot keep what was copied", "error", err)
	}
}

// read reads what is kept of an offer.
func (r *Recorder) read(ctx context.Context, o clip.Offer) ([]clip.Content, policy.Refusal, error) {
	types, ask, why := r.config.Rules.Begin(o.App(), o.Types())
	if why != "" {
		return nil, why, nil
	}
	if ask {
		hint, err := o.Read(ctx, policy.Hint, maxHint)
		if err != nil && !errors.Is(err, clip.ErrNotFound) {
			return nil, "", err
		}
		if why := policy.Hinted(hint); why != "" {
			return nil, why, nil
		}
	}
	var contents []clip.Content
	left := r.config.Rules.Limit()
	var failed error
	for _, t := range types {
		data, err := o.Read(ctx, t, left)
		switch {
		case errors.Is(err, clip.ErrTooLarge):
			return nil, policy.TooLarge, nil
		case errors.Is(err, clip.ErrGone) || ctx.Err() != nil:
			return nil, "", err
		case err != nil:
			failed = err // owners offer types that they do not give; the others count
			continue
		}
		left -= int64(len(data))
		contents = append(contents, clip.Content{Type: t, Data: data})
	}
	if len(contents) == 0 {
		return nil, "", failed
	}
	return contents, r.config.Rules.End(contents), nil
}

// record keeps an item, and tells those who watch.
func (r *Recorder) record(s clip.Selection, item clip.Item, standing bool) error {
	add := r.config.History.Add
	if standing {
		add = r.config.History.Import // it was copied before the recorder started, and may be known
	}
	summary, fresh, err := add(item)
	if err != nil {
		return err
	}
	item.Summary = summary
	r.setLive(s, &item)
	r.mu.Lock()
	r.worked = true
	if fresh {
		r.counts.Recorded++
	} else {
		r.counts.Repeated++
	}
	for w := range r.watchers {
		select {
		case w <- summary:
		default: // it looks too seldom; the list has all
		}
	}
	r.mu.Unlock()
	return r.tidy(time.Now())
}

// standing notes whether an offer was there before the recorder: it is the first of its selection, and comes as the recorder starts. It is called with the lock held.
func (r *Recorder) standing(s clip.Selection) bool {
	before := r.begun[s]
	r.begun[s] = true
	return !before && time.Since(r.started) < standingTime
}

func (r *Recorder) setLive(s clip.Selection, item *clip.Item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if item == nil {
		delete(r.live, s)
		return
	}
	r.live[s] = *item
}

func (r *Recorder) count(change func(*Counts)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.counts)
}

func (r *Recorder) refused(o clip.Offer, why string) {
	r.count(func(c *Counts) { c.Refused[why]++ })
	r.config.Logger.Debug("not recorded", "selection", o.Selection().String(), "application", o.App(), "why", why)
}

// paused says why nothing is recorded now.
func (r *Recorder) paused() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forever || time.Now().Before(r.pause) {
		return "recording is paused"
	}
	if r.skip {
		r.skip = false
		return "it was to be skipped"
	}
	return ""
}

// Pause stops recording for a while; 0: until Resume.
func (r *Recorder) Pause(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pause, r.forever = time.Now().Add(d), d == 0
}

// Resume records again.
func (r *Recorder) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pause, r.forever, r.skip = time.Time{}, false, false
}

// Skip does not record the next copy.
func (r *Recorder) Skip() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skip = true
}

// Paused says until when recording is paused, and whether it is so until Resume.
func (r *Recorder) Paused() (until time.Time, forever bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().After(r.pause) && !r.forever {
		return time.Time{}, false
	}
	return r.pause, r.forever
}

// Counts are figures since the start.
func (r *Recorder) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counts
	c.Refused = map[string]int{}
	maps.Copy(c.Refused, r.counts.Refused)
	return c
}

// Give puts an item into a selection, and moves it up. plain gives its text alone.
func (r *Recorder) Give(s clip.Selection, id clip.ID, plain bool) (clip.Summary, error) {
	item, err := r.config.History.Get(id)
	if err != nil {
		return clip.Summary{}, err
	}
	contents := item.Contents
	if plain {
		text, ok := clip.PlainText(contents)
		if !ok {
			return clip.Summary{}, fmt.Errorf("item %d has no text", id)
		}
		contents = []clip.Content{{Type: "text/plain;charset=utf-8", Data: []byte(text)}}
	}
	if err := r.config.Display.Offer(s, contents); err != nil {
		return clip.Summary{}, err
	}
	item.Used, item.Count, item.Mark = time.Time{}, 0, clip.Mark{}
	summary, _, err := r.config.History.Add(item)
	if err != nil {
		return clip.Summary{}, err
	}
	item.Contents, item.Summary = contents, summary
	r.setLive(s, &item)
	return summary, nil
}

// Mirror offers what the clipboard has, as far as this history knows it, in the primary selection, too.
func (r *Recorder) Mirror() error {
	r.mu.Lock()
	item, ok := r.live[clip.Clipboard]
	r.mu.Unlock()
	if !ok {
		return fmt.Errorf("what the clipboard has is %w", clip.ErrNotFound)
	}
	if err := r.config.Display.Offer(clip.Primary, item.Contents); err != nil {
		return err
	}
	r.setLive(clip.Primary, &item)
	return nil
}

// Copy keeps contents that did not come from the display, and puts them into a selection.
func (r *Recorder) Copy(s clip.Selection, item clip.Item) (clip.Summary, error) {
	summary, _, err := r.config.History.Add(item)
	if err != nil {
		return clip.Summary{}, err
	}
	return r.Give(s, summary.ID, false)
}

// Import keeps an item of another history, unless this one has it, or the rules say that it is not to be kept, and why.
func (r *Recorder) Import(item clip.Item) (s clip.Summary, fresh bool, why policy.Refusal, err error) {
	var types []string
	for _, c := range item.Contents {
		types = append(types, c.Type)
	}
	types, _, why = r.config.Rules.Begin(item.App, types)
	if why != "" {
		return s, false, why, nil
	}
	item.Contents = slices.DeleteFunc(item.Contents, func(c clip.Content) bool { return !slices.Contains(types, c.Type) })
	if why = r.config.Rules.End(item.Contents); why != "" {
		return s, false, why, nil
	}
	s, fresh, err = r.config.History.Import(item)
	return s, fresh, "", err
}

// Lock locks the history, and forgets what was copied. What this process offers to others stays in the clipboard.
func (r *Recorder) Lock() error {
	if err := r.config.History.Lock(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.live)
	return nil
}

// Delete deletes items, also from the live selections.
func (r *Recorder) Delete(ids ...clip.ID) (int, error) {
	n, err := r.config.History.Delete(ids...)
	return n, errors.Join(err, r.withdraw(ids))
}

// withdraw takes items out of the selections that this process owns.
func (r *Recorder) withdraw(ids []clip.ID) error {
	r.mu.Lock()
	var gone []clip.Selection
	for s, item := range r.live {
		if slices.Contains(ids, item.ID) {
			gone = append(gone, s)
			delete(r.live, s)
		}
	}
	r.mu.Unlock()
	var errs []error
	for _, s := range gone {
		errs = append(errs, r.config.Display.Clear(s))
	}
	return errors.Join(errs...)
}

// Watch tells of each item that is recorded, until the returned function is called. Who does not read misses some.
func (r *Recorder) Watch() (<-chan clip.Summary, func()) {
	w := make(chan clip.Summary, 64)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers[w] = true
	return w, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, w)
	}
}

// Searched notes that somebody searches, so that what searches need stays in memory for a while.
func (r *Recorder) Searched() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.searched, r.worked = time.Now(), true
}

// Marked looks again when the next item expires.
func (r *Recorder) Marked() {
	select {
	case r.marked <- struct{}{}:
	default:
	}
}

func (r *Recorder) tidyAlways(ctx context.Context) {
	timer := time.NewTimer(tidyEvery)
	defer timer.Stop()
	for {
		timer.Reset(r.untilTidy())
		select {
		case <-ctx.Done():
			return
		case <-r.marked:
			continue
		case now := <-timer.C:
			err := r.tidy(now)
			if err != nil {
				r.config.Logger.ErrorContext(ctx, "cannot tidy the history", "error", err)
			}
			r.mu.Lock()
			r.failed = err != nil
			r.mu.Unlock()
			r.rest(now)
		}
	}
}

// untilTidy is how long there is nothing to tidy.
func (r *Recorder) untilTidy() time.Duration {
	next := r.config.History.Expires()
	r.mu.Lock()
	defer r.mu.Unlock()
	if next.IsZero() || r.failed {
		return tidyEvery
	}
	return max(0, min(time.Until(next), tidyEvery))
}

// rest gives memory back that was used, if nothing is to be done.
func (r *Recorder) rest(now time.Time) {
	r.mu.Lock()
	rest := r.worked && now.Sub(r.searched) > tidyEvery
	r.worked = r.worked && !rest
	r.mu.Unlock()
	if !rest {
		return
	}
	r.config.History.Rest()
	debug.FreeOSMemory() // a recorder waits for most of its life
	if r.config.Rested != nil {
		r.config.Rested()
	}
}

// tidy deletes what is over the limits or has expired, and makes the log smaller if most of it is of no use.
func (r *Recorder) tidy(now time.Time) error {
	gone, err := r.config.History.Enforce(r.config.Limits, now)
	err = errors.Join(err, r.withdraw(gone))
	if err == nil && r.config.History.Wasteful() {
		err = r.config.History.Compact()
	}
	return err
}
