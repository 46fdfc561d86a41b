package dysnomia

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"orrery/internal/testenv"
	"orrery/state"
)

// world is a machine with a state directory, a container of each module and one component.
type world struct {
	Runner
	root      string
	component string
	out       *bytes.Buffer
}

func newWorld(t *testing.T, settings string) *world {
	t.Helper()
	root := t.TempDir()
	w := &world{root: root, component: filepath.Join(root, "components", "box", "shop"), out: new(bytes.Buffer)}
	w.write(t, "containers/box", settings)
	if err := os.MkdirAll(w.component, 0o755); err != nil {
		t.Fatal(err)
	}
	w.Runner = Runner{
		Catalog: Catalog{
			Containers: []string{filepath.Join(root, "containers")}, Components: []string{filepath.Join(root, "components")},
			Modules: []string{filepath.Join(root, "modules")}, NixStore: "/nix/store",
			Builtin: map[string]Operator{"echo": Echo, "fileset": Fileset, "process": Process, "wrapper": Wrapper, "generic-webapplication": WebApplication},
		},
		Directory: OpenDirectory(filepath.Join(root, "state"), ""), Path: os.Getenv("PATH"), Out: w.out, Err: w.out,
	}
	return w
}

func (w *world) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(w.root, name)
	mode := os.FileMode(0o644)
	if strings.HasPrefix(content, "#!") {
		mode = 0o755
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode)); err != nil {
		t.Fatal(err)
	}
}

