package mirror_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orrery/clip"
	"orrery/clip/cliptest"
	"orrery/clip/history"
	"orrery/clip/mirror"
	"orrery/clip/pair"
	"orrery/clip/policy"
	"orrery/clip/recorder"
	"orrery/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is a recorder and its node.
type machine struct {
	t    *testing.T
	name string
	dir  string
	id   *pair.Identity
	book pair.Book
	set  settings

	display *cliptest.Display
	history *history.History
	*recorder.Recorder
	node *mirror.Node
	log  journal
	stop func()
}

type settings struct {
	rules  mirror.Rules
	policy policy.Rules
	limits history.Limits
	dir    string
	secret []history.Secret
	find   pair.Finder
	own    func(port uint16) string
}

func everything() mirror.Rules {
	most := map[clip.Kind]int64{}
	for k := clip.Text; k <= clip.Other; k++ {
		most[k] = 16 << 20
	}
	return mirror.Rules{Send: true, Receive: true, Live: true, Max: most}
}

// boot makes a machine, and starts it.
func boot(t *testing.T, name string, change func(*settings)) *machine {
	t.Helper()
	m := &machine{t: t, name: name, set: settings{rules: everything(), dir: t.TempDir()}}
	if change != nil {
		change(&m.set)
	}
	m.dir = m.set.dir
	m.book = pair.Book{Directory: filepath.Join(m.dir, "sync")}
	var err error
	if m.id, err = pair.MakeIdentity(m.book.Directory); err != nil {
		t.Fatal(err)
	}
	m.start()
	return m
}

