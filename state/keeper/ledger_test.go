package keeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"orrery/state"
)

// ledger is a module with every ability, whose components are maps that it remembers.
type ledger struct {
	mu      sync.Mutex
	books   map[string]map[string]string // by component
	locked  map[string]int
	veto    string // the component that refuses to be locked
	clients int
	whole   bool // a migration that fails leaves nothing
	loose   bool // snapshots of one state differ
	writes  int
	damaged bool
	shut    map[string]bool // what is not active
	exposed bool            // something was restored while clients could reach it
	fails   string          // what fails: an operation and a component, as in seen
	seen    []string        // what was done, in order
}

var (
	_ state.Locker       = (*ledger)(nil)
	_ state.Migrator     = (*ledger)(nil)
	_ state.PartRestorer = (*ledger)(nil)
	_ state.Itemizer     = (*ledger)(nil)
	_ state.Clients      = (*ledger)(nil)
	_ state.Integrity    = (*ledger)(nil)
	_ state.Versioner    = (*ledger)(nil)
)

func newLedger() *ledger {
	return &ledger{books: map[string]map[string]string{}, locked: map[string]int{}, shut: map[string]bool{}}
}

func (l *ledger) Describe() state.Description {
	return state.Description{Name: "ledger", Doc: "A map.", Stateful: true}
}

func (l *ledger) Check(c state.Component) error {
	var known struct{ N int }
	return c.Properties.Decode(&known)
}

func (l *ledger) Activate(_ context.Context, t state.Target) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.books[t.Component.Name] == nil {
		l.books[t.Component.Name] = map[string]string{}
	}
	delete(l.shut, t.Component.Name)
	return nil
}

func (l *ledger) Deactivate(_ context.Context, t state.Target) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut[t.Component.Name] = true
	return nil
}

func (l *ledger) put(name, key, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books[name][key] = value
}

func (l *ledger) get(name, key string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.books[name][key]
}

func (l *ledger) do(what string, t state.Target) {
	l.seen = append(l.seen, what+" "+t.Component.Name)
}

func (l *ledger) failing(what string, t state.Target) error {
	if l.fails == what+" "+t.Component.Name {
		return errProbe
	}
	return nil
}

func (l *ledger) Snapshot(_ context.Context, t state.Target, w io.Writer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.do("snapshot", t)
	if err := l.failing("snapshot", t); err != nil {
		return err
	}
	var b strings.Builder
	if l.loose {
		l.writes++
		fmt.Fprintf(&b, "# %d\n", l.writes)
	}
	book := l.books[t.Component.Name]
	for _, key := range slices.Sorted(maps.Keys(book)) {
		fmt.Fprintf(&b, "%s=%s\n", key, book[key])
	}
	b.WriteString("end\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func read(r io.Reader) (map[string]string, error) {
	book, lines := map[string]string{}, bufio.NewScanner(r)
	ended := false
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), "=")
		switch {
		case ok:
			book[key] = value
		case key == "end":
			ended = true
		}
	}
	if !ended {
		return nil, errors.Join(lines.Err(), state.ErrCorrupt)
	}
	return book, lines.Err()
}

func (l *ledger) Restore(_ context.Context, t state.Target, r io.Reader) error {
	book, err := read(r)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.do("restore", t)
	l.exposed = !l.shut[t.Component.Name]
	if err := l.failing("restore", t); err != nil {
		return err
	}
	if l.damaged {
		book["damaged"] = "yes"
	}
	l.books[t.Component.Name] = book
	return nil
}

func (l *ledger) CollectGarbage(_ context.Context, t state.Target) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.books, t.Component.Name)
	return nil
}

func (l *ledger) Lock(_ context.Context, t state.Target) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.veto == t.Component.Name {
		return fmt.Errorf("%w: it is busy", state.ErrVeto)
	}
	l.do("lock", t)
	l.locked[t.Component.Name]++
	return nil
}

func (l *ledger) Unlock(_ context.Context, t state.Target) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.do("unlock", t)
	if err := l.failing("unlock", t); err != nil {
		return err
	}
	delete(l.locked, t.Component.Name)
	return nil
}

func (l *ledger) Clients(context.Context, state.Target) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clients, nil
}

func (l *ledger) Integrity(_ context.Context, t state.Target) error {
	if l.get(t.Component.Name, "damaged") != "" {
		return state.ErrCorrupt
	}
	return nil
}

func (l *ledger) Version(context.Context, state.Target) (string, error) { return "Ledger 1", nil }

func (l *ledger) Items(_ context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	book, err := read(snapshot)
	if err != nil {
		return err
	}
	for key, value := range book {
		if err := visit(state.Item{Key: []byte(key), Content: []byte(value)}); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) RestorePart(_ context.Context, t state.Target, snapshot io.Reader, part string) error {
	book, err := read(snapshot)
	if err != nil {
		return err
	}
	value, ok := book[part]
	if !ok {
		return state.ErrNotFound
	}
	l.put(t.Component.Name, part, value)
	return nil
}

const migrated = "migrated."

func (l *ledger) Migrated(_ context.Context, t state.Target) ([]state.Migration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []state.Migration
	for key, value := range l.books[t.Component.Name] {
		if number, ok := strings.CutPrefix(key, migrated); ok {
			m := state.Migration{SHA256: value}
			if _, err := fmt.Sscan(number, &m.Number); err != nil {
				return nil, err
			}
			all = append(all, m)
		}
	}
	return all, nil
}

// Migrate carries out lines KEY=VALUE, and leaves a part where one of them is "fail".
func (l *ledger) Migrate(_ context.Context, t state.Target, m state.Migration, script []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.whole && strings.Contains(string(script), "fail") {
		return errProbe
	}
	for line := range strings.SplitSeq(string(script), ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "fail" {
			return errProbe
		}
		l.books[t.Component.Name][key] = value
	}
	l.books[t.Component.Name][migrated+fmt.Sprint(m.Number)] = m.SHA256
	return nil
}

func (l *ledger) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.seen
	l.seen = nil
	return seen
}

func book(name string) state.Component { return state.Component{Name: name, Module: "ledger"} }

func bookRef(name string) state.Ref { return state.Ref{Container: "ledger", Component: name} }

// openLedger returns a keeper of a ledger with active components of these names.
func openLedger(t *testing.T, c Config, names ...string) (machine, *ledger) {
	t.Helper()
	l, store := newLedger(), newStore(t)
	if c.Directory == "" {
		c.Directory = t.TempDir()
	}
	c.Store, c.Modules = store.Store, []state.Module{l}
	k, err := Open(c)
	check(t, err)
	for _, name := range names {
		must(k.Activate(t.Context(), book(name)))(t)
	}
	return machine{k, store}, l
}
