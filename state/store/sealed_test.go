package store

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"orrery/state"
	"orrery/state/vault"
)

// encrypted makes the stores of tests encrypted ones. No test of this package is parallel.
var encrypted bool

// identity is the key pair of the tests' stores.
var identity = sync.OnceValue(func() *age.X25519Identity {
	i, err := age.GenerateX25519Identity()
	if err != nil {
		panic(err)
	}
	return i
})

func ring(t tester) *vault.Ring {
	t.Helper()
	r := &vault.Ring{}
	held := func(name string) string {
		if name == vault.EnvIdentity {
			return identity().String()
		}
		return ""
	}
	if err := r.AddEnvironment(held); err != nil {
		t.Fatal(err)
	}
	return r
}

func wrapped(k vault.Key) ([]vault.Slot, error) {
	s, err := vault.WrapRecipient(k, identity().Recipient().String(), "test", time.Now())
	return []vault.Slot{s}, err
}

// openWith opens a store of the kind that is being tested. Where there is none it is made first, without o's files.
func openWith(t tester, dir string, o Options) *Store {
	t.Helper()
	if inBucket {
		return openBucket(t, dir, o)
	}
	if encrypted {
		o.Keys = ring(t)
		if slots, err := filepath.Glob(filepath.Join(dir, "keys", "*")); err != nil || len(slots) == 0 {
			if _, err := Init(t.Context(), dir, Options{files: hasty{}}, wrapped); err != nil && !strings.Contains(err.Error(), "one already") {
				t.Fatal(err) // another goroutine may have been faster
			}
		}
	}
	return must(Open(t.Context(), dir, o))(t)
}

// TestEncrypted runs what is tested with plain stores on encrypted ones.
func TestEncrypted(t *testing.T) {
	encrypted = true
	defer func() { encrypted = false }()
	for name, test := range map[string]func(*testing.T){
		"Sizes":                            TestSizes,
		"SameStateAddsNothing":             TestSameStateAddsNothing,
		"SpreadChangesAreSmall":            TestSpreadChangesAreSmall,
		"ShiftedStreamIsSmall":             TestShiftedStreamIsSmall,
		"TrackedImageReadsWhatChanged":     TestTrackedImageReadsWhatChanged,
		"FailedSourcesLeaveNothing":        TestFailedSourcesLeaveNothing,
		"ChainsOfRandomEdits":              TestChainsOfRandomEdits,
		"Prune":                            TestPrune,
		"Exchange":                         TestExchange,
		"ImportOfBadBytes":                 TestImportOfBadBytes,
		"CorruptionOfEachByteIsFound":      TestCorruptionOfEachByteIsFound,
		"EachFailingOperation":             TestEachFailingOperationLeavesTheStateBefore,
		"EachFailingOperationOfPrune":      TestEachFailingOperationOfPrune,
		"RepeatedSaveIsDurable":            TestRepeatedSaveIsDurable,
		"SavesAfterALostPack":              TestSavesAfterALostPack,
		"PrunedSnapshotIsNotHalfThere":     TestPrunedSnapshotIsNotHalfThere,
		"ConcurrentUse":                    TestConcurrentUse,
		"NewerFormatAndBadNamesAreRefused": TestNewerFormatAndBadNamesAreRefused,
		"WhatIsKeptWithAGeneration":        TestWhatIsKeptWithAGeneration,
		"Relabel":                          TestRelabel,
		"Forget":                           TestForget,
		"PruneKeepsPinnedAndTagged":        TestPruneKeepsPinnedAndTagged,
		"CopyMovesWhatIsLacking":           TestCopyMovesWhatIsLacking,
		"CopyOfWhatIsDamaged":              TestCopyOfWhatIsDamaged,
		"AnyFileDamaged":                   TestAnyFileDamaged,
		"OtherCopyServes":                  TestOtherCopyServes,
		"AuditNotesWhatItVerified":         TestAuditNotesWhatItVerified,
		"EachFailingOperationOfRepair":     TestEachFailingOperationOfRepair,
		"LostHistoryIsMovedAside":          TestLostHistoryIsMovedAside,
		"HistoryHasItsCopy":                TestHistoryHasItsCopy,
		"CopyThatCanBeMadeIsKept":          TestCopyThatCanBeMadeIsKept,
	} {
		// TestBucket has some encrypted, too; what becomes of lost packs is the same in all stores.
		both := slices.Contains([]string{"Sizes", "Prune", "Exchange", "Forget", "SavesAfterALostPack"}, name)
		if repeats(name) && (!underRace || !both) {
			t.Run(name, test)
		}
	}
}

