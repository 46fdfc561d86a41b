// Firstframe measures how long the clipboard picker's window takes from the start of its process until its first frame can be seen, and its memory then; on an X server and on a
// Wayland compositor without screens (Xvfb, sway), with histories of several sizes. -against adds another program that is started in the same way, such as
// "rofi -dmenu", whose standard input are as many lines.
package main

import (
	"encoding/base64"
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

// corpus writes a history as clip export has it, and its lines. Texts have some 65 bytes, as those that people copy have on average when few are long.
func corpus(folder string, n int) (export, lines string, err error) {
	export, lines = filepath.Join(folder, "export"), filepath.Join(folder, "lines")
	var items, texts strings.Builder
	fmt.Fprintln(&items, `{"format":"orrery-clip-export","version":1}`)
	words := strings.Fields("the of and a to in is you that it he was for on are as with his they at be this have from or one had by word but not what all were we when")
	at := time.Now().Add(-time.Duration(n) * time.Minute)
	for i := range n {
		said := []string{"item", strconv.Itoa(i)}
		for j := range 12 {
			said = append(said, words[(i*7+j*j*13+i*j)%len(words)])
		}
		text := strings.Join(said, " ")
		fmt.Fprintln(&texts, text)
		when := at.Add(time.Duration(i) * time.Minute).UTC().Format(time.RFC3339)
		fmt.Fprintf(&items, `{"contents":[{"type":"text/plain;charset=utf-8","data":%q}],"created":%q,"used":%q,"count":1}`+"\n", base64.StdEncoding.EncodeToString([]byte(text)), when, when)
	}
	if err := os.WriteFile(export, []byte(items.String()), 0o600); err != nil {
		return "", "", err
	}
	return export, lines, os.WriteFile(lines, []byte(texts.String()), 0o600)
}

// median is the one in the middle.
func median[T int64 | time.Duration](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}
