// Package presence knows who is there (clause client-server API, presence): who makes requests for what is new, who did something lately, and what they say of
// themselves. It is in memory only, and tells of changes, not of every sign of life.
package presence

import (
	"sync"
	"time"
)

// States.
const (
	Online      = "online"
	Unavailable = "unavailable"
	Offline     = "offline"
)

// When somebody counts as idle who does nothing, as gone who does not ask for what is new, and as active at this very moment.
const (
	idle   = 5 * time.Minute
	gone   = 30 * time.Second
	active = time.Minute
)

// State is what is told of somebody.
type State struct {
	Is     string
	Status string    // what they say
	Active time.Time // when they did something last; zero if that is not known
}

// Now says whether somebody is active at this very moment.
func (s State) Now(now time.Time) bool { return s.Is == Online && now.Sub(s.Active) < active }

// person is what is known of somebody.
type person struct {
	told   State
	wanted string    // what a client set last
	asked  time.Time // when they last stopped asking for what is new
	asking int       // requests for what is new that are under way
	timer  *time.Timer
}

// is is what a person is now, and when that may change by itself; zero: it will not.
func (p *person) is(now time.Time) (string, time.Duration) {
	left := time.Duration(0)
	if p.asking == 0 {
		if left = gone - now.Sub(p.asked); left <= 0 {
			return Offline, 0
		}
	}
	switch p.wanted {
	case Offline:
		return Offline, 0
	case Unavailable:
		return Unavailable, left
	}
	until := idle - now.Sub(p.told.Active)
	if until <= 0 {
		return Unavailable, left
	}
	if left == 0 || until < left {
		left = until
	}
	return Online, left
}

// Tracker keeps what is known. Changes are told to a function, which is not called once Close has returned.
type Tracker struct {
	now  func() time.Time
	tell func(user string, s State)

	mu      sync.Mutex
	people  map[string]*person
	closed  bool
	telling sync.WaitGroup
}

// New is a tracker. What is told is not in order if it happens at the same time: Get knows the newest.
func New(now func() time.Time, tell func(user string, s State)) *Tracker {
	return &Tracker{now: now, tell: tell, people: map[string]*person{}}
}

// Close ends it.
func (t *Tracker) Close() {
	t.mu.Lock()
	t.closed = true
	for _, p := range t.people {
		if p.timer != nil {
			p.timer.Stop()
		}
	}
	t.mu.Unlock()
	t.telling.Wait()
}

// Get is what is known of somebody, and whether anything is.
func (t *Tracker) Get(user string) (State, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.people[user]
	if p == nil {
		return State{Is: Offline}, false
	}
	return p.told, true
}

// Know says what somebody of whom nothing is known said of themselves before.
func (t *Tracker) Know(user, status string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.people[user] == nil && !t.closed {
		t.people[user] = &person{told: State{Is: Offline, Status: status}}
	}
}

// Ask notes that somebody asks for what is new, until the function that it returns is called; state is what their client sets, Offline if the request shall not
// count.
func (t *Tracker) Ask(user, state string) (done func()) {
	if state == Offline {
		return func() {}
	}
	t.change(user, func(p *person) {
		p.asking++
		if state == Online && p.wanted != Online {
			p.told.Active = t.now()
		}
		p.wanted = state
	})
	return func() {
		t.change(user, func(p *person) { p.asking, p.asked = p.asking-1, t.now() })
	}
}

// Act notes that somebody did something.
func (t *Tracker) Act(user string) {
	t.change(user, func(p *person) {
		p.told.Active = t.now()
		if p.asked.IsZero() {
			p.asked = p.told.Active
		}
		if p.wanted != Offline {
			p.wanted = Online
		}
	})
}

// Set sets what somebody is and says.
func (t *Tracker) Set(user, state, status string) {
	t.change(user, func(p *person) {
		p.wanted, p.told.Status, p.asked = state, status, t.now()
		if state == Online {
			p.told.Active = p.asked
		}
	})
}

func (t *Tracker) change(user string, with func(*person)) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	p := t.people[user]
	if p == nil {
		p = &person{told: State{Is: Offline}}
		t.people[user] = p
	}
	before := p.told
	with(p)
	state, left := p.is(t.now())
	p.told.Is = state
	switch {
	case left == 0 && p.timer != nil:
		p.timer.Stop()
		p.timer = nil
	case left > 0 && p.timer != nil:
		p.timer.Reset(left)
	case left > 0:
		p.timer = time.AfterFunc(left, func() { t.change(user, func(*person) {}) })
	}
	told := p.told
	news := told.Is != before.Is || told.Status != before.Status
	if news {
		t.telling.Add(1)
	}
	t.mu.Unlock()
	if news {
		defer t.telling.Done()
		t.tell(user, told)
	}
}
