package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

func newTarget(t *testing.T, name string) state.Target {
	t.Helper()
	testenv.Git(t)
	c := state.Component{Name: name, Module: Name, Container: "git"}
	if _, session, ok := strings.Cut(name, "@"); ok {
		c.Session = session
	}
	return state.Target{Component: c, Container: state.Container{Name: "git", Module: Name, Directory: t.TempDir()}, Directory: t.TempDir()}
}

func at(t *testing.T, target state.Target) string {
	t.Helper()
	r, err := open(target)
	if err != nil {
		t.Fatal(err)
	}
	return r.Path
}

// git runs git as a client would; in is its standard input.
func git(t *testing.T, in, folder string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir, cmd.Stdin = folder, strings.NewReader(in)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.org", fmt.Sprintf("GIT_COMMITTER_DATE=%d +0100", 1700000000+changes))
	out, err := cmd.Output()
	if err != nil {
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		t.Fatalf("git %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

var changes int

// push pushes a commit with one more file to a branch, as a person does.
func push(t *testing.T, target state.Target, branch, content string) {
	t.Helper()
	changes++
	working := filepath.Join(t.TempDir(), "working")
	git(t, "", "/", "init", "-q", "-b", branch, working)
	git(t, "", working, "remote", "add", "origin", at(t, target))
	git(t, "", working, "fetch", "-q", "origin")
	if git(t, "", working, "branch", "-r", "--list", "origin/"+branch) != "" {
		git(t, "", working, "reset", "-q", "--hard", "origin/"+branch)
	}
	if err := os.MkdirAll(filepath.Join(working, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(working, "folder", fmt.Sprint("file ", changes)), content)
	git(t, "", working, "add", ".")
	git(t, "", working, "commit", "-q", "-m", "change "+content)
	git(t, "", working, "push", "-q", "origin", "HEAD:refs/heads/"+branch)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, target state.Target, n int) {
	t.Helper()
	changes++
	push(t, target, "main", fmt.Sprint("content ", changes, strings.Repeat("\n", n)))
	push(t, target, fmt.Sprint("side-", n), "x")
	git(t, "", at(t, target), "tag", "-a", "-m", "annotated", fmt.Sprint("tag-", changes), "main")
}

func digest(t *testing.T, target state.Target) string {
	t.Helper()
	return git(t, "", at(t, target), "for-each-ref") + git(t, "", at(t, target), "rev-list", "--objects", "--all")
}

func snapshot(t *testing.T, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := New().Snapshot(t.Context(), target, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func activate(t *testing.T, target state.Target) {
	t.Helper()
	if err := New().Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	moduletest.Run(t, moduletest.Harness{
		Module: New(), NewTarget: newTarget, Change: change, Digest: digest,
		Bad: []state.Properties{{"path": "relative"}, {"path": "/"}, {"bundle": "x"}, {"owner": "a\x00b"}, {"branch": "a..b"}, {"branch": "-x"}},
	})
}

// Everything that a ref can name, and all that fast-export would change, has the same id after a restore; how objects
// are packed is not in a snapshot.
func TestCanonical(t *testing.T) {
	m, target := New(), newTarget(t, "canonical")
	activate(t, target)
	r := at(t, target)
	push(t, target, "main", "one")
	push(t, target, "main", "two")
	blob := git(t, "a lonely file", r, "hash-object", "-w", "--stdin")
	git(t, "", r, "update-ref", "refs/odd/blob", blob)
	git(t, "", r, "update-ref", "refs/odd/tree", git(t, "", r, "rev-parse", "main^{tree}"))
	git(t, "", r, "update-ref", "refs/odd/ünï-\"quoted\"", git(t, "", r, "rev-parse", "main~1"))
	tree := git(t, "160000 commit "+strings.Repeat("1", 40)+"\tsubmodule\n100644 blob "+blob+"\todd name\\\"\n", r, "mktree", "--missing")
	signed := git(t, "tree "+tree+"\nparent "+git(t, "", r, "rev-parse", "main")+"\nparent "+git(t, "", r, "rev-parse", "main~1")+
		"\nauthor A <a> 1 +0000\ncommitter A <a> 99 -0130\nencoding latin1\ngpgsig -----BEGIN\n not a signature\n -----END\n\nm\xe9ssage without an end",
		r, "hash-object", "-t", "commit", "-w", "--stdin", "--literally")
	git(t, "", r, "update-ref", "refs/heads/signed", signed)
	git(t, "", r, "tag", "-a", "-m", "x", "t1", blob)
	git(t, "", r, "tag", "-a", "-m", "x", "t2", "t1")
	git(t, "unreachable", r, "hash-object", "-w", "--stdin")
	content := snapshot(t, target)
	git(t, "", r, "gc", "-q", "--aggressive", "--prune=now")
	if !bytes.Equal(snapshot(t, target), content) {
		t.Error("the snapshot depends on how objects are packed")
	}
	other := newTarget(t, "elsewhere")
	if err := m.Restore(t.Context(), other, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshot(t, other), content) {
		t.Error("the snapshot differs elsewhere")
	}
	activate(t, other)
	if digest(t, other) != digest(t, target) {
		t.Error("restored other objects")
	}
	git(t, "", at(t, other), "fsck", "--full")
	push(t, target, "main", "three")
	longer := snapshot(t, target)
	commits := content[bytes.Index(content, []byte("\ncommit ")):bytes.Index(content, []byte("\ntag "))]
	if !bytes.Contains(longer, commits) {
		t.Error("a push moved what was there before")
	}
}

func TestDetached(t *testing.T) {
	m, target := New(), newTarget(t, "detached")
	activate(t, target)
	empty := snapshot(t, target)
	push(t, target, "main", "one")
	r := at(t, target)
	git(t, "", r, "update-ref", "--no-deref", "HEAD", git(t, "", r, "rev-parse", "main"))
	git(t, "", r, "update-ref", "-d", "refs/heads/main")
	content := snapshot(t, target)
	for _, want := range [][]byte{empty, content, empty} {
		if err := m.Restore(t.Context(), target, bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(snapshot(t, target), want) {
			t.Error("restored another state")
		}
	}
}

func TestTampered(t *testing.T) {
	m, target := New(), newTarget(t, "tampered")
	activate(t, target)
	push(t, target, "main", "one content")
	content := string(snapshot(t, target))
	for name, bad := range map[string]string{
		"another content": strings.Replace(content, "one content", "two content", 1),
		"another ref":     strings.Replace(content, " refs/heads/main\nend", " refs/../main\nend", 1),
		"more":            content + "x",
		"no object":       strings.Replace(content, "\nblob 11\none content", "\nblob 11\none Content", 1),
		"a worktree":      strings.Replace(content, "\"config\"", "\"../../config\"", 1),
	} {
		if bad == content {
			t.Errorf("%s: the test changes nothing", name)
		}
		if err := m.Restore(t.Context(), target, strings.NewReader(bad)); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if string(snapshot(t, target)) != content {
			t.Errorf("%s: the state changed", name)
		}
	}
}

func TestAbilities(t *testing.T) {
	m, target := New(), newTarget(t, "abilities")
	if err := m.Snapshot(t.Context(), target, io.Discard); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	activate(t, target)
	push(t, target, "main", "one")
	content := snapshot(t, target)
	if err := m.Integrity(t.Context(), target); err != nil {
		t.Error(err)
	}
	if v, err := m.Version(t.Context(), target); err != nil || !strings.HasPrefix(v, "Git 2.") {
		t.Errorf("%q, %v", v, err)
	}
	c, err := m.Shell(t.Context(), target, "git rev-parse main")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), c.Path, c.Args...)
	cmd.Env, cmd.Dir = append(os.Environ(), c.Env...), c.Dir
	out, err := cmd.Output()
	id := strings.TrimSpace(string(out))
	if err != nil || !validID(id) {
		t.Errorf("%q, %v", out, err)
	}
	var items []string
	err = m.Items(t.Context(), bytes.NewReader(content), func(i state.Item) error {
		items = append(items, string(i.Key)+"="+string(i.Content))
		return nil
	})
	if err != nil || strings.Join(items, " ") != "HEAD=refs/heads/main refs/heads/main="+id {
		t.Errorf("%v, %v", items, err)
	}
	portable(t, m, target, content)
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := m.Health(t.Context(), target); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
	activate(t, target)
	object := filepath.Join(at(t, target), "objects", id[:2], id[2:])
	if err := errors.Join(os.Remove(object), os.WriteFile(object, []byte("damage"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := m.Integrity(t.Context(), target); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
	if err := m.Snapshot(t.Context(), target, io.Discard); err == nil {
		t.Error("a damaged repository has a snapshot")
	}
}

// portable clones what Export wrote with Git itself.
func portable(t *testing.T, m *Module, target state.Target, content []byte) {
	t.Helper()
	bundle := filepath.Join(t.TempDir(), "it.bundle")
	f, err := os.Create(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Export(t.Context(), bytes.NewReader(content), f), f.Close()); err != nil {
		t.Fatal(err)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	git(t, "", "/", "clone", "-q", bundle, clone)
	if git(t, "", clone, "rev-parse", "HEAD") != git(t, "", at(t, target), "rev-parse", "HEAD") {
		t.Error("the bundle has another HEAD")
	}
	plain, err := os.Open(bundle)
	if err != nil {
		t.Fatal(err)
	}
	var back bytes.Buffer
	if err := errors.Join(m.Import(t.Context(), plain, &back), plain.Close()); err != nil {
		t.Fatal(err)
	}
	fresh := newTarget(t, "from-bundle")
	fresh.Component.Properties = state.Properties{"bundle": bundle}
	activate(t, fresh)
	for range 2 {
		if digest(t, fresh) != digest(t, target) {
			t.Error("the refs that a repository begins with are others")
		}
		if err := m.Restore(t.Context(), fresh, bytes.NewReader(back.Bytes())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefused(t *testing.T) {
	m, target := New(), newTarget(t, "refused")
	working := at(t, target)
	git(t, "", "/", "init", "-q", working)
	if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrNotAble) {
		t.Error(err)
	}
	target = newTarget(t, "in-use")
	activate(t, target)
	push(t, target, "main", "x")
	git(t, "", at(t, target), "worktree", "add", "-q", filepath.Join(t.TempDir(), "tree"), "main")
	if err := m.Snapshot(t.Context(), target, io.Discard); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "work trees") {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := m.Activate(t.Context(), newTargetWithoutGit(t)); err == nil || !strings.Contains(err.Error(), "apt-get install git") {
		t.Error(err)
	}
}

func newTargetWithoutGit(t *testing.T) state.Target {
	t.Helper()
	return state.Target{Component: state.Component{Name: "x"}, Container: state.Container{Directory: t.TempDir()}}
}

// A repository in which somebody works, as a push does, is neither replaced nor taken out of service under it.
func TestWorker(t *testing.T) {
	m, target := New(), newTarget(t, "worker")
	activate(t, target)
	push(t, target, "main", "x")
	content := snapshot(t, target)
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "echo ready; read x")
	cmd.Dir = at(t, target)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := m.Deactivate(t.Context(), target); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	if err := m.Health(t.Context(), target); err != nil {
		t.Error(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.Restore(t.Context(), target, bytes.NewReader(content)) }()
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // read fails at the end of its input
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	m, target := New(), newTarget(t, "owned")
	for dir := target.Container.Directory; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	target.Component.Properties = state.Properties{"owner": "nobody", "group": "nogroup"}
	activate(t, target)
	if err := m.Restore(t.Context(), target, bytes.NewReader(snapshot(t, target))); err != nil {
		t.Fatal(err)
	}
	r, err := open(target)
	if err != nil {
		t.Fatal(err)
	}
	if owner, err := r.Belongs(r.Path); err != nil || owner.UID == 0 || !owner.Shared {
		t.Errorf("%+v, %v", owner, err)
	}
}

// FuzzStream feeds anything as a snapshot to what reads it.
func FuzzStream(f *testing.F) {
	f.Add([]byte(magic + "format sha1\nconfiguration no\nhead refs/heads/main\nobjects 1\nblob 1\nx\nrefs 1\n" + strings.Repeat("0", 40) + " refs/x\nend\n"))
	f.Add([]byte(magic + "format sha256\nconfiguration yes\nfile 0600 1 \"config\"\nxconfigured\nhead refs/heads/main\nobjects 0\nrefs 0\nend\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = New().Items(context.Background(), bytes.NewReader(b), func(state.Item) error { return nil })
	})
}

func TestEntryHead(t *testing.T) {
	for size, want := range map[uint64]string{0: "\x30", 15: "\x3f", 16: "\xb0\x01", 1 << 11: "\xb0\x80\x01"} {
		if got := string(entryHead(3, size)); got != want {
			t.Errorf("%d: %x", size, got)
		}
	}
}

func TestInterrupted(t *testing.T) {
	target := newTarget(t, "interrupted")
	activate(t, target)
	change(t, target, 1)
	content := snapshot(t, target)
	change(t, target, 2)
	moduletest.Interrupted(t, New(), target, content, digest)
}
