package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// A probe that is under way when memberlist is shut down ends with its own timeout, which memberlist does not wait for.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probe"))
}

// TestInfection runs it small, on a network that loses datagrams: all nodes are reached, and the picture says so.
func TestInfection(t *testing.T) {
	const nodes = 12
	picture := filepath.Join(t.TempDir(), "infection.svg")
	var out bytes.Buffer
	if err := run(t.Context(), options{nodes: nodes, kill: 1, loss: 0.1, svg: picture, limit: 90 * time.Second}, &screen{w: &out}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"12 of 12 have it", "11 of 11 know it", "10% of all datagrams lost"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output does not say %q:\n%s", want, out.String())
		}
	}
	drawn, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	circles := count(t, drawn)
	// The last frame of each strip shows all nodes; each frame all living ones.
	if circles["healthy"]+circles["fresh"]+circles["ill"] != frames*(nodes+nodes-1)+3 || circles["mark"] != 2*frames {
		t.Errorf("the picture has %v", circles)
	}
}

// count reads a picture and counts its circles by class.
func count(t *testing.T, picture []byte) map[string]int {
	t.Helper()
	circles := map[string]int{}
	d := xml.NewDecoder(bytes.NewReader(picture))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return circles
		}
		if err != nil {
			t.Fatalf("the picture is not well formed: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			for _, a := range e.Attr {
				if a.Name.Local == "class" {
					circles[a.Value]++
				}
			}
		}
	}
}

// scripted is a spread among eight nodes, the last of which is dead.
func scripted() *spread {
	p := newSpread("News", "know it", 8)
	p.at = []time.Duration{2 * time.Second, 2100 * time.Millisecond, 2200 * time.Millisecond, never, never, never, never, never}
	p.dead[7] = true
	return p
}

func TestSpread(t *testing.T) {
	p := scripted()
	if p.total() != 7 || p.complete() || p.count(2100*time.Millisecond) != 2 || p.dawn() != 2*time.Second {
		t.Errorf("%d of %d, from %s", p.count(2100*time.Millisecond), p.total(), p.dawn())
	}
	for i := 3; i < 7; i++ {
		p.at[i] = 3 * time.Second
	}
	if p.part(0.5) != 3*time.Second || !p.complete() {
		t.Errorf("half after %s", p.part(0.5))
	}
	if got := p.summary(); got != "the first after 2 s, half of the nodes know it after 3 s, all 7 after 3 s" {
		t.Error(got)
	}
}

func TestScreen(t *testing.T) {
	p := scripted()
	lines := strings.Split((&screen{live: true}).disc(p, 2150*time.Millisecond), "\n")
	want := []string{"  · ● · ", "  · ● · ", "  × ·   ", "   2.15 s  █████████░"}
	for i, w := range want {
		if !strings.HasPrefix(lines[i], w) {
			t.Errorf("line %d is %q, not %q", i, lines[i], w)
		}
	}
	if at := places(200); len(at) != 200 || at[0] != (place{}) {
		t.Errorf("%d places from %v", len(at), at[0])
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []options{{nodes: 1}, {nodes: 10, kill: 9}, {nodes: 10, loss: 0.9}, {nodes: 10000}} {
		if err := run(t.Context(), o, &screen{w: io.Discard}); err == nil || !strings.HasPrefix(err.Error(), "--") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
