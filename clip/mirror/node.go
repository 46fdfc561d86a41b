package mirror

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"orrery/clip"
	"orrery/clip/history"
	"orrery/clip/pair"
	"orrery/clip/policy"
	"orrery/clip/replica"
)

// Group is what paired machines announce.
const Group = "orrery-clip"

// Recorder is what a Node needs of the recorder.
type Recorder interface {
	// Expect says why the settings exclude an item of another machine with these types, or "".
	Expect(app string, types []string) policy.Refusal
	// Accept says so of an item that is here.
	Accept(item clip.Item) policy.Refusal
	// Arrived tells those who watch of an item that came from another machine.
	Arrived(s clip.Summary)
	// Marked notes that what is said of items has changed, so that they may expire at another time.
	Marked()
	// Worked notes that contents of items were in memory.
	Worked()
	// Show puts an item that is there into the clipboard.
	Show(id clip.ID) error
	// Withdraw takes items that are deleted out of the clipboard.
	Withdraw(ids []clip.ID) error
}

// Config is what a Node needs.
type Config struct {
	History  *history.History
	Recorder Recorder
	Book     pair.Book
	Name     string      // of this machine
	Listen   string      // host:port; if the port is taken, another one is used
	Find     pair.Finder // nil: machines are dialled where they were met
	// Own is the address that is announced for a port.
	Own    func(port uint16) string
	Rules  Rules
	Limits history.Limits
	// Fresh is how long after a copy it is put into other machines' clipboards; 0: a minute.
	Fresh  time.Duration
	Logger *slog.Logger // nil discards
}

// Counts are figures of a machine since the start.
type Counts struct {
	Sent          int            `json:"sent"`
	Received      int            `json:"received"`
	BytesSent     int64          `json:"bytes_sent"`
	BytesReceived int64          `json:"bytes_received"`
	Refused       map[string]int `json:"refused,omitempty"` // items that were not taken, by reason
}

// Node is this machine among those that are paired.
type Node struct {
	Config
	reload chan struct{}
	wake   chan struct{} // dials what is due

	mu       sync.Mutex
	own      replica.Device
	known    *pair.Known
	listens  uint16
	sessions map[replica.Device]*session
	peers    map[replica.Device]*peer
	inflight map[replica.Key]bool
	partials []*fetch                                         // at most maxPartials
	nobody   map[replica.Key]map[replica.Device]replica.Stamp // who said that an item is gone, and which copy of it
	shown    replica.Stamp
	paused   time.Time // until then; zero: not
	forever  bool
	locked   bool   // the history is
	problem  string // why nothing works
	refusals int    // connections of strangers
	said     time.Time
}

const (
	maxPartials = 2
	partialLife = 10 * time.Minute
	maxNobody   = 10_000
)

// peer is what is known of a machine since the start.
type peer struct {
	counts    Counts
	sightings []string // addresses, the last first
	dialling  bool
	due       time.Time
	wait      time.Duration
	err       string
	since     time.Time // of the connection
}

