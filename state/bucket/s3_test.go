package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"go.uber.org/goleak"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/store"
	"orrery/state/vault"
)

var ref = state.Ref{Container: "c", Component: "notes"}

// killed makes the test binary copy a store and wait for its end: see TestKilledCopyGoesOn.
const killed = "ORRERY_TEST_COPY"

func TestMain(m *testing.M) {
	if args := strings.Split(os.Getenv(killed), " "); len(args) == 2 {
		copyUntilKilled(args[0], args[1])
		return
	}
	os.Exit(m.Run())
}

// credentials are the server's.
func credentials(t *testing.T, s *testenv.S3Server) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", s.Key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.Secret)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_MAX_ATTEMPTS", "2")
}

func reach(t *testing.T, address string) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// blank is a new prefix on the server.
func blank(t *testing.T) (*testenv.S3Server, string) {
	t.Helper()
	s := testenv.S3(t)
	credentials(t, s)
	return s, s.URL(s.Address, fmt.Sprintf("%s/%d", strings.ToLower(t.Name()), rand.Uint64()))
}

var identity, _ = age.GenerateX25519Identity() // an error would be nil's dereference

func keys(t *testing.T) *vault.Ring {
	t.Helper()
	var r vault.Ring
	err := r.AddEnvironment(func(name string) string {
		if name == vault.EnvIdentity {
			return identity.String()
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

func wrap(k vault.Key) ([]vault.Slot, error) {
	s, err := vault.WrapRecipient(k, identity.Recipient().String(), "", time.Now())
	return []vault.Slot{s}, err
}

func local(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// save takes a snapshot of noise with a change.
func save(t *testing.T, s *store.Store, n int, round byte) []byte {
	t.Helper()
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	for at := 0; at < n; at += 100_000 {
		b[at] = round
	}
	_, err := s.Save(t.Context(), ref, "m", "manual", state.Source{Tags: []string{fmt.Sprint("round", round)}, Write: func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func generations(t *testing.T, s *store.Store) []state.Generation {
	t.Helper()
	all, err := s.Generations(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func copied(t *testing.T, to, from *store.Store) store.Moved {
	t.Helper()
	moved, err := to.Copy(t.Context(), from, generations(t, from), nil)
	if err != nil {
		t.Fatal(err)
	}
	return moved
}

// reads fails unless the store has these generations, whole.
func reads(t *testing.T, s *store.Store, want ...[]byte) {
	t.Helper()
	all := generations(t, s)
	if len(all) != len(want) {
		t.Fatalf("%d generations, want %d", len(all), len(want))
	}
	for i, g := range all {
		r, err := s.Open(t.Context(), g.Snapshot)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want[i]) {
			t.Fatalf("generation %d: %v", g.Number, err)
		}
		_ = r.Close()
	}
}

func TestCopyToEncryptedBucketAndBack(t *testing.T) {
	_, address := blank(t)
	home, cache := local(t), t.TempDir()
	first := save(t, home, 6<<20, 1)
	made, err := store.InitBucket(t.Context(), reach(t, address), store.Options{Cache: cache}, wrap)
	if err != nil {
		t.Fatal(err)
	}
	if moved := copied(t, made, home); len(moved.Generations) != 1 || moved.Bytes < 6<<20 {
		t.Fatalf("%+v", moved)
	}
	second := save(t, home, 6<<20, 2)
	if _, err := home.Relabel(t.Context(), ref, 2, state.Relabel{AddTags: []string{"kept"}}); err != nil {
		t.Fatal(err)
	}
	away, err := store.OpenBucket(t.Context(), reach(t, address), store.Options{Cache: cache, Keys: keys(t)})
	if err != nil {
		t.Fatal(err)
	}
	if moved := copied(t, away, home); len(moved.Generations) != 1 || moved.Bytes > 1<<20 {
		t.Fatalf("a change of little moved %d bytes", moved.Bytes)
	}
	if moved := copied(t, away, home); len(moved.Generations) != 0 || moved.Objects != 0 {
		t.Fatalf("copied again: %+v", moved)
	}
	reads(t, away, first, second)
	last := generations(t, away)[1]
	if want := generations(t, home)[1]; !last.Time.Equal(want.Time) || !slices.Contains(last.Tags, "kept") || last.Number != want.Number || last.Reason != "manual" {
		t.Fatalf("%+v, want %+v", last, want)
	}
	if _, err := store.OpenBucket(t.Context(), reach(t, address), store.Options{}); !errors.Is(err, state.ErrKey) {
		t.Fatal(err)
	}
	back := local(t)
	copied(t, back, away)
	reads(t, back, first, second)
	pruned, err := away.Prune(t.Context(), ref, state.Retention{Last: 1}, false)
	if err != nil || len(pruned.Generations) != 0 && last.Pinned {
		t.Fatalf("%+v, %v", pruned, err)
	}
	reads(t, away, second)
	objects, err := reach(t, address).List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if strings.Contains(o.Name, ref.Component) || strings.Contains(o.Name, string(last.Snapshot)) || strings.Contains(o.Name, "shared-") {
			t.Errorf("left or readable: %s", o.Name)
		}
	}
}

func TestRefusals(t *testing.T) {
	s, address := blank(t)
	_, err := store.OpenBucket(t.Context(), reach(t, address), store.Options{})
	if !errors.Is(err, state.ErrNotFound) || !strings.Contains(err.Error(), "orrery store init") {
		t.Fatal(err)
	}
	_, err = store.InitBucket(t.Context(), reach(t, strings.Replace(address, s.Bucket, "nowhere", 1)), store.Options{}, nil)
	if err == nil || !strings.Contains(err.Error(), "is there such a bucket?") {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "wrong", "AWS_SECRET_ACCESS_KEY": "wrong-secret"} {
		credentials(t, s)
		t.Setenv(name, value)
		_, err := store.OpenBucket(t.Context(), reach(t, address), store.Options{})
		if err == nil || !strings.Contains(err.Error(), "are the credentials right?") || strings.Contains(err.Error(), "wrong-secret") {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"s3://", "http://x/y", "s3://user:secret@x/y", "nonsense", "s3://x/%zz"} {
		if _, err := Open(t.Context(), bad); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, scheme := range []string{"gs", "azblob"} {
		if _, err := Open(t.Context(), scheme+"://x/y"); err == nil || strings.Contains(err.Error(), "without "+scheme) != errors.Is(err, state.ErrNotAble) {
			t.Errorf("%s: %v", scheme, err)
		}
	}
}

func TestCorruptObject(t *testing.T) {
	for _, w := range []func(vault.Key) ([]vault.Slot, error){nil, wrap} {
		_, address := blank(t)
		b, home := reach(t, address), local(t)
		save(t, home, 3<<20, 1)
		away, err := store.InitBucket(t.Context(), b, store.Options{}, w)
		if err != nil {
			t.Fatal(err)
		}
		copied(t, away, home)
		objects, err := b.List(t.Context(), "packs/")
		if err != nil || len(objects) != 1 {
			t.Fatal(objects, err)
		}
		r, err := b.Read(t.Context(), objects[0].Name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		content[1<<20] ^= 1
		if err := b.Write(t.Context(), objects[0].Name, bytes.NewReader(content), false); err != nil {
			t.Fatal(err)
		}
		if err := away.Verify(t.Context(), generations(t, away)[0].Snapshot); !errors.Is(err, state.ErrCorrupt) {
			t.Fatal(err)
		}
		back := local(t)
		if _, err := back.Copy(t.Context(), away, generations(t, away), nil); !errors.Is(err, state.ErrCorrupt) {
			t.Fatal(err)
		}
		if got := generations(t, back); len(got) != 0 {
			t.Fatal("adopted what is corrupt")
		}
	}
}

// A copy whose network is cut ends in an error; the next one goes on behind what arrived.
func TestCutConnection(t *testing.T) {
	s, address := blank(t)
	home := local(t)
	content := save(t, home, 20<<20, 1)
	if _, err := store.InitBucket(t.Context(), reach(t, address), store.Options{}, wrap); err != nil {
		t.Fatal(err)
	}
	through := cutter(t, s.Address, 12<<20)
	away, err := store.OpenBucket(t.Context(), reach(t, strings.Replace(address, s.Address, through, 1)), store.Options{Keys: keys(t), CopyPack: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	moved, err := away.Copy(t.Context(), home, generations(t, home), nil)
	if err == nil || moved.Bytes == 0 || len(moved.Generations) > 0 {
		t.Fatalf("%+v, %v", moved, err)
	}
	away, err = store.OpenBucket(t.Context(), reach(t, address), store.Options{Keys: keys(t)})
	if err != nil {
		t.Fatal(err)
	}
	if rest := copied(t, away, home); rest.Bytes > 21<<20-moved.Bytes {
		t.Fatalf("moved %d and then %d bytes", moved.Bytes, rest.Bytes)
	}
	reads(t, away, content)
}

// cutter passes connections on to a server until so many bytes were sent to it, and then cuts and refuses all.
func cutter(t *testing.T, to string, limit int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	take := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		limit -= int64(n)
		return limit > 0
	}
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { pass(c, to, take) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return l.Addr().String()
}

func pass(c net.Conn, to string, take func(int) bool) {
	defer func() { _ = c.Close() }()
	s, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = s.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(c, s) // ends with either connection
		_ = c.Close()
	}()
	b := make([]byte, 32<<10)
	for {
		n, err := c.Read(b)
		if err != nil || !take(n) {
			break
		}
		if _, err := s.Write(b[:n]); err != nil {
			break
		}
	}
	_ = s.Close()
	_ = c.Close()
	<-done
}

func TestKilledCopyGoesOn(t *testing.T) {
	_, address := blank(t)
	dir := t.TempDir()
	home, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	content := save(t, home, 20<<20, 1)
	b := reach(t, address)
	away, err := store.InitBucket(t.Context(), b, store.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), killed+"="+dir+" "+address)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it says when a pack is there
		t.Fatal(err)
	}
	_ = child.Process.Kill()
	_ = child.Wait() // says that it was killed
	before, err := b.List(t.Context(), "packs/")
	if err != nil || len(before) == 0 {
		t.Fatal(before, err)
	}
	if moved := copied(t, away, home); moved.Bytes > 17<<20 {
		t.Fatalf("%d bytes were moved again", moved.Bytes)
	}
	reads(t, away, content)
	after, err := b.List(t.Context(), "packs/")
	if err != nil || len(after) <= len(before) || after[0] != before[0] && !slices.Contains(after, before[0]) {
		t.Fatal(before, after, err)
	}
}

func copyUntilKilled(dir, address string) {
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	home, err := store.Open(ctx, dir, store.Options{})
	check(err)
	b, err := Open(ctx, address)
	check(err)
	away, err := store.OpenBucket(ctx, b, store.Options{CopyPack: 4 << 20})
	check(err)
	all, err := home.Generations(ctx, state.Ref{})
	check(err)
	_, err = away.Copy(ctx, home, all, func(m store.Moved) {
		if m.Bytes > 0 {
			fmt.Println("a pack is there")
			select {} // until it is killed
		}
	})
	check(err)
}

// Two copies at once, and a prune that runs while they do: everybody gets what is theirs, or is told to wait.
func TestTwoCopiesAndAPrune(t *testing.T) {
	_, address := blank(t)
	home := local(t)
	var want [][]byte
	for round := range byte(3) {
		want = append(want, save(t, home, 3<<20, round))
	}
	if _, err := store.InitBucket(t.Context(), reach(t, address), store.Options{}, wrap); err != nil {
		t.Fatal(err)
	}
	all := generations(t, home)
	var running sync.WaitGroup
	for range 2 {
		b := reach(t, address)
		away, err := store.OpenBucket(t.Context(), b, store.Options{Keys: keys(t)})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if _, err := away.Copy(t.Context(), home, all, nil); err != nil {
				t.Error(err)
			}
		})
	}
	away, err := store.OpenBucket(t.Context(), reach(t, address), store.Options{Keys: keys(t)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := away.Prune(t.Context(), state.Ref{}, state.Retention{}, false); err != nil && !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	running.Wait()
	reads(t, away, want...)
	if _, err := away.Prune(t.Context(), state.Ref{}, state.Retention{}, false); err != nil {
		t.Fatal(err)
	}
	reads(t, away, want...)
}

func TestNothingRunsOn(t *testing.T) {
	_, address := blank(t)
	before := goleak.IgnoreCurrent()
	b := reach(t, address)
	away, err := store.InitBucket(t.Context(), b, store.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	home := local(t)
	save(t, home, 100_000, 1)
	copied(t, away, home)
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"))
}