func (w *world) read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(w.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func (w *world) try(t *testing.T, operation string) error {
	t.Helper()
	return w.Operate(t.Context(), Request{Operation: operation, Component: "shop", Container: "box"})
}

func (w *world) must(t *testing.T, operations ...string) {
	t.Helper()
	for _, operation := range operations {
		if err := w.try(t, operation); err != nil {
			t.Fatalf("%s: %v\n%s", operation, err, w.out)
		}
	}
}

func (w *world) generations(t *testing.T) []Generation {
	t.Helper()
	all, err := w.Directory.Generations(Ref{"box", "shop"})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func newFileset(t *testing.T) *world {
	t.Helper()
	testenv.Need(t, "xz", "apt-get install xz-utils")
	w := newWorld(t, "type=fileset\n")
	w.write(t, "containers/box", "type=fileset\ntargetDir='"+filepath.Join(w.root, "tar get")+"'\n")
	w.write(t, "components/box/shop/.dysnomia-fileset", "symlink /etc/hostname\ntarget etc\nmkdir data\nmkdir var/a b\n")
	return w
}

func TestFileset(t *testing.T) {
	w := newFileset(t)
	w.must(t, "deactivate", "restore", "activate", "activate")
	w.write(t, "tar get/data/one", "1")
	w.must(t, "snapshot", "snapshot")
	w.write(t, "tar get/data/one", "2")
	w.write(t, "tar get/var/a b/two", "2")
	w.must(t, "restore")
	if got := w.read(t, "tar get/data/one"); got != "1" || exists(filepath.Join(w.root, "tar get/var/a b/two")) {
		t.Errorf("restored %q", got)
	}
	if n := len(w.generations(t)); n != 1 {
		t.Errorf("%d generations", n)
	}
	w.must(t, "deactivate", "deactivate")
	if exists(filepath.Join(w.root, "tar get/etc/hostname")) || w.read(t, "tar get/data/one") != "1" {
		t.Error("deactivation left a link, or took state")
	}
	w.must(t, "activate")
	if err := w.try(t, "collect-garbage"); err != nil || w.read(t, "tar get/data/one") != "1" {
		t.Errorf("what is active was collected (%v)", err)
	}
}

// Defect 12: a collection takes a last snapshot, and does nothing where that is impossible.
func TestLastSnapshotBeforeCollection(t *testing.T) {
	w := newFileset(t)
	w.must(t, "activate")
	w.write(t, "tar get/data/one", "last")
	w.must(t, "deactivate", "collect-garbage", "collect-garbage")
	if exists(filepath.Join(w.root, "tar get/data")) {
		t.Error("the state is still there")
	}
	w.must(t, "activate", "restore")
	if got := w.read(t, "tar get/data/one"); got != "last" {
		t.Errorf("restored %q", got)
	}
}

// Defect 16: a dump that was cut short is refused, and the state is untouched.
func TestTruncatedDumpIsRefused(t *testing.T) {
	w := newFileset(t)
	w.must(t, "activate")
	w.write(t, "tar get/data/one", strings.Repeat("one", 1000))
	w.must(t, "snapshot")
	w.write(t, "tar get/data/one", "two")
	latest := w.generations(t)[0]
	dump := filepath.Join(w.Directory.SnapshotPath(latest.Ref, latest.Snapshot), filesetDump)
	content, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]byte{"half": content[:len(content)/2], "nothing": nil, "another byte": append(slices.Clip(content), 'x')} {
		for _, known := range []bool{true, false} { // that a checksum says so, and that the dump itself does
			err := errors.Join(os.WriteFile(dump, content, 0o600), w.Directory.writeChecksums(latest.Ref, latest.Snapshot), os.WriteFile(dump, bad, 0o600))
			if err != nil {
				t.Fatal(err)
			}
			if !known {
				for _, folder := range []string{checksums, own + "/" + checksums} {
					if err := removeIfThere(w.Directory.join(folder, latest.Ref, latest.Snapshot)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.try(t, "restore"); err == nil || known && !errors.Is(err, ErrChecksum) {
				t.Errorf("%s: %v", what, err)
			}
			if got := w.read(t, "tar get/data/one"); got != "two" {
				t.Fatalf("%s: the state is %q", what, got)
			}
		}
	}
}

// module writes a module in shell as people write them for Dysnomia: it keeps its snapshots itself.
const module = `#!/bin/sh -e
name=$(basename "$2")
snapshots=$DYSNOMIA_STATEDIR/snapshots/$3/$name generations=$DYSNOMIA_STATEDIR/generations/$3/$name
data=$DATA/$name
case "$1" in
activate) mkdir -p "$data" "$DYSNOMIA_STATEDIR/activated/$3"; touch "$DYSNOMIA_STATEDIR/activated/$3/$name" ;;
snapshot)
	id=$(sha256sum <"$data/value" | cut -c1-64)
	mkdir -p "$snapshots/$id" "$generations"
	cp "$data/value" "$snapshots/$id/value"
	last=$(ls "$generations" | sort -n | tail -1)
	[ -n "$last" ] && [ "$(basename "$(readlink "$generations/$last")")" = "$id" ] && exit 0
	sleep 0.01 # in which others would number theirs alike
	ln -s "../../../snapshots/$3/$name/$id" "$generations/$((${last:-0} + 1))" ;;
restore) last=$(ls "$generations" | sort -n | tail -1); cp "$generations/$last/value" "$data/value" ;;
env) printf '%s' "$value" >"$data/seen" ;;
lock) echo "not now" >&2; exit 7 ;;
esac
`

func newScripted(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, "type=scripted\n")
	w.write(t, "modules/scripted", module)
	w.write(t, "containers/box", "type=scripted\nDATA="+w.root+"/data\nvalue='it'\\''s \"quoted\" $(touch "+w.root+"/evil) `x`\n\ttwo lines *'\n")
	return w
}

// Defect 7: values reach a module as they are, and nothing in them is carried out.
func TestValuesAreNotInterpreted(t *testing.T) {
	w := newScripted(t)
	w.must(t, "activate", "env")
	if got, want := w.read(t, "data/shop/seen"), "it's \"quoted\" $(touch "+w.root+"/evil) `x`\n\ttwo lines *"; got != want {
		t.Errorf("the module saw %q", got)
	}
	if exists(filepath.Join(w.root, "evil")) {
		t.Error("a value was carried out")
	}
	w.write(t, "containers/box", "type=scripted\nbad=$(touch "+w.root+"/evil)\n")
	if err := w.try(t, "env"); !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), "line 2") || exists(filepath.Join(w.root, "evil")) {
		t.Errorf("a command in a container file: %v", err)
	}
}

// Defect 6: 20 snapshots at once are 20 generations in a row, each of them right.
func TestConcurrentSnapshots(t *testing.T) {
	w := newScripted(t)
	w.must(t, "activate")
	const n = 20
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() {
			one := OpenDirectory(w.Directory.Path(), "") // as another process
			ref := Ref{"box", "shop"}
			folder, err := one.Scratch()
			if err != nil {
				errs[i] = err
				return
			}
			release, err := one.Lock(t.Context(), ref)
			if err != nil {
				errs[i] = err
				return
			}
			err = errors.Join(os.WriteFile(filepath.Join(w.root, "data/shop/value"), fmt.Appendf(nil, "%d", i), 0o600), os.RemoveAll(folder))
			release()
			runner := w.Runner
			runner.Directory, runner.Out, runner.Err = one, io.Discard, io.Discard
			errs[i] = errors.Join(err, runner.Operate(t.Context(), Request{Operation: "snapshot", Component: "shop", Container: "box"}))
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	found := w.generations(t)
	if len(found) == 0 {
		t.Fatal("no generations")
	}
	for i, g := range found {
		if g.Number != uint64(i+1) {
			t.Errorf("generation %d is the %d.", g.Number, i+1)
		}
		if err := w.Directory.Verify(g); err != nil && !IsUnknown(err) {
			t.Error(err)
		}
		if entries, err := os.ReadDir(w.Directory.SnapshotPath(g.Ref, g.Snapshot)); err != nil || len(entries) != 1 {
			t.Errorf("snapshot %s has %v (%v)", g.Snapshot, entries, err)
		}
	}
}

// Defect 6, of the store alone: different snapshots recorded at once are all there, in a row.
func TestConcurrentGenerations(t *testing.T) {
	d, ref := OpenDirectory(t.TempDir(), ""), Ref{"box", "shop"}
	const n = 20
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() {
			one := OpenDirectory(d.Path(), "")
			scratch, err := one.Scratch()
			if err != nil {
				errs[i] = err
				return
			}
			release, err := one.Lock(t.Context(), ref)
			if err != nil {
				errs[i] = err
				return
			}
			defer release()
			errs[i] = errors.Join(os.WriteFile(filepath.Join(scratch, "value"), fmt.Appendf(nil, "%d", i), 0o600), one.Publish(ref, fmt.Sprintf("id%d", i), scratch))
		})
	}
	all.Wait()
	found, err := d.Generations(ref)
	if err := errors.Join(err, errors.Join(errs...)); err != nil || len(found) != n {
		t.Fatalf("%d generations, %v", len(found), err)
	}
	for i, g := range found {
		if g.Number != uint64(i+1) || d.Verify(g) != nil {
			t.Errorf("generation %d: %v, %v", i+1, g, d.Verify(g))
		}
	}
}

