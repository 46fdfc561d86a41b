// Firstframe measures how long the clipboard picker's window takes from the start of its process until its first frame can be seen, and its memory then; on an X server and on a
// Wayland compositor without screens (Xvfb, sway), with histories of several sizes. -against adds another program that is started in the same way, such as
// "rofi -dmenu", whose standard input are as many lines.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kballard/go-shellquote"
)

func main() {
	program := flag.String("clip", "bin/clip", "the program")
	sizes := flag.String("items", "100,10000,100000", "sizes of histories")
	runs := flag.Int("runs", 20, "how often each is measured")
	against := flag.String("against", "", "another program to measure on X, which gets the items as lines")
	flag.Parse()
	if err := run(*program, *sizes, *runs, *against); err != nil {
		fmt.Fprintln(os.Stderr, "firstframe:", err)
		os.Exit(1)
	}
}

func run(program, sizes string, runs int, against string) error {
	program, err := filepath.Abs(program)
	if err != nil {
		return err
	}
	fmt.Println("| history | display | program | first frame, ms: least, median, most | CPU, ms: median | resident, MB | of it its own | load |\n|---|---|---|---|---|---|---|---|")
	for word := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil {
			return err
		}
		if err := history(program, n, runs, against); err != nil {
			return err
		}
	}
	return nil
}

// history measures one size.
func history(program string, n, runs int, against string) (err error) {
	r, err := newRig(program, n)
	if err != nil {
		return err
	}
	defer func() {
		if e := r.close(); err == nil {
			err = e
		}
	}()
	if err := r.measure("X11", r.x11(rows, program, "pick", "--window"), "clip", runs, ""); err != nil {
		return err
	}
	if err := r.measure("Wayland", r.wayland(program, "pick", "--window"), "clip", runs, ""); err != nil {
		return err
	}
	if against == "" {
		return nil
	}
	words, err := shellquote.Split(against)
	if err != nil {
		return err
	}
	return r.measure("X11", r.x11(anywhere, words...), filepath.Base(words[0]), runs, r.lines)
}

// median is the one in the middle.
func median[T int64 | time.Duration](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}
