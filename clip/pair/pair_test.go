package pair_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/pair"
)

func anyKey(ed25519.PublicKey) error { return nil }

// side is one machine that pairs.
type side struct {
	id    *pair.Identity
	book  pair.Book
	words chan pair.Greeting
	say   bool
	wait  func(ctx context.Context) // before it says so
}

func newSide(t *testing.T, say bool) *side {
	t.Helper()
	dir := t.TempDir()
	id, err := pair.MakeIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &side{id, pair.Book{Directory: dir}, make(chan pair.Greeting, 8), say, func(context.Context) {}}
}

func (s *side) terms(name string) pair.Terms {
	return pair.Terms{
		Identity: s.id, Name: name, Port: 7,
		Confirm: func(ctx context.Context, g pair.Greeting) (bool, error) {
			s.words <- g
			s.wait(ctx)
			return s.say, ctx.Err()
		},
		Keep: func(m pair.Machine) error {
			_, err := s.book.Add(m)
			return err
		},
	}
}

func (s *side) trusts(t *testing.T) []string {
	t.Helper()
	k, err := s.book.Load()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range k.Machines {
		names = append(names, m.Name)
	}
	return names
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// meet has b wait, and a dial it.
func meet(t *testing.T, a, b *side) (errA, errB error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	l := listen(t)
	done := make(chan error)
	go func() {
		_, err := pair.Meet(ctx, pair.Meeting{Terms: b.terms("bureau"), Listener: l})
		done <- err
	}()
	_, errA = pair.Meet(ctx, pair.Meeting{Terms: a.terms("attic"), Address: l.Addr().String()})
	return errA, <-done
}

func TestPairs(t *testing.T) {
	t.Parallel()
	a, b := newSide(t, true), newSide(t, true)
	if errA, errB := meet(t, a, b); errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	x, y := <-a.words, <-b.words
	if !slices.Equal(x.Words, y.Words) || len(x.Words) != pair.Words || x.Name != "bureau" || y.Name != "attic" || x.Device != b.id.Device() || y.Device != a.id.Device() {
		t.Errorf("%+v and %+v", x, y)
	}
	known, err := a.book.Load()
	if err != nil || len(known.Machines) != 1 || known.Find(b.id.Public()) == nil || !slices.Equal(known.Machines[0].Addresses, []string{"127.0.0.1:7"}) {
		t.Fatalf("%+v, %v", known, err)
	}
	// Again: other words, and still one machine.
	if errA, errB := meet(t, a, b); errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if again := <-a.words; slices.Equal(again.Words, x.Words) || len(a.trusts(t)) != 1 || len(b.trusts(t)) != 1 {
		t.Errorf("%v; %v, %v", again, a.trusts(t), b.trusts(t))
	}
}

// TestNo: when somebody says no, on either side, and while the other side is still looking, nothing is trusted.
func TestNo(t *testing.T) {
	t.Parallel()
	for _, looking := range []bool{false, true} {
		for _, c := range [][2]bool{{false, true}, {true, false}, {false, false}} {
			a, b := newSide(t, c[0]), newSide(t, c[1])
			if looking && !c[0] {
				b.wait = func(ctx context.Context) { <-ctx.Done() }
			}
			errA, errB := meet(t, a, b)
			if errA == nil || errB == nil || !errors.Is(errA, pair.ErrRefused) && !errors.Is(errB, pair.ErrRefused) {
				t.Errorf("%v: %v, %v", c, errA, errB)
			}
			if len(a.trusts(t))+len(b.trusts(t)) != 0 {
				t.Errorf("%v: %v, %v", c, a.trusts(t), b.trusts(t))
			}
		}
	}
}

// TestSlowPeople: who compares for longer than it takes until another machine would be tried again has paired all the same.
func TestSlowPeople(t *testing.T) {
	t.Parallel()
	for range 8 { // what was wrong was so every other time
		t.Run("", func(t *testing.T) {
			t.Parallel()
			a, b := newSide(t, true), newSide(t, true)
			a.wait = func(ctx context.Context) {
				select {
				case <-ctx.Done():
				case <-time.After(1100 * time.Millisecond):
				}
			}
			if errA, errB := meet(t, a, b); errA != nil || errB != nil {
				t.Error(errA, errB)
			}
		})
	}
}

// TestFound: machines that only hear of each other pair; so that each dials, both names and a stranger are in the air.
func TestFound(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var air air
	a, b := newSide(t, true), newSide(t, true)
	dead := listen(t)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	air.announce(pair.Sighting{ID: "zzz", Name: "dead", Address: dead.Addr().String()})
	done := make(chan error, 2)
	for name, s := range map[string]*side{"attic": a, "bureau": b} {
		l := listen(t)
		go func() {
			_, err := pair.Meet(ctx, pair.Meeting{Terms: s.terms(name), Listener: l, Own: l.Addr().String(), Find: air.find})
			done <- err
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if x, y := a.trusts(t), b.trusts(t); !slices.Equal(x, []string{"bureau"}) || !slices.Equal(y, []string{"attic"}) {
		t.Errorf("%v and %v", x, y)
	}
}

// TestMiddle: somebody in between, who speaks the protocol with both sides, has other words on each; who passes things on, or changes its mind, is found out.
func TestMiddle(t *testing.T) {
	t.Parallel()
	t.Run("active", func(t *testing.T) {
		t.Parallel()
		a, b, left, right := newSide(t, true), newSide(t, true), newSide(t, true), newSide(t, true)
		// The attacker says yes only when both have said what they see; people would not.
		a.say, b.say = false, false
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		middle, end := listen(t), listen(t)
		done := make(chan struct{}, 3)
		go func() {
			_, _ = pair.Meet(ctx, pair.Meeting{Terms: b.terms("bureau"), Listener: end})
			done <- struct{}{}
		}()
		go func() {
			_, _ = pair.Meet(ctx, pair.Meeting{Terms: left.terms("bureau"), Listener: middle})
			done <- struct{}{}
		}()
		go func() {
			_, _ = pair.Meet(ctx, pair.Meeting{Terms: right.terms("attic"), Address: end.Addr().String()})
			done <- struct{}{}
		}()
		_, err := pair.Meet(ctx, pair.Meeting{Terms: a.terms("attic"), Address: middle.Addr().String()})
		for range 3 {
			<-done
		}
		x, y := <-a.words, <-b.words
		if slices.Equal(x.Words, y.Words) || x.Name != "bureau" || y.Name != "attic" || err == nil {
			t.Errorf("%v and %v: %v", x, y, err)
		}
		if len(a.trusts(t))+len(b.trusts(t)) != 0 {
			t.Error("the attacker is trusted")
		}
	})
	for name, forge := range map[string]func(frames [][]byte, i int, b []byte) []byte{
		"passes all on":  func(_ [][]byte, _ int, b []byte) []byte { return b },
		"other value":    func(_ [][]byte, i int, b []byte) []byte { return flip(b, i == 2) },
		"too long":       func(_ [][]byte, _ int, _ []byte) []byte { return make([]byte, 5000) },
		"other greeting": func(_ [][]byte, i int, b []byte) []byte { return flip(b, i == 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, m := newSide(t, true), newSide(t, true), newSide(t, true)
			middle, end := listen(t), listen(t)
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			go relay(ctx, m.id, middle, end.Addr().String(), forge)
			done := make(chan error, 1)
			go func() {
				_, err := pair.Meet(ctx, pair.Meeting{Terms: b.terms("bureau"), Listener: end})
				done <- err
			}()
			d := net.Dialer{}
			c, err := d.DialContext(ctx, "tcp", middle.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = pair.Pair(ctx, tls.Client(c, a.id.TLS(anyKey)), true, a.terms("attic"))
			if want := map[bool]error{true: pair.ErrMiddle, false: pair.ErrForeign}[name == "passes all on" || name == "other value"]; !errors.Is(err, want) {
				t.Errorf("%v, not %v", err, want)
			}
			stop()
			<-done
			if len(a.words) != 0 || len(a.trusts(t)) != 0 {
				t.Error("it was shown to people, or trusted")
			}
		})
	}
}

func flip(b []byte, do bool) []byte {
	if do {
		b[0] ^= 1
	}
	return b
}

// relay has a connection with both, with its own key, and passes frames on; those towards the caller are forged.
func relay(ctx context.Context, id *pair.Identity, l net.Listener, to string, forge func([][]byte, int, []byte) []byte) {
	raw, err := l.Accept()
	if err != nil {
		return
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	caller := tls.Server(raw, id.TLS(anyKey))
	d := net.Dialer{}
	out, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	called := tls.Client(out, id.TLS(anyKey))
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(called, caller)
		_ = out.Close()
		close(done)
	}()
	var frames [][]byte
	for i := 0; ; i++ {
		var size [4]byte
		if _, err := io.ReadFull(called, size[:]); err != nil {
			break
		}
		b := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(called, b); err != nil {
			break
		}
		frames = append(frames, b)
		b = forge(frames, i, b)
		if _, err := caller.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil { //nolint:gosec // short
			break
		}
	}
	_ = raw.Close()
	<-done
}

// TestGarbage: what is no machine is passed over, and the other machine is paired with afterwards.
func TestGarbage(t *testing.T) {
	t.Parallel()
	a, b := newSide(t, true), newSide(t, true)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	l := listen(t)
	done := make(chan error, 1)
	go func() {
		_, err := pair.Meet(ctx, pair.Meeting{Terms: b.terms("bureau"), Listener: l})
		done <- err
	}()
	for _, garbage := range [][]byte{nil, []byte("GET / HTTP/1.1\r\n\r\n"), bytes.Repeat([]byte{0x16, 3, 1, 0xff}, 1<<14)} {
		d := net.Dialer{}
		c, err := d.DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(garbage)
		_ = c.Close()
	}
	if _, err := pair.Meet(ctx, pair.Meeting{Terms: a.terms("attic"), Address: l.Addr().String()}); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestStops: a meeting that nobody comes to ends with its context, and leaves nothing.
func TestStops(t *testing.T) {
	t.Parallel()
	a := newSide(t, true)
	l := listen(t)
	for _, m := range []pair.Meeting{{Terms: a.terms("attic"), Listener: l, Find: new(air).find}, {Terms: a.terms("attic"), Address: "127.0.0.1:1"}} {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := pair.Meet(ctx, m)
			done <- err
		}()
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if len(a.trusts(t)) != 0 {
		t.Error("somebody is trusted")
	}
}

func TestBook(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sync")
	b := pair.Book{Directory: dir}
	if k, err := b.Load(); err != nil || len(k.Machines) != 0 {
		t.Fatal(k, err)
	}
	var keys []ed25519.PublicKey
	for range 3 {
		key, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
		if _, err := b.Add(pair.Machine{Name: "laptop", Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	k, err := b.Load()
	if err != nil || k.Machines[1].Name != "laptop 2" || k.Machines[2].Name != "laptop 3" {
		t.Errorf("%+v, %v", k, err)
	}
	if err := b.Remove("laptop 2"); err != nil {
		t.Error(err)
	}
	if err := b.Remove("laptop 2"); !errors.Is(err, pair.ErrUnknown) {
		t.Error(err)
	}
	if err := b.Note(keys[0], func(m *pair.Machine) { m.MetAt("a:1"); m.MetAt("b:2"); m.MetAt("a:1") }); err != nil {
		t.Error(err)
	}
	if k, err = b.Load(); err != nil || k.Find(keys[1]) != nil || !k.WasRemoved(keys[1]) || k.WasRemoved(keys[0]) || !slices.Equal(k.Machines[0].Addresses, []string{"a:1", "b:2"}) {
		t.Errorf("%+v, %v", k, err)
	}
	for _, name := range []string{"machines.json"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "machines.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Load(); !errors.Is(err, clip.ErrCorrupt) {
		t.Error(err)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := pair.LoadIdentity(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	ids := make(chan *pair.Identity)
	for range 8 {
		go func() {
			id, err := pair.MakeIdentity(dir)
			if err != nil {
				t.Error(err)
			}
			ids <- id
		}()
	}
	first := <-ids
	for range 7 {
		if id := <-ids; id == nil || !id.Public().Equal(first.Public()) {
			t.Error("two identities in one folder")
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "identity")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "identity"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pair.MakeIdentity(dir); !errors.Is(err, clip.ErrCorrupt) {
		t.Error(err)
	}
}

// TestWordList: the list is the one that it is said to be.
func TestWordList(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("words.txt")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(list))
	if len(words) != 2048 || !slices.IsSorted(words) {
		t.Errorf("%d words", len(words))
	}
	sum := sha256.Sum256(list)
	if got := sum[:4]; !bytes.Equal(got, []byte{0x2f, 0x5e, 0xed, 0x53}) {
		t.Errorf("%x", sum)
	}
}

func TestCleanName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "nameless", " attic\n": "attic", "a\x1b[31mb\xff": "a[31mb", strings.Repeat("ü", 40): strings.Repeat("ü", 32),
	} {
		if got := pair.CleanName(in); got != want {
			t.Errorf("%q is %q", in, got)
		}
	}
}