func TestModuleFails(t *testing.T) {
	w := newScripted(t)
	err := w.try(t, "lock")
	var failed *Status
	if !errors.As(err, &failed) || failed.Code != 7 || failed.Exit() != 123 || !strings.Contains(w.out.String(), "not now") {
		t.Errorf("%v", err)
	}
}

// Defect 11: names that a shell would carry out or take apart do not reach one.
func TestHostileNames(t *testing.T) {
	w := newScripted(t)
	for _, name := range []string{"two words", "x;touch evil", "$(touch evil)", "`x`", "it's", "a&b", "*"} {
		if err := os.MkdirAll(filepath.Join(w.root, "components/box", name), 0o755); err != nil {
			t.Fatal(err)
		}
		err := w.Operate(t.Context(), Request{Operation: "activate", Component: name, Container: "box"})
		if !errors.Is(err, ErrUnquotable) {
			t.Errorf("%q: %v", name, err)
		}
	}
	any := w.Runner
	any.AnyName = true
	if err := any.Operate(t.Context(), Request{Operation: "activate", Component: "two words", Container: "box"}); err != nil || !exists(filepath.Join(w.root, "data/two words")) {
		t.Errorf("a module that quotes: %v\n%s", err, w.out)
	}
	for _, name := range []string{"../shop", "..", "a\nb", "-x", strings.Repeat("x", 256)} {
		for _, r := range []Request{{Operation: "activate", Component: name, Container: "box"}, {Operation: "activate", Component: "shop", Container: name}} {
			if err := w.Operate(t.Context(), r); err == nil {
				t.Errorf("%q was taken for a name", name)
			}
		}
	}
	if err := w.Directory.Record(Ref{"box", "../x"}, "id"); !errors.Is(err, ErrName) {
		t.Error(err)
	}
}

func TestUnquotableNamesInBuiltinModules(t *testing.T) {
	w := newFileset(t)
	for _, name := range []string{"two words", "x;touch evil", "$(touch evil)", "it's \"quoted\"", strings.Repeat("x", 255)} {
		w.write(t, "components/box/"+name+"/.dysnomia-fileset", "mkdir data\n")
		for _, operation := range []string{"activate", "snapshot", "restore", "deactivate"} {
			if err := w.Operate(t.Context(), Request{Operation: operation, Component: name, Container: "box"}); err != nil {
				t.Errorf("%s %q: %v", operation, name, err)
			}
		}
	}
}