// New makes a node.
func New(c Config) *Node {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Fresh = cmp.Or(c.Fresh, time.Minute)
	return &Node{
		Config: c, reload: make(chan struct{}, 1), wake: make(chan struct{}, 1), known: &pair.Known{}, sessions: map[replica.Device]*session{},
		peers: map[replica.Device]*peer{}, inflight: map[replica.Key]bool{}, nobody: map[replica.Key]map[replica.Device]replica.Stamp{},
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Reload reads the book anew.
func (n *Node) Reload() { poke(n.reload) }

// Now dials all machines that are away, now.
func (n *Node) Now() {
	n.mu.Lock()
	for _, p := range n.peers {
		p.due, p.wait = time.Time{}, 0
	}
	n.mu.Unlock()
	poke(n.wake)
}

// Pause ends all sessions for a time; 0: until Resume.
func (n *Node) Pause(d time.Duration) {
	n.mu.Lock()
	n.paused, n.forever = time.Now().Add(d), d == 0
	for _, s := range n.sessions {
		s.stop(byePaused)
	}
	n.mu.Unlock()
}

// Resume goes on after Pause.
func (n *Node) Resume() {
	n.mu.Lock()
	n.paused, n.forever = time.Time{}, false
	n.mu.Unlock()
	n.Now()
}

// observeLock ends sessions when the history is locked, with what they have of it in memory, and has machines dialled when it is not any more.
func (n *Node) observeLock() {
	locked := n.History.Locked()
	n.mu.Lock()
	before := n.locked
	n.locked = locked
	if locked {
		n.partials = nil
		for _, s := range n.sessions {
			s.stop(byeLocked)
		}
	}
	n.mu.Unlock()
	if before && !locked {
		n.Now()
	}
}

func (n *Node) isPaused() bool { return n.forever || time.Now().Before(n.paused) }

// Run keeps the histories the same until ctx ends. Without a paired machine it waits for Reload.
func (n *Node) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := n.once(ctx)
		if err != nil {
			n.mu.Lock()
			again := n.problem == err.Error()
			n.problem = err.Error()
			n.mu.Unlock()
			if !again && ctx.Err() == nil {
				n.Logger.WarnContext(ctx, "machines are not kept in step; it is tried again", "error", err)
			}
		}
		wait := 2 * time.Second
		if err == nil {
			wait = time.Hour // until there is a machine
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-n.reload:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// once serves while there are machines.
func (n *Node) once(ctx context.Context) error {
	known, err := n.Book.Load()
	if err != nil {
		return err
	}
	n.setKnown(known)
	if !active(known) {
		return nil
	}
	id, err := pair.LoadIdentity(n.Book.Directory)
	if err != nil {
		return err
	}
	if err := n.History.Replicate(id.Device(), n.changed); err != nil {
		return err
	}
	n.mu.Lock()
	n.own, n.problem = id.Device(), ""
	n.mu.Unlock()
	r := &running{Node: n, id: id}
	return r.serve(ctx)
}

func active(k *pair.Known) bool {
	return slices.ContainsFunc(k.Machines, func(m pair.Machine) bool { return !m.Left })
}

// setKnown takes the book in, and ends sessions with machines that are not in it any more.
func (n *Node) setKnown(k *pair.Known) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known = k
	for device, s := range n.sessions {
		if k.Find(s.key) == nil {
			s.stop(byeRemoved)
			delete(n.peers, device)
		}
	}
	for _, m := range k.Machines {
		n.peer(m.Device())
	}
}

// peer is called with the lock held.
func (n *Node) peer(d replica.Device) *peer {
	p := n.peers[d]
	if p == nil {
		p = &peer{}
		n.peers[d] = p
	}
	return p
}

// changed wakes all sessions; the history calls it.
func (n *Node) changed() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sessions {
		s.poke()
	}
	poke(n.wake)
}

func (n *Node) port() uint16 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listens
}

// judge says of a caller's key whether to speak with it.
func (n *Node) judge(key ed25519.PublicKey) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known.Find(key) != nil || n.known.WasRemoved(key) {
		return nil
	}
	n.refusals++
	return errors.New("it is not paired with this one")
}

// admit makes a session that of its machine, or says why not.
func (n *Node) admit(s *session) (reason string) {
	locked := n.History.Locked()
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.known.Find(s.key)
	before := n.sessions[s.device]
	switch {
	case m == nil:
		return byeRemoved
	case n.isPaused():
		return byePaused
	case locked:
		return byeLocked
	case before != nil && before.preferred() && !s.preferred():
		return byeAgain
	}
	if before != nil {
		before.stop(byeAgain)
	}
	n.sessions[s.device] = s
	p := n.peer(s.device)
	p.err, p.since = "", time.Now()
	return ""
}

// leave takes a session out.
func (n *Node) leave(s *session, why error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sessions[s.device] != s {
		return
	}
	delete(n.sessions, s.device)
	if p := n.peers[s.device]; p != nil {
		p.since = time.Time{}
		if why != nil && !errors.Is(why, context.Canceled) {
			p.err = why.Error()
		}
	}
}

// met notes where a machine is reached.
func (n *Node) met(ctx context.Context, s *session, h hello) {
	host, _, err := net.SplitHostPort(s.conn.RemoteAddr().String())
	if err != nil {
		return
	}
	err = n.Book.Note(s.key, func(m *pair.Machine) {
		m.Met, m.Left, m.Port = time.Now().UTC().Truncate(time.Second), false, h.Port
		m.MetAt(net.JoinHostPort(host, strconv.Itoa(int(h.Port))))
	})
	if err != nil {
		n.Logger.WarnContext(ctx, "where a machine was met is not kept", "machine", h.Name, "error", err)
		return
	}
	if known, err := n.Book.Load(); err == nil {
		n.mu.Lock()
		n.known = known
		n.mu.Unlock()
	}
}

