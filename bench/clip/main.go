// Clip measures the clipboard's recorder on an X server without a screen: memory, processor time for a copy, lists, searches, a large picture whose owner is killed,
// and a burst of copies; beside parcellite, CopyQ and GPaste where they are installed.
//
// Copies are made by a process of its own (clip owner), which serves what it has copied until it is killed.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "owner" {
		if err := own(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "owner:", err)
			os.Exit(1)
		}
		return
	}
	program := flag.String("clip", "bin/clip", "the program")
	sizes := flag.String("items", "10000,100000", "sizes of histories")
	copies := flag.Int("copies", 300, "copies that are made one after another")
	peers := flag.Bool("peers", true, "measure parcellite, CopyQ and GPaste, too")
	flag.Parse()
	if err := run(*program, *sizes, *copies, *peers); err != nil {
		fmt.Fprintln(os.Stderr, "clip:", err)
		os.Exit(1)
	}
}

func run(program, sizes string, copies int, peers bool) error {
	program, err := filepath.Abs(program)
	if err != nil {
		return err
	}
	fmt.Println("| work | program | result | load |\n|---|---|---|---|")
	for word := range strings.FieldsFuncSeq(sizes, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil {
			return err
		}
		if err := measureHistory(program, n, copies); err != nil {
			return err
		}
	}
	if !peers {
		return nil
	}
	return measurePeers(copies)
}

// say prints a line of the table.
func say(work, program, format string, args ...any) {
	load, _, _ := strings.Cut(read("/proc/loadavg"), " ")
	fmt.Printf("| %s | %s | %s | %s |\n", work, program, fmt.Sprintf(format, args...), load)
}

func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text)
}