func (m *machine) start() {
	m.t.Helper()
	var err error
	if m.history, err = history.Open(history.Config{Directory: m.dir, Create: m.set.secret, Secrets: m.set.secret}); err != nil {
		m.t.Fatal(err)
	}
	m.display = cliptest.New()
	m.Recorder = recorder.New(recorder.Config{Display: m.display, History: m.history, Rules: m.set.policy, Limits: m.set.limits})
	m.node = mirror.New(mirror.Config{
		History: m.history, Recorder: m.Recorder, Book: m.book, Name: m.name, Listen: "127.0.0.1:0", Rules: m.set.rules, Limits: m.set.limits, Find: m.set.find, Own: m.set.own, Fresh: time.Hour,
		Logger: slog.New(slog.NewTextHandler(&m.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	ctx, stop := context.WithCancel(m.t.Context())
	done := make(chan error, 2)
	go func() { done <- m.Run(ctx) }()
	go func() { done <- m.node.Run(ctx) }()
	m.stop = func() {
		stop()
		for range 2 {
			if err := <-done; err != nil {
				m.t.Error(err)
			}
		}
		if err := m.history.Close(); err != nil {
			m.t.Error(err)
		}
		m.stop = func() {}
	}
	m.t.Cleanup(func() { m.stop() })
	m.t.Cleanup(func() {
		if m.t.Failed() {
			m.t.Logf("%s: %+v, has %q, wants %v\n%s", m.name, m.node.Status(), m.previews(), m.history.Wanted(10), m.log.String())
		}
	})
}

// journal keeps what a node logs.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write is io.Writer's.
func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

// String is what was logged.
func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// join pairs machines with each other, as clip pair does.
func join(t *testing.T, machines ...*machine) {
	t.Helper()
	for _, a := range machines {
		for _, b := range machines {
			if a == b {
				continue
			}
			if _, err := a.book.Add(pair.Machine{Name: b.name, Key: b.id.Public(), Paired: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		a.node.Reload()
	}
	for _, a := range machines {
		a.port()
	}
	for i, a := range machines {
		for _, b := range machines[i+1:] {
			a.meets(b)
		}
	}
}

// port is where the machine listens.
func (m *machine) port() uint16 {
	m.t.Helper()
	testenv.Eventually(m.t, m.name+" listens", func() bool { return m.node.Status().Port != 0 })
	return m.node.Status().Port
}

// meets tells a machine where another is, as discovery would.
func (m *machine) meets(o *machine) {
	m.t.Helper()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(o.port())))
	if err := m.book.Note(o.id.Public(), func(p *pair.Machine) { p.MetAt(address) }); err != nil {
		m.t.Fatal(err)
	}
	m.node.Reload()
	m.node.Now()
}

func (m *machine) state(o *machine) mirror.Peer {
	for _, p := range m.node.Status().Machines {
		if p.Device == o.id.Device().String() {
			return p
		}
	}
	return mirror.Peer{}
}

// copies has a program copy, in a later millisecond than all copies before, so that there is one order.
func (m *machine) copies(contents ...clip.Content) {
	for begin := time.Now().UnixMilli(); time.Now().UnixMilli() == begin; {
		runtime.Gosched()
	}
	m.display.Copy(clip.Clipboard, cliptest.App{Name: "editor"}, contents...)
}

// previews are those of the machine, the last first.
func (m *machine) previews() (all []string) {
	for s := range m.history.All() {
		all = append(all, s.Preview)
	}
	return all
}

func (m *machine) has(want ...string) {
	m.t.Helper()
	testenv.Eventually(m.t, fmt.Sprintf("%s has %q", m.name, want), func() bool { return slices.Equal(m.previews(), want) })
}

// named is the item with a preview.
func (m *machine) named(preview string) clip.Summary {
	m.t.Helper()
	for s := range m.history.All() {
		if s.Preview == preview {
			return s
		}
	}
	m.t.Fatalf("%s has no %q: %q", m.name, preview, m.previews())
	return clip.Summary{}
}

// shows waits until the clipboard has a text.
func (m *machine) shows(text string) {
	m.t.Helper()
	testenv.Eventually(m.t, fmt.Sprintf("%s has %q in its clipboard", m.name, text), func() bool {
		contents, own := m.display.Has(clip.Clipboard)
		return own && len(contents) > 0 && string(contents[0].Data) == text
	})
}

func text(s string) clip.Content {
	return clip.Content{Type: "text/plain;charset=utf-8", Data: []byte(s)}
}

// TestTwo: what was there before goes over both ways, a new copy goes into the other clipboard, and marks and deletions follow.
func TestTwo(t *testing.T) {
	t.Parallel()
	a, b := boot(t, "attic", nil), boot(t, "bureau", nil)
	a.copies(text("one"))
	a.has("one")
	b.copies(text("two"))
	b.has("two")
	join(t, a, b)
	a.has("two", "one")
	b.has("two", "one")
	a.copies(text("three"))
	b.has("three", "two", "one")
	b.shows("three")
	b.copies(text("four"), clip.Content{Type: "text/html", Data: []byte("<b>four</b>")})
	a.has("four", "three", "two", "one")
	a.shows("four")
	if item, err := a.history.Get(a.named("four").ID); err != nil || item.App != "editor" || len(item.Contents) != 2 || item.Kind != clip.HTML {
		t.Errorf("%+v, %v", item, err)
	}
	a.copies(text("one"))
	b.has("one", "four", "three", "two")
	testenv.Eventually(t, "count", func() bool { return b.named("one").Count == 2 })
	if _, err := a.history.Mark(a.named("two").ID, func(m *clip.Mark) { m.Pinned, m.Tags = true, append(m.Tags, "x") }); err != nil {
		t.Fatal(err)
	}
	if _, err := b.history.Mark(b.named("two").ID, func(m *clip.Mark) { m.Note, m.Tags = "why", append(m.Tags, "y") }); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*machine{a, b} {
		testenv.Eventually(t, "marks", func() bool {
			s := m.named("two")
			return s.Pinned && s.Note == "why" && slices.Equal(s.Tags, []string{"x", "y"})
		})
	}
	if _, err := b.Delete(b.named("one").ID); err != nil {
		t.Fatal(err)
	}
	a.has("four", "three", "two")
	if s := a.state(b); s.State != mirror.Connected || s.Sent == 0 || s.Received == 0 || s.Name != "bureau" {
		t.Errorf("%+v", s)
	}
}

// TestLiveDeletion: what is deleted on one machine leaves the clipboard of another that offers it.
func TestLiveDeletion(t *testing.T) {
	t.Parallel()
	a, b := boot(t, "attic", nil), boot(t, "bureau", nil)
	join(t, a, b)
	a.copies(text("password"))
	b.shows("password")
	if _, err := a.Delete(a.named("password").ID); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "an empty clipboard", func() bool {
		_, own := b.display.Has(clip.Clipboard)
		return !own
	})
	b.has()
}

// TestAway: a machine that was away hears of all, and what it did meanwhile counts; what was deleted does not come back.
func TestAway(t *testing.T) {
	t.Parallel()
	a, b, c := boot(t, "attic", nil), boot(t, "bureau", nil), boot(t, "cellar", nil)
	join(t, a, b, c)
	for i := range 5 {
		a.copies(text(fmt.Sprint("item ", i)))
		c.has(a.until(i)...)
	}
	b.has(a.until(4)...)
	c.stop()
	if _, err := a.Delete(a.named("item 1").ID, a.named("item 2").ID); err != nil {
		t.Fatal(err)
	}
	b.has("item 4", "item 3", "item 0")
	a.stop()
	b.shows("item 4") // or it could replace what is copied next
	b.copies(text("meanwhile"))
	b.has("meanwhile", "item 4", "item 3", "item 0")
	// Those who deleted are away when the other one comes back.
	c.start()
	c.node.Now()
	b.meets(c)
	c.has("meanwhile", "item 4", "item 3", "item 0")
	c.shows("meanwhile")
	c.copies(text("item 1"))
	b.has("item 1", "meanwhile", "item 4", "item 3", "item 0")
	a.start()
	b.meets(a)
	c.meets(a)
	a.has("item 1", "meanwhile", "item 4", "item 3", "item 0")
}

// until are the previews of items up to one.
func (m *machine) until(last int) (all []string) {
	for i := last; i >= 0; i-- {
		all = append(all, fmt.Sprint("item ", i))
	}
	return all
}

// TestLargeImage: a picture of 5 MB is the same on the other machine, together with its other types.
func TestLargeImage(t *testing.T) {
	t.Parallel()
	a, b := boot(t, "attic", nil), boot(t, "bureau", nil)
	join(t, a, b)
	picture := make([]byte, 5_079_495)
	if _, err := rand.Read(picture); err != nil {
		t.Fatal(err)
	}
	a.copies(clip.Content{Type: "image/png", Data: picture}, clip.Content{Type: "text/html", Data: []byte("<img>")})
	b.has("image/png")
	item, err := b.history.Get(b.named("image/png").ID)
	if err != nil || len(item.Contents) != 2 || !bytes.Equal(item.Contents[0].Data, picture) {
		t.Fatalf("%d types, %v", len(item.Contents), err)
	}
	testenv.Eventually(t, "the clipboard", func() bool {
		contents, own := b.display.Has(clip.Clipboard)
		return own && len(contents) == 2 && bytes.Equal(contents[0].Data, picture)
	})
}

// TestRules: kinds and sizes that do not go over stay, types that are excluded on the other side are not taken, and nor is what matches its expressions.
func TestRules(t *testing.T) {
	t.Parallel()
	a := boot(t, "attic", func(s *settings) { delete(s.rules.Max, clip.Files); s.rules.Max[clip.Text] = 100 })
	b := boot(t, "bureau", func(s *settings) { s.policy.Types = []string{"image/*"}; s.rules.Max[clip.HTML] = 20 })
	join(t, a, b)
	for i, contents := range [][]clip.Content{
		{{Type: "text/uri-list", Data: []byte("file:///a")}},
		{text(string(bytes.Repeat([]byte("long "), 30)))},
		{{Type: "image/png", Data: []byte("picture")}},
		{{Type: "text/html", Data: []byte("<b>longer than it may be</b>")}, text("bold")},
		{text("goes over")},
	} {
		a.copies(contents...)
		testenv.Eventually(t, "record", func() bool { return len(a.previews()) == i+1 })
	}
	b.has("goes over")
	testenv.Eventually(t, "nothing is missing", func() bool { return b.node.Status().Missing == 0 && b.state(a).Refused[string(policy.Nothing)] == 1 })
	b.shows("goes over") // or it could replace what is copied next
	b.copies(clip.Content{Type: "text/uri-list", Data: []byte("file:///b")})
	b.has("file:///b", "goes over")
	b.copies(text("back"))
	b.has("back", "file:///b", "goes over")
	testenv.Eventually(t, "back", func() bool { return a.previews()[0] == "back" })
	if slices.Contains(a.previews(), "file:///b") {
		t.Error("a kind that is not wanted was taken")
	}
}

// TestDirection: a machine that only receives sends nothing, and one that only sends takes nothing.
func TestDirection(t *testing.T) {
	t.Parallel()
	a := boot(t, "attic", func(s *settings) { s.rules.Receive = false })
	b := boot(t, "bureau", func(s *settings) { s.rules.Live = false })
	c := boot(t, "cellar", func(s *settings) { s.rules.Send = false })
	join(t, a, b, c)
	c.copies(text("stays"))
	c.has("stays")
	b.copies(text("from b"))
	c.has("from b", "stays")
	a.copies(text("from a"))
	b.has("from a", "from b")
	c.has("from a", "from b", "stays")
	c.shows("from a")
	a.has("from a")
	if contents, own := b.display.Has(clip.Clipboard); own {
		t.Errorf("%v is in the clipboard", contents)
	}
}

// TestRemoved: who is removed is told, also later, and connects no more.
func TestRemoved(t *testing.T) {
	t.Parallel()
	a, b, c := boot(t, "attic", nil), boot(t, "bureau", nil), boot(t, "cellar", nil)
	join(t, a, b, c)
	for _, m := range []*machine{b, c} {
		testenv.Eventually(t, "connection", func() bool { return a.state(m).State == mirror.Connected })
	}
	if err := a.book.Remove("bureau"); err != nil {
		t.Fatal(err)
	}
	a.node.Reload()
	testenv.Eventually(t, "b notices", func() bool { return b.state(a).State == mirror.Left })
	c.stop()
	if err := b.book.Remove("cellar"); err != nil {
		t.Fatal(err)
	}
	b.node.Reload()
	if err := c.book.Note(b.id.Public(), func(m *pair.Machine) { m.Addresses = nil }); err != nil {
		t.Fatal(err)
	}
	a.copies(text("not for b"))
	a.has("not for b")
	c.start()
	a.meets(c)
	c.has("not for b")
	b.has()
	// Paired again, it gets all.
	join(t, a, b)
	b.has("not for b")
}

// TestPause: nothing goes over while it is paused, on either side.
func TestPause(t *testing.T) {
	t.Parallel()
	a, b := boot(t, "attic", nil), boot(t, "bureau", nil)
	join(t, a, b)
	a.copies(text("one"))
	b.has("one")
	b.node.Pause(0)
	testenv.Eventually(t, "the end", func() bool { return a.state(b).State == mirror.Away && b.state(a).State == mirror.Away })
	a.copies(text("two"))
	a.has("two", "one")
	a.node.Now()
	testenv.Eventually(t, "a try", func() bool { return a.state(b).Why != "" })
	b.has("one")
	b.node.Resume()
	b.has("two", "one")
}

// TestWithinLimits: a machine that keeps less does not fetch more, and those who keep more lose nothing.
func TestWithinLimits(t *testing.T) {
	t.Parallel()
	a := boot(t, "attic", nil)
	b := boot(t, "bureau", func(s *settings) { s.limits = history.Limits{Items: 3} })
	for i := range 8 {
		a.copies(text(fmt.Sprint("item ", i)))
		a.has(a.until(i)...)
	}
	join(t, a, b)
	b.has("item 7", "item 6", "item 5")
	testenv.Eventually(t, "nothing is missing", func() bool { return b.node.Status().Missing == 0 })
	b.shows("item 7")
	b.copies(text("new"))
	b.has("new", "item 7", "item 6")
	a.has(append([]string{"new"}, a.until(7)...)...)
	if s := b.state(a); s.Received != 3 {
		t.Errorf("%d items were fetched", s.Received)
	}
}

// TestNothingListens: without a machine there is no port, and afterwards none either.
func TestNothingListens(t *testing.T) {
	t.Parallel()
	a, b := boot(t, "attic", nil), boot(t, "bureau", nil)
	if a.node.Status().Port != 0 || a.history.Replicated() {
		t.Error("it listens")
	}
	join(t, a, b)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(a.port())))
	if err := a.book.Remove("bureau"); err != nil {
		t.Fatal(err)
	}
	a.node.Reload()
	testenv.Eventually(t, "no listener", func() bool {
		d := net.Dialer{}
		c, err := d.DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err != nil && a.node.Status().Port == 0
	})
}

// TestFound: machines that hear of each other connect, and one that is at another address is announced anew.
func TestFound(t *testing.T) {
	t.Parallel()
	air := make(chan pair.Sighting, 16)
	var host atomic.Value
	host.Store("127.0.0.2")
	a := boot(t, "attic", func(s *settings) {
		s.own = func(port uint16) string { return net.JoinHostPort(host.Load().(string), strconv.Itoa(int(port))) }
		s.find = func(ctx context.Context, group string, own pair.Sighting, _ func(pair.Sighting)) error {
			if group != mirror.Group {
				t.Errorf("it is announced in %s", group)
			}
			air <- own
			<-ctx.Done()
			return nil
		}
	})
	b := boot(t, "bureau", func(s *settings) {
		s.own = func(uint16) string { return "127.0.0.1:1" }
		s.find = func(ctx context.Context, _ string, _ pair.Sighting, found func(pair.Sighting)) error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case s := <-air:
					found(s)
				}
			}
		}
	})
	for _, m := range [][2]*machine{{a, b}, {b, a}} {
		if _, err := m[0].book.Add(pair.Machine{Name: m[1].name, Key: m[1].id.Public()}); err != nil {
			t.Fatal(err)
		}
		m[0].node.Reload()
	}
	testenv.Eventually(t, "a try at the wrong address", func() bool { return strings.Contains(b.state(a).Why, "127.0.0.2") })
	host.Store("127.0.0.1")
	a.copies(text("found"))
	b.has("found")
}

// TestLocked: with a locked history all waits; what was copied elsewhere meanwhile comes when it is unlocked.
func TestLocked(t *testing.T) {
	t.Parallel()
	secret := []history.Secret{{Kind: "file", Text: []byte("a long key from a file")}}
	a := boot(t, "attic", nil)
	b := boot(t, "bureau", func(s *settings) { s.secret = secret })
	join(t, a, b)
	a.copies(text("before"))
	b.has("before")
	if err := b.Lock(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the end of the connection", func() bool { return a.state(b).State == mirror.Away && b.node.Status().Locked })
	a.copies(text("meanwhile"))
	a.has("meanwhile", "before")
	a.node.Now()
	testenv.Eventually(t, "a refusal", func() bool { return strings.Contains(a.state(b).Why, "locked") })
	if err := b.history.Unlock(secret); err != nil {
		t.Fatal(err)
	}
	b.has("meanwhile", "before")
	if err := filepath.WalkDir(b.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte("meanwhile")) {
			t.Errorf("%s has it in the clear", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
