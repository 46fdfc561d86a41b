package roster_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/discovery/roster"
)

func TestParse(t *testing.T) {
	for _, content := range []string{
		"# nodes\n\n one.example.org:7373 \r\n{\"cluster\":\"c\",\"id\":\"i\",\"name\":\"n\",\"rpc\":\"[::1]:2\",\"gossip\":\"[::1]:3\"}\n",
		`["one.example.org:7373", {"cluster":"c","id":"i","name":"n","rpc":"[::1]:2","gossip":"[::1]:3"}]`,
	} {
		all, err := roster.Parse([]byte(content))
		want := []fabric.Beacon{{RPC: "one.example.org:7373"}, {Cluster: "c", ID: "i", Name: "n", RPC: "[::1]:2", Gossip: "[::1]:3"}}
		if err != nil || !slices.Equal(all, want) {
			t.Errorf("%q: %+v, %v", content, all, err)
		}
	}
	for _, content := range []string{"one", "one:0", "one:70000", ":1", "{}", `{"rpc":"a:1","gossip":"x"}`, "[1]", `["a"]`, "a:1\nb", "a b:1", "[[]]"} {
		if all, err := roster.Parse([]byte(content)); err == nil {
			t.Errorf("%q is %+v", content, all)
		}
	}
}

// follow runs a file's way and returns what it finds, and how it ended.
func follow(t *testing.T, f *roster.File) (<-chan fabric.Beacon, <-chan error) {
	t.Helper()
	found, done := make(chan fabric.Beacon, 16), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- f.Run(ctx, nil, func(b fabric.Beacon) { found <- b })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return found, done
}

func TestFileChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes")
	found, done := follow(t, &roster.File{Path: path, Optional: true, Interval: time.Millisecond})
	for _, content := range []string{"one:1\n", "two:2\n"} {
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		if b := <-found; b.RPC != content[:5] || b.Via != roster.ViaFile {
			t.Errorf("found %+v", b)
		}
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("nonsense is a list of nodes")
	}
}

func TestFileMissing(t *testing.T) {
	_, done := follow(t, &roster.File{Path: filepath.Join(t.TempDir(), "nodes")})
	if err := <-done; err == nil {
		t.Error("a missing file is no error")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"a:1", "#", `["a:1"]`, `{"rpc":"a:1"}`, "[", "{"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		all, err := roster.Parse(content)
		if err != nil {
			return
		}
		for _, b := range all {
			if b.RPC == "" {
				t.Errorf("%q has a node without an address", content)
			}
		}
	})
}