// Defect 10: generations come in the order of their numbers.
func TestGenerationsAreInOrder(t *testing.T) {
	d, ref := OpenDirectory(t.TempDir(), ""), Ref{"box", "shop"}
	for i := range 12 {
		scratch, err := d.Scratch()
		if err := errors.Join(err, d.Publish(ref, fmt.Sprintf("id%d", i), scratch)); err != nil {
			t.Fatal(err)
		}
	}
	found, err := d.Generations(ref)
	if err != nil || len(found) != 12 || found[9].Number != 10 || found[11].Snapshot != "id11" {
		t.Errorf("%v, %v", found, err)
	}
}

// Defect 11: a collection keeps what is leased, and waits for operations on the component.
func TestCollectionKeepsWhatIsRead(t *testing.T) {
	w := newScripted(t)
	w.must(t, "activate")
	for i := range 4 {
		w.write(t, "data/shop/value", fmt.Sprint(i))
		w.must(t, "snapshot")
	}
	d, ref, now := w.Directory, Ref{"box", "shop"}, time.Now()
	all := w.generations(t)
	if err := d.Lease(ref, all[1].Snapshot, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	release, err := d.Lock(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := d.Collect(ctx, "", "", 1, now, io.Discard); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("collected under an operation: %v", err)
	}
	release()
	if err := d.Collect(t.Context(), "", "", 1, now, io.Discard); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true, false, true} {
		if got := exists(d.SnapshotPath(ref, all[i].Snapshot)); got != want {
			t.Errorf("snapshot %d is there: %v", i, got)
		}
	}
	if err := d.Collect(t.Context(), "", "", 0, now.Add(time.Hour), io.Discard); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(d.Path(), snapshots, "box")) {
		t.Error("keeping nothing kept something")
	}
}

