// Command testreport reads the output of `go test -json` and prints what a
// person wants of it: a line a package, the output of what failed, and at the end what was
// skipped and why. It exits with 1 if anything failed, or was skipped with ORRERY_TEST_NO_SKIP=1.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	failed, err := report(os.Stdin, os.Stdout, os.Getenv("ORRERY_TEST_NO_SKIP") == "1")
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if failed {
		os.Exit(1)
	}
}

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

// report copies what matters from r to w and says whether anything failed; with noSkip a skip is a failure.
func report(r io.Reader, w io.Writer, noSkip bool) (failed bool, err error) {
	output := map[string][]string{} // of a running test, by package and test
	var skips []string
	passed, failures := 0, 0
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(w, lines.Text())
			continue
		}
		key := e.Package + e.ImportPath + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			output[key] = append(output[key], e.Output)
			continue
		case "pass":
			if e.Test != "" {
				passed++
			} else {
				fmt.Fprintf(w, "ok   %-40s %6.1fs\n", e.Package, e.Elapsed)
			}
		case "skip":
			if e.Test != "" {
				skips = append(skips, e.Package+" "+e.Test+": "+reason(output[key]))
			}
		case "fail", "build-fail":
			failed = true
			if e.Test != "" {
				failures++
			}
			fmt.Fprintf(w, "FAIL %s %s\n%s", e.Package+e.ImportPath, e.Test, strings.Join(output[key], ""))
		default:
			continue
		}
		delete(output, key)
	}
	for _, s := range skips {
		fmt.Fprintln(w, "skipped:", s)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", passed, failures, len(skips))
	return failed || noSkip && len(skips) > 0, lines.Err()
}

// reason is the text of a test's own output: why it was skipped.
func reason(output []string) string {
	var kept []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, " ")
}
