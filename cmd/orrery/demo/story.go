// Package demo tells the main story of Orrery with real parts: three node
// processes, a manifest, a move with data under load, a disaster and its repair, and a
// developer's session. Every claim is checked; the first that does not hold ends the story.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// Options are what the story needs to know.
type Options struct {
	Self    string    // the orrery binary
	Dir     string    // wiped at the start; everything goes below it
	Example string    // the folder of the observatory, programs built
	Exit    bool      // stop after the story instead of running on
	Out     io.Writer // a line a step
	Color   bool
}

// story is the state that its steps share.
type story struct {
	Options
	nodes    []*node         // one, two, three
	manifest string          // the copy of the manifest that the story edits
	sky      *visitor        // a visitor at sky's public address
	acked    map[string]bool // texts of the notes that were acknowledged
	rows     []row           // for the table at the end
	facts    []fact          // likewise
	link     string          // of the dashboard
	garbage  string          // path of the notes' database on the node it moved to
}

// row is one step that was carried out.
type row struct {
	title  string
	took   time.Duration
	result string
}

// fact is one figure that the story measured.
type fact struct{ name, value string }

// step is one paragraph of the story.
type step struct {
	title string
	run   func(context.Context) (result string, err error)
}

// claim is an error if what the story says does not hold.
func claim(holds bool, format string, args ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf("a claim does not hold: "+format, args...)
}

// Run tells the story. It returns when the story is over (Exit) or when ctx
// ends; no process is left either way.
func Run(ctx context.Context, o Options) (err error) {
	s := &story{Options: o, acked: map[string]bool{}}
	if s.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	for _, step := range s.steps() {
		if err := s.tell(ctx, step); err != nil {
			return err
		}
	}
	s.summary()
	if o.Exit {
		return nil
	}
	fmt.Fprintf(o.Out, "\nThe nodes go on running. Dashboard: %s\nSky: %s\nPress Ctrl-C to stop everything.\n", s.link, s.sky.base)
	<-ctx.Done()
	fmt.Fprintln(o.Out, "stopping")
	return nil
}

func (s *story) steps() []step {
	return []step{
		{"three nodes find each other and form a cluster", s.formCluster},
		{"the manifest is validated and planned", s.plan},
		{"the observatory is deployed: catalog, notes, sky", s.deploy},
		{"visitors write notes through the router and read them back", s.life},
		{"notes moves from node two to node three while a writer writes", s.move},
		{"everything is backed up", s.backup},
		{"disaster: the notes database is overwritten with garbage", s.disaster},
		{"restore brings the notes back", s.restore},
		{"a developer's blue sky joins as a session, on a fork of the notes", s.session},
		{"the session ends; production has every note it had", s.afterSession},
	}
}

// tell carries out one step and prints it in one line.
func (s *story) tell(ctx context.Context, step step) error {
	if s.Color {
		fmt.Fprintf(s.Out, "\033[2m…  %s\033[0m", step.title)
	}
	began := time.Now()
	result, err := step.run(ctx)
	took := time.Since(began)
	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted: %w", ctx.Err())
	}
	mark, colour := "ok", "\033[32m"
	if err != nil {
		mark, colour, result = "FAILED", "\033[31m", "logs are in "+s.Dir
	}
	if s.Color {
		fmt.Fprintf(s.Out, "\r\033[K%s%-6s\033[0m %6.2fs  \033[1m%s\033[0m  \033[2m%s\033[0m\n", colour, mark, took.Seconds(), step.title, result)
	} else {
		fmt.Fprintf(s.Out, "%-6s %6.2fs  %s  %s\n", mark, took.Seconds(), step.title, result)
	}
	s.rows = append(s.rows, row{step.title, took, result})
	if err != nil {
		return fmt.Errorf("%s: %w", step.title, err)
	}
	return nil
}

// summary prints the table at the end.
func (s *story) summary() {
	fmt.Fprintln(s.Out)
	w := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', tabwriter.AlignRight)
	var total time.Duration
	for i, r := range s.rows {
		total += r.took
		fmt.Fprintf(w, "%d\t%.2fs\t\t %s\n", i+1, r.took.Seconds(), r.title)
	}
	fmt.Fprintf(w, "all\t%.2fs\t\t\n", total.Seconds())
	if err := w.Flush(); err != nil {
		return // standard output is gone, and with it whoever reads
	}
	fmt.Fprintln(s.Out)
	w = tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	for _, f := range s.facts {
		fmt.Fprintf(w, "%s\t%s\n", f.name, f.value)
	}
	if err := w.Flush(); err != nil {
		return // as above
	}
}

func (s *story) fact(name string, value fmt.Stringer) {
	s.facts = append(s.facts, fact{name, value.String()})
}

// prepare wipes the folder and copies the example into it, for the story edits the manifest.
func (s *story) prepare() error {
	for _, program := range []string{"catalog", "notes", "sky", "sky-blue"} {
		path := filepath.Join(s.Example, "bin", program)
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("program %s is missing (run make build, and the demo from the top of the source tree or with --example)", path)
		}
	}
	if err := wipe(s.Dir); err != nil {
		return err
	}
	copied := filepath.Join(s.Dir, "observatory")
	for _, pattern := range []string{"*.cue", "*/*.sql", "bin/*"} {
		if err := copyMatching(s.Example, pattern, copied); err != nil {
			return fmt.Errorf("cannot copy the example %s: %w", s.Example, err)
		}
	}
	s.manifest = filepath.Join(copied, "observatory.cue")
	return nil
}

// copyMatching copies the files below from that match a pattern to the same places below to.
func copyMatching(from, pattern, to string) error {
	names, err := fs.Glob(os.DirFS(from), pattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, content, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// marker is a file that says that a folder is a demo's, so that nothing else is ever wiped.
const marker = ".orrery-demo"

func wipe(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, marker)); err != nil && len(entries) > 0 {
		return fmt.Errorf("folder %s is not empty and not a demo's (choose another with --dir)", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, marker), nil, 0o644)
}