// Defect 15: a checksum holds in whatever order the file system lists a folder.
func TestChecksumDoesNotDependOnOrder(t *testing.T) {
	d, ref := OpenDirectory(t.TempDir(), ""), Ref{"box", "shop"}
	outside := filepath.Join(t.TempDir(), "id")
	for i := range 30 {
		path := filepath.Join(outside, fmt.Sprintf("%d", i*7%30), "file")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, fmt.Append(nil, i), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Import(ref, outside); err != nil || exists(outside) {
		t.Fatal(err)
	}
	latest, err := d.Latest(ref)
	if err != nil || d.Verify(latest) != nil {
		t.Fatal(err, d.Verify(latest))
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if err := copyTree(d.SnapshotPath(ref, "id"), copied); err != nil {
		t.Fatal(err)
	}
	if same, err := sameContent(copied, d.SnapshotPath(ref, "id")); err != nil || !same {
		t.Errorf("a copy has another checksum (%v)", err)
	}
	if err := os.WriteFile(filepath.Join(d.SnapshotPath(ref, "id"), "3", "file"), []byte("sabotage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Verify(latest); !errors.Is(err, ErrChecksum) {
		t.Errorf("%v", err)
	}
}

// Defect 14: a component whose content changed is activated anew.
func TestDeployNoticesContent(t *testing.T) {
	w := newFileset(t)
	m := Machine{Runner: w.Runner}
	if err := m.Deploy(t.Context()); err != nil {
		t.Fatal(err, w.out)
	}
	w.write(t, "tar get/data/one", "kept")
	w.out.Reset()
	if err := m.Deploy(t.Context()); err != nil || w.out.Len() > 0 {
		t.Fatalf("%v, %s", err, w.out)
	}
	w.write(t, "components/box/shop/.dysnomia-fileset", "mkdir data\nmkdir more\n")
	if err := m.Deploy(t.Context()); err != nil || !exists(filepath.Join(w.root, "tar get/more")) || w.read(t, "tar get/data/one") != "kept" {
		t.Errorf("%v\n%s", err, w.out)
	}
	if err := os.RemoveAll(w.component); err != nil {
		t.Fatal(err)
	}
	if err := m.Deploy(t.Context()); err == nil {
		t.Error("a fileset whose description is gone was deactivated")
	}
}

// memory is a module whose databases are files in a folder.
type memory struct {
	folder string
	fail   error // of the next snapshot, in the middle of it
}

func (m *memory) Describe() state.Description                            { return state.Description{Name: "memory"} }
func (m *memory) Check(state.Component) error                            { return nil }
func (m *memory) Deactivate(context.Context, state.Target) error         { return nil }
func (m *memory) CollectGarbage(_ context.Context, t state.Target) error { return os.Remove(m.file(t)) }

func (m *memory) file(t state.Target) string {
	return filepath.Join(m.folder, fmt.Sprint(t.Component.Properties["database"]))
}

func (m *memory) Activate(_ context.Context, t state.Target) error {
	if exists(m.file(t)) {
		return nil
	}
	var content []byte
	if schema := fmt.Sprint(t.Component.Properties["schema"]); schema != "" {
		var err error
		if content, err = os.ReadFile(schema); err != nil {
			return err
		}
	}
	return os.WriteFile(m.file(t), content, 0o600)
}

func (m *memory) Snapshot(_ context.Context, t state.Target, w io.Writer) error {
	content, err := os.ReadFile(m.file(t))
	if err != nil {
		return err
	}
	if _, err := w.Write(append([]byte("own\n"), content...)); err != nil {
		return err
	}
	return m.fail
}

func (m *memory) Restore(_ context.Context, t state.Target, r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return os.WriteFile(m.file(t), bytes.TrimPrefix(content, []byte("own\n")), 0o600)
}

func newDatabase(t *testing.T) (*world, *memory) {
	t.Helper()
	testenv.Need(t, "xz", "apt-get install xz-utils")
	w := newWorld(t, "type=memory\n")
	m := &memory{folder: t.TempDir()}
	d := Database{
		Module: m, Kind: "memory", Schema: "sql", Dump: "dump.xz", Own: "own",
		Container: func(Call) (state.Properties, string) { return state.Properties{}, "" },
		Component: func(c Call, schema string) state.Properties {
			return state.Properties{"database": c.Ref.Component, "schema": schema}
		},
		As: func(ctx context.Context, _ string, d Drive, in io.Reader, out io.Writer) error {
			return d.Carry(ctx, m, in, out)
		},
	}
	w.Builtin["memory"] = d.Operate
	w.write(t, "components/box/shop/sql/2.sql", "second")
	w.write(t, "components/box/shop/sql/1.sql", "first")
	return w, m
}

// Defect 1: a dump that failed is no snapshot. Defect 8: all SQL files of a component are loaded, in order.
func TestFailedDumpIsNoSnapshot(t *testing.T) {
	w, m := newDatabase(t)
	w.must(t, "activate", "snapshot")
	file := filepath.Join(m.folder, "shop")
	if content, err := os.ReadFile(file); err != nil || string(content) != "first\nsecond\n" {
		t.Fatalf("%q, %v", content, err)
	}
	before := w.generations(t)
	if err := os.WriteFile(file, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.fail = errors.New("the server died")
	if err := w.try(t, "snapshot"); !errors.Is(err, m.fail) {
		t.Errorf("%v", err)
	}
	w.must(t, "deactivate")
	if err := w.try(t, "collect-garbage"); !errors.Is(err, m.fail) || !exists(file) {
		t.Errorf("collected without a last snapshot: %v", err)
	}
	if after := w.generations(t); len(after) != len(before) {
		t.Errorf("generations %v", after)
	}
	if left, err := os.ReadDir(filepath.Join(w.Directory.Path(), own, "scratch")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	m.fail = nil
	w.must(t, "activate", "restore")
	if content, err := os.ReadFile(file); err != nil || string(content) != "first\nsecond\n" {
		t.Errorf("%q, %v", content, err)
	}
}

// Defect 8: deactivating what is not active is no error.
func TestDeactivateIsIdempotent(t *testing.T) {
	w, _ := newDatabase(t)
	w.must(t, "activate", "deactivate", "deactivate")
	if !w.Directory.IsGarbage(Ref{"box", "shop"}) {
		t.Error("it is not marked")
	}
	w.must(t, "activate")
	if w.Directory.IsGarbage(Ref{"box", "shop"}) {
		t.Error("it is still marked")
	}
}

func TestProcess(t *testing.T) {
	w := newWorld(t, "type=process\n")
	w.write(t, "containers/box", "type=process\nruntimeDir="+w.root+"/run\ntimeout=20\nmessage='two words'\n")
	w.write(t, "run/empty", "")
	w.write(t, "components/box/shop/bin/daemon", "#!/bin/sh\necho \"$message\" >'"+w.root+"/message'\nsleep 1000 >/dev/null 2>&1 </dev/null &\necho $! >'"+w.root+"/run/daemon.pid.new'\nmv '"+w.root+"/run/daemon.pid.new' '"+w.root+"/run/daemon.pid'\n")
	w.must(t, "activate", "activate")
	d := daemon{pidFile: filepath.Join(w.root, "run/daemon.pid")}
	pid, err := d.pid()
	if err != nil || pid == 0 {
		t.Fatal(pid, err, w.out)
	}
	w.must(t, "deactivate", "deactivate")
	if !gone(pid) || strings.TrimSpace(w.read(t, "message")) != "two words" {
		t.Error("it still runs, or did not get its properties")
	}
}