// errNotYet says that an item may still come here.
var errNotYet = fmt.Errorf("still to come: %w", clip.ErrNotFound)

// load reads an item that another machine wants. Other errors than errNotYet say that it is not here any more, nor will be unless it is copied again.
func (n *Node) load(k replica.Key, kept replica.Stamp) (clip.Item, replica.Entry, error) {
	seen, err := n.History.Seen() // before the entry is looked up
	if err != nil {
		return clip.Item{}, replica.Entry{}, errNotYet
	}
	known, err := n.History.Entries([]replica.Key{k})
	if err != nil {
		return clip.Item{}, replica.Entry{}, errNotYet
	}
	if len(known) == 0 || !known[0].Entry.Live() || !n.Rules.Send || !n.Rules.allows(&known[0].Entry) {
		if seen.Covers(kept) {
			return clip.Item{}, replica.Entry{}, clip.ErrNotFound
		}
		return clip.Item{}, replica.Entry{}, errNotYet
	}
	id, ok := n.History.Find(k)
	if !ok {
		return clip.Item{}, replica.Entry{}, errNotYet
	}
	item, err := n.History.Get(id)
	if err != nil {
		n.Logger.Warn("cannot read an item that another machine wants", "item", id, "error", err)
	}
	return item, known[0].Entry, err
}

// refuses says why an item is not taken, before its contents are.
func (n *Node) refuses(h *head) string {
	var contents []clip.Content
	var types []string
	for _, c := range h.Contents {
		contents, types = append(contents, clip.Content{Type: c.Type}), append(types, c.Type)
	}
	if !n.Rules.fits(clip.KindOf(contents), h.size()) {
		return string(policy.TooLarge)
	}
	return string(n.Recorder.Expect(h.App, types))
}

// claim says whether this session may get an item: no other does.
func (n *Node) claim(k replica.Key) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inflight[k] {
		return false
	}
	n.inflight[k] = true
	return true
}

func (n *Node) release(k replica.Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.inflight, k)
}

// partial is what is here of an item that was interrupted.
func (n *Node) partial(k replica.Key) *fetch {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(n.partials, func(p *fetch) bool { return p.key == k })
	if i < 0 {
		return nil
	}
	p := n.partials[i]
	n.partials = slices.Delete(n.partials, i, i+1)
	return p
}

func (n *Node) keepPartial(g *fetch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	g.at = time.Now()
	n.partials = append(n.partials, g)
	n.partials = slices.Delete(n.partials, 0, max(0, len(n.partials)-maxPartials))
}

// dropPartials lets go of what nobody has gone on with. It is called with the lock held.
func (n *Node) dropPartials(now time.Time) {
	n.partials = slices.DeleteFunc(n.partials, func(p *fetch) bool { return now.Sub(p.at) > partialLife })
}

// nobodyHas notes that a machine has heard of a copy of an item and does not have it any more, and says whether that is so of all machines.
func (n *Node) nobodyHas(k replica.Key, kept replica.Stamp, d replica.Device) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.nobody) > maxNobody {
		clear(n.nobody)
	}
	if n.nobody[k] == nil {
		n.nobody[k] = map[replica.Device]replica.Stamp{}
	}
	n.nobody[k][d] = kept
	for _, m := range n.known.Machines {
		if !m.Left && n.nobody[k][m.Device()] != kept {
			return false
		}
	}
	delete(n.nobody, k)
	return true
}

// show puts an item into the clipboard, unless something was copied later, here or elsewhere.
func (n *Node) show(k replica.Key) error {
	known, err := n.History.Entries([]replica.Key{k})
	if err != nil || len(known) == 0 {
		return err
	}
	last := known[0].Entry.Last()
	id, ok := n.History.Find(k)
	if !ok || n.History.Newest() != last {
		return nil
	}
	n.mu.Lock()
	done := last.By == n.own || !last.After(n.shown)
	n.shown = last
	n.mu.Unlock()
	if done {
		return nil
	}
	return n.Recorder.Show(id)
}

func (n *Node) count(d replica.Device, change func(*Counts)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.peer(d).counts)
}

func (n *Node) refused(d replica.Device, why string) {
	n.count(d, func(c *Counts) {
		c.Refused = maps.Clone(c.Refused)
		if c.Refused == nil {
			c.Refused = map[string]int{}
		}
		c.Refused[why]++
	})
}
