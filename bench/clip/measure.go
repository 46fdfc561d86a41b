package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/bench/internal/desktop"
	"orrery/bench/internal/server"
	"orrery/clip/control"
	"orrery/clip/x11"
)

// measureHistory measures everything with a history of some size.
func measureHistory(program string, n, copies int) (err error) {
	r, err := newRig()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	m := &measuring{rig: r, program: program, n: n, client: control.Client{Socket: filepath.Join(r.folder, "run", "orrery-clip", "socket")}}
	if err := m.fill(); err != nil {
		return err
	}
	for _, step := range []func() error{m.memory, func() error { return m.copies(copies) }, m.list, m.searches, m.picture, m.burst, m.memory} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// measuring is one recorder while it is measured.
type measuring struct {
	*rig

	program  string
	n        int
	client   control.Client
	recorder *server.Process
}

func (m *measuring) fill() (err error) {
	export, _, err := desktop.History(m.folder, m.n)
	if err != nil {
		return err
	}
	if err := m.record(); err != nil {
		return err
	}
	if out, err := m.command(m.program, "import", export).CombinedOutput(); err != nil {
		return fmt.Errorf("import: %w: %s", err, out)
	}
	if err := m.recorder.Stop(os.Interrupt); err != nil { // as after the next login
		return err
	}
	m.processes = m.processes[:len(m.processes)-1]
	return m.record()
}

func (m *measuring) record() (err error) {
	if m.recorder, err = m.start(m.command(m.program, "record"), "recorder"); err != nil {
		return err
	}
	return await("the recorder", func() bool { _, err := m.status(); return err == nil })
}

func (m *measuring) status() (*control.Status, error) {
	r, _, err := m.client.Do(context.Background(), control.Request{Op: control.OpStatus})
	if err != nil {
		return nil, err
	}
	return r.Status, nil
}

func (m *measuring) say(work, format string, args ...any) {
	say(fmt.Sprintf("%s, %d items", work, m.n), "clip", format, args...)
}

// memory waits until the recorder has nothing to do.
func (m *measuring) memory() error {
	time.Sleep(12 * time.Second)
	all := server.Memory(m.recorder.PID())
	m.say("recorder's memory, idle", "%.1f MB resident, of it %.1f its own", float64(all["VmRSS"])/1e6, float64(all["RssAnon"])/1e6)
	return nil
}

// watch is told of what is recorded.
type watch struct {
	lines io.ReadCloser
	read  *bufio.Scanner
}

func (m *measuring) watch() (*watch, error) {
	lines, err := m.client.Lines(context.Background(), control.Request{Op: control.OpWatch})
	if err != nil {
		return nil, err
	}
	return &watch{lines, bufio.NewScanner(lines)}, nil
}

// until waits for an item by its preview.
func (w *watch) until(preview string) error {
	for w.read.Scan() {
		if _, text, _ := strings.Cut(w.read.Text(), "\t"); text == preview {
			return nil
		}
	}
	return fmt.Errorf("%s was not recorded: %w", preview, w.read.Err())
}

// copies makes distinct copies one after another, each recorded before the next.
func (m *measuring) copies(n int) error {
	o, err := startOwner(m.env)
	if err != nil {
		return err
	}
	w, err := m.watch()
	if err != nil {
		return err
	}
	before := used(m.recorder.PID())
	took := make([]time.Duration, 0, n)
	for i := range n {
		words := []string{"copy", strconv.Itoa(i), "of", strconv.Itoa(n)}
		begun := time.Now()
		if err := errors.Join(o.do(append([]string{"text"}, words...)...), w.until(strings.Join(words, " "))); err != nil {
			return err
		}
		took = append(took, time.Since(begun))
	}
	spent := used(m.recorder.PID()) - before
	m.say("a copy, durable", "%.2f ms of processor; on disk after %s in the median, 95 %% within %s", ms(spent)/float64(n), round(at(took, 50)), round(at(took, 95)))
	return errors.Join(w.lines.Close(), o.kill())
}

// used is the processor time that the threads of a process have used.
func used(pid int) time.Duration {
	var all time.Duration
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // the pattern is sound
	for _, f := range files {
		spent, _, _ := strings.Cut(read(f), " ")
		n, _ := strconv.ParseInt(spent, 10, 64)
		all += time.Duration(n)
	}
	return all
}

// list prints all.
func (m *measuring) list() error {
	var wall, cpu []time.Duration
	for range 10 {
		before, begun := used(m.recorder.PID()), time.Now()
		cmd := m.command(m.program, "list")
		cmd.Stdout = io.Discard
		if err := cmd.Run(); err != nil {
			return err
		}
		wall = append(wall, time.Since(begun))
		cpu = append(cpu, used(m.recorder.PID())-before+cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	m.say("the whole list as TSV", "%.0f ms of processor (recorder and clip list), %s until it is printed, medians of 10", ms(at(cpu, 50)), round(at(wall, 50)))
	return nil
}

// typed is what somebody types, letter by letter.
const typed = "the word 4"

// searches are those of a picker, one for each letter that is typed.
func (m *measuring) searches() error {
	for _, mode := range []string{"words", "fuzzy", "regexp"} {
		var took []time.Duration
		before := used(m.recorder.PID())
		for range 3 {
			for i := range typed {
				begun := time.Now()
				if err := m.search(typed[:i+1], mode); err != nil {
					return err
				}
				took = append(took, time.Since(begun))
			}
		}
		spent := used(m.recorder.PID()) - before
		m.say("a search for each letter of a query: "+mode, "%s in the median, %s at most, %.1f ms of processor", round(at(took, 50)), round(at(took, 100)), ms(spent)/float64(len(took)))
	}
	if _, err := exec.LookPath("fzf"); err != nil {
		return nil //nolint:nilerr // it is left out
	}
	begun := time.Now()
	cmd := m.command("sh", "-c", `"$0" list | fzf -f "$1" >/dev/null`, m.program, typed)
	if err := cmd.Run(); err != nil {
		return err
	}
	say(fmt.Sprintf("fuzzy search, %d items", m.n), "clip list \\| fzf -f", "%s, %.0f ms of processor", round(time.Since(begun)), ms(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()))
	return nil
}

func (m *measuring) search(query, mode string) (err error) {
	lines, err := m.client.Lines(context.Background(), control.Request{Op: control.OpSearch, Query: query, Mode: mode, Limit: 1000, Format: control.FormatJSON})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, bufio.NewReader(lines))
	return errors.Join(err, lines.Close())
}

const pictureSize = 5_000_000

// picture kills the owner of a picture.
func (m *measuring) picture() error {
	want := picture(pictureSize)
	var offered, complete []time.Duration
	for range 10 {
		o, err := startOwner(m.env)
		if err != nil {
			return err
		}
		w, err := m.watch()
		if err != nil {
			return err
		}
		if err := errors.Join(o.do("picture", strconv.Itoa(pictureSize)), w.until("image/png"), w.lines.Close()); err != nil {
			return err
		}
		a, b, err := m.lose(o, want)
		if err != nil {
			return err
		}
		offered, complete = append(offered, a), append(complete, b)
	}
	m.say("a picture of 5 MB, its owner killed", "offered again after %s in the median (%s to %s), read back whole, the same bytes, after %s (%s to %s)", round(at(offered, 50)), round(at(offered, 0)), round(at(offered, 100)), round(at(complete, 50)), round(at(complete, 0)), round(at(complete, 100)))
	return nil
}

// lose kills the owner, and waits for what it had.
func (m *measuring) lose(o *owner, want []byte) (offered, complete time.Duration, err error) {
	d, err := x11.Open(x11.Config{})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	ctx, end := context.WithTimeout(context.Background(), patience)
	defer end()
	if _, err := d.Next(ctx); err != nil { // the owner's own offer
		return 0, 0, err
	}
	begun := time.Now()
	if err := o.kill(); err != nil {
		return 0, 0, err
	}
	a, b, err := readBack(ctx, d, want)
	return a.Sub(begun), b.Sub(begun), err
}

// burst copies a thousand times in a second.
func (m *measuring) burst() error {
	const n = 1000
	was, err := m.status()
	if err != nil {
		return err
	}
	o, err := startOwner(m.env)
	if err != nil {
		return err
	}
	before, begun := used(m.recorder.PID()), time.Now()
	if err := o.do("burst", strconv.Itoa(n), "1000"); err != nil {
		return err
	}
	took := time.Since(begun)
	last := fmt.Sprintf("burst %d of %d", n, n)
	if err := await("the last copy", func() bool {
		out, err := m.command(m.program, "list", "-n", "1").Output()
		_, text, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
		return err == nil && text == last
	}); err != nil {
		return err
	}
	spent := used(m.recorder.PID()) - before
	s, err := m.status()
	if err != nil {
		return err
	}
	m.say("a burst of 1,000 copies", "made in %s; the last one is kept, and %d of those that it replaced; %.0f ms of processor", round(took), s.Counts.Recorded-was.Counts.Recorded-1, ms(spent))
	return o.kill()
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// at is a percentile; it sorts.
func at(values []time.Duration, percent int) time.Duration {
	slices.Sort(values)
	return values[min(len(values)-1, len(values)*percent/100)]
}