// repeats says whether a test is repeated on another kind of store. Those that are about how snapshots are cut and
// stored as deltas show little there: ORRERY_TEST_FULL=1 has them too.
func repeats(name string) bool {
	return os.Getenv("ORRERY_TEST_FULL") == "1" || !slices.Contains([]string{
		"SpreadChangesAreSmall", "ShiftedStreamIsSmall", "TrackedImageReadsWhatChanged", "ChainsOfRandomEdits",
		"PrunedSnapshotIsNotHalfThere", "SameStateAddsNothing", "CopyMovesWhatIsLacking",
	}, name)
}

// Whoever has the folder and no key finds nothing in it that tells what it holds.
func TestNothingIsReadable(t *testing.T) {
	dir := t.TempDir()
	s := must(Init(t.Context(), dir, Options{files: hasty{}}, wrapped))(t)
	b := []byte("the content of a note that is long enough to be looked for")
	r := state.Ref{Container: "fileset", Component: "payroll@friday"}
	g := must(s.Save(t.Context(), r, "fileset-module", "manual", state.Source{Write: stream(b).Write, Tags: []string{"tagged"}, Server: "Server 9"}))(t)
	reader := must(s.Open(t.Context(), g.Snapshot))(t)
	secrets := []string{string(b[:20]), "payroll", "friday", "fileset", "manual", "tagged", "Server 9", string(g.Snapshot), string(g.Snapshot[:12]), "ORRPACK", "ORRSNAP"}
	name := manifestName(must(parseID(g.Snapshot))(t))
	segment := sum(b, free)
	secrets = append(secrets, string(name[:]), name.String(), string(segment[:]), segment.String(), "AGE-SECRET")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content := must(os.ReadFile(path))(t)
		for _, secret := range secrets {
			if strings.Contains(path, secret) || bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s tells %q", path, secret)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = reader.Close()
	must(s.Prune(t.Context(), state.Ref{}, state.Retention{Last: 1}, false))(t)
	if all := must(s.Generations(t.Context(), state.Ref{}))(t); len(all) != 1 || all[0].Component != r.Component {
		t.Fatalf("%+v", all)
	}
}

func TestWithoutAFittingKeyNothingIsTouched(t *testing.T) {
	dir := t.TempDir()
	s := must(Init(t.Context(), dir, Options{files: hasty{}}, wrapped))(t)
	must(s.Save(t.Context(), ref, "m", "manual", stream(text(1000, 1))))(t)
	stranger := &vault.Ring{}
	if err := stranger.AddPassphrase("guessed"); err != nil {
		t.Fatal(err)
	}
	other := must(age.GenerateX25519Identity())(t)
	file := filepath.Join(t.TempDir(), "identity")
	must(true, os.WriteFile(file, []byte(other.String()+"\n"), 0o600))(t)
	must(true, stranger.AddIdentityFile(file))(t)
	before := listing(t, dir)
	for _, keys := range []*vault.Ring{nil, {}, stranger} {
		_, err := Open(t.Context(), dir, Options{Keys: keys})
		if !errors.Is(err, state.ErrKey) || !strings.Contains(err.Error(), "ORRERY_STORE_IDENTITY_FILE") {
			t.Fatal(err)
		}
		if strings.Contains(err.Error(), "guessed") || strings.Contains(err.Error(), "SECRET") {
			t.Fatalf("tells a secret: %v", err)
		}
	}
	if after := listing(t, dir); after != before {
		t.Fatalf("changed:\n%s\n%s", before, after)
	}
	if _, err := Init(t.Context(), dir, Options{}, wrapped); err == nil || !strings.Contains(err.Error(), "one already") {
		t.Fatal(err)
	}
}

// listing is the names and contents of all files in a folder.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all.WriteString(path + " " + sum(must(os.ReadFile(path))(t), free).String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestOpenWhileAnEncryptedStoreIsMade opens a store between its first key and its version: it waits, and is no plain one.
func TestOpenWhileAnEncryptedStoreIsMade(t *testing.T) {
	dir := t.TempDir()
	type opened struct {
		store *Store
		err   error
	}
	result := make(chan opened, 1)
	files := &atRename{name: filepath.Join(dir, "version"), do: func() {
		go func() {
			s, err := Open(t.Context(), dir, Options{Keys: ring(t)})
			result <- opened{s, err}
		}()
		select {
		case r := <-result:
			t.Errorf("opened before it was made: %v", r.err)
			result <- r
		case <-time.After(50 * time.Millisecond):
		}
	}}
	must(Init(t.Context(), dir, Options{files: files}, wrapped))(t)
	if r := <-result; r.err != nil || !r.store.Encrypted() {
		t.Fatalf("not the encrypted store: %v", r.err)
	}
}

// atRename are files that do something before one gets a name.
type atRename struct {
	hasty
	name string
	do   func()
}

func (f *atRename) Rename(from, to string) error {
	if to == f.name {
		f.do()
	}
	return f.hasty.Rename(from, to)
}

func TestUnfinishedEncryptedStoreDoesNotBecomeAPlainOne(t *testing.T) {
	dir := t.TempDir()
	must(Init(t.Context(), dir, Options{files: hasty{}}, wrapped))(t)
	must(true, os.Remove(filepath.Join(dir, "version")))(t) // as if it had been killed before
	if _, err := Open(t.Context(), dir, Options{Keys: ring(t)}); !errors.Is(err, state.ErrNotFound) || !strings.Contains(err.Error(), "store init") {
		t.Fatal(err)
	}
	must(Init(t.Context(), dir, Options{files: hasty{}}, wrapped))(t)
	if s := must(Open(t.Context(), dir, Options{Keys: ring(t)}))(t); !s.Encrypted() {
		t.Fatal("not encrypted")
	}
}

func TestKeysOfAStore(t *testing.T) {
	dir := t.TempDir()
	s := must(Init(t.Context(), dir, Options{files: hasty{}}, wrapped))(t)
	b := text(5000, 1)
	must(s.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
	packs := must(filepath.Glob(filepath.Join(dir, "packs", "*")))(t)
	before := must(os.ReadFile(packs[0]))(t)
	added := must(s.AddKeys(t.Context(), func(k vault.Key) ([]vault.Slot, error) {
		slot, err := vault.WrapPassphrase(k, "correct horse", "vault", 4, time.Now())
		return []vault.Slot{slot}, err
	}))(t)[0]
	first := must(s.Keys(t.Context()))(t)
	for _, slot := range first {
		if slot.ID != added.ID {
			must(true, s.RemoveKey(t.Context(), slot.ID))(t)
		}
	}
	if err := s.RemoveKey(t.Context(), added.ID); !errors.Is(err, state.ErrInUse) {
		t.Fatalf("the last key was removed: %v", err)
	}
	if err := s.RemoveKey(t.Context(), "../../x"); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{Keys: ring(t)}); !errors.Is(err, state.ErrKey) {
		t.Fatalf("the removed key opens it: %v", err)
	}
	keys := &vault.Ring{}
	must(true, keys.AddPassphrase("correct horse"))(t)
	check(t, must(Open(t.Context(), dir, Options{Keys: keys}))(t), b)
	if !bytes.Equal(before, must(os.ReadFile(packs[0]))(t)) {
		t.Fatal("data was written anew")
	}
	plain := open(t, t.TempDir())
	if _, err := plain.Keys(t.Context()); !errors.Is(err, state.ErrNotAble) {
		t.Fatal(err)
	}
}

func TestVersionOneIsUpgraded(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := text(1000, 1)
	must(s.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
	must(true, os.WriteFile(filepath.Join(dir, "version"), []byte(version1), 0o600))(t)
	check(t, open(t, dir), b)
	if v := must(os.ReadFile(filepath.Join(dir, "version")))(t); string(v) != formatVersion {
		t.Fatalf("%q", v)
	}
}

func TestExchangeBetweenPlainAndEncrypted(t *testing.T) {
	plain := open(t, t.TempDir())
	one := must(Init(t.Context(), t.TempDir(), Options{files: hasty{}}, wrapped))(t)
	two := must(Init(t.Context(), t.TempDir(), Options{files: hasty{}}, wrapped))(t)
	b := text(3<<20, 1)
	g := must(plain.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
	for _, hop := range [][2]*Store{{plain, one}, {one, two}, {two, open(t, t.TempDir())}} {
		names := must(hop[0].Objects(t.Context(), g.Snapshot))(t)
		var wire bytes.Buffer
		must(true, hop[0].Export(t.Context(), must(hop[1].Missing(t.Context(), names))(t), &wire))(t)
		must(true, hop[1].Import(t.Context(), &wire))(t)
		must(hop[1].Adopt(t.Context(), ref, "move", g.Snapshot))(t)
		check(t, hop[1], b)
		if left := must(hop[1].Missing(t.Context(), names))(t); len(left) > 0 {
			t.Fatalf("names differ: %v", left)
		}
	}
	if one.Fingerprint() == two.Fingerprint() {
		t.Fatal("two stores have one key")
	}
}

// A piece that was swapped, repeated or cut away is not taken for another.
func TestPiecesHaveTheirPlace(t *testing.T) {
	dir := t.TempDir()
	f := &sealed{files: osFiles{}, dir: dir, cipher: vault.NewKey().Cipher()}
	content := text(5*vault.PieceSize, 1)
	name := filepath.Join(dir, "file")
	w := must(f.Create(name))(t)
	for at := 0; at < len(content); at += 100_000 {
		must(w.Write(content[at:min(len(content), at+100_000)]))(t)
		got := make([]byte, min(len(content), at+100_000))
		if n, err := w.ReadAt(got, 0); err != nil || !bytes.Equal(got[:n], content[:len(got)]) {
			t.Fatalf("reading while writing at %d: %v", at, err)
		}
	}
	must(true, w.Sync())(t)
	must(true, w.Close())(t)
	good := must(os.ReadFile(name))(t)
	if got := must(f.ReadFile(name))(t); !bytes.Equal(got, content) {
		t.Fatal("differs")
	}
	piece := func(n int) []byte { return good[vault.HeaderSize+n*pieceSize : vault.HeaderSize+(n+1)*pieceSize] }
	head := good[:vault.HeaderSize]
	for what, parts := range map[string][][]byte{
		"swapped":  {head, piece(1), piece(0), piece(2), piece(3), piece(4)},
		"repeated": {good, piece(4)},
		"cut":      {head, piece(0), piece(1), piece(2), piece(3)},
		"cut off":  {good[:len(good)-100]},
		"no piece": {head},
		"empty":    {},
	} {
		must(true, os.WriteFile(name, bytes.Join(parts, nil), 0o600))(t)
		if _, err := f.ReadFile(name); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
		opened := must(f.Open(name))(t)
		if _, err := io.ReadAll(io.NewSectionReader(opened, 0, int64(len(content)))); !errors.Is(err, state.ErrCorrupt) && what != "cut" {
			t.Errorf("%s: %v", what, err)
		}
		_ = opened.Close()
	}
}
