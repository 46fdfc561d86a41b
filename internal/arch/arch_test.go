// Package arch holds the import rules of the tree, and checks them.
//
// A package imports from its own column downwards, the contract roots of the columns that its column stands
// on, and internal leaves. Columns meet in cmd. Every exception is a line with its reason below.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// columns are the parts, each with the columns whose contract roots it may import.
var columns = map[string][]string{
	"fabric":    nil,
	"state":     {"fabric"}, // state/remote reaches another node
	"deploy":    {"fabric", "state"},
	"session":   {"fabric", "state", "deploy"},
	"dashboard": {"fabric", "state", "deploy", "session"},
	"clip":      {"fabric"}, // discovery, for machines of one person
	"matrix":    nil,
}

// contracts import the standard library and, where noted in columns, other contracts.
var contracts = []string{"fabric", "fabric/chain", "state", "deploy", "session", "clip", "matrix", "matrix/table"}

// pure are the packages that take values and return values: no sockets, files, clocks or logs.
var pure = []string{
	"state/delta", "state/schedule", "state/retention", "state/address", "state/difference", "deploy/plan", "session/route", "fabric/chain/machine", "fabric/chain/replica", "fabric/chain/placement",
	"clip/find", "clip/policy", "clip/markup", "clip/action", "clip/picker", "clip/replica", "clip/window/keyboard", "clip/window/typeset", "clip/window/paint",
	"matrix/canonical", "matrix/signature", "matrix/event", "matrix/auth", "matrix/resolve", "matrix/push", "matrix/sync/window", "matrix/contact", "matrix/appservice", "matrix/rendezvous", "matrix/acl", "matrix/media/picture",
}

// impure is what a pure package must not import.
var impure = []string{"net", "net/http", "os", "os/exec", "log", "log/slog", "syscall"}

// exceptions allow one import each; the value is the reason.
var exceptions = map[string]string{
	"orrery/examples/infection -> orrery/fabric":            "it is an example of using the library",
	"orrery/examples/infection -> orrery/fabric/membership": "it is an example of using the library",
}

type pkg struct {
	ImportPath string
	Imports    []string
	Module     *struct{ Path string }
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "orrery/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func column(path string) string {
	path = strings.TrimPrefix(path, "orrery/")
	first, _, _ := strings.Cut(path, "/")
	return first
}

func TestImports(t *testing.T) {
	used := map[string]bool{}
	for _, p := range list(t) {
		for _, imported := range p.Imports {
			why := forbidden(p.ImportPath, imported)
			if why == "" {
				continue
			}
			key := p.ImportPath + " -> " + imported
			if _, ok := exceptions[key]; ok {
				used[key] = true
				continue
			}
			t.Errorf("%s: %s", key, why)
		}
	}
	for key := range exceptions {
		if !used[key] {
			t.Errorf("exception %q is not needed any more", key)
		}
	}
}

// forbidden says why a package may not import another, or "".
func forbidden(from, to string) string {
	rel := strings.TrimPrefix(from, "orrery/")
	if slices.Contains(pure, rel) && slices.Contains(impure, to) {
		return "a pure package does no I/O and reads no clock"
	}
	if slices.Contains(contracts, rel) && strings.Contains(to, ".") {
		return "a contract imports the standard library and contracts only"
	}
	if !strings.HasPrefix(to, "orrery/") {
		if strings.HasPrefix(to, "k8s.io/") || strings.HasPrefix(to, "sigs.k8s.io/") {
			return "only the operator's packages may import Kubernetes"
		}
		return ""
	}
	a, b := column(from), column(to)
	switch {
	case b == "cmd":
		if a == "cmd" {
			return ""
		}
		return "nobody imports cmd"
	case a == "cmd" || a == "test" || a == "bench":
		return ""
	case a == "examples":
		if b == "examples" {
			return ""
		}
		return "examples are ordinary programs that know nothing of Orrery"
	case a == "internal":
		if b == "internal" {
			return ""
		}
		return "internal holds leaves without a domain"
	case b == "internal" || a == b:
		return ""
	case !slices.Contains(columns[a], b):
		return "column " + a + " does not stand on column " + b
	case to != "orrery/"+b:
		return "only the contract of another column may be imported"
	}
	return ""
}

func TestRulesBite(t *testing.T) {
	for _, c := range [][2]string{
		{"orrery/state/delta", "os"},
		{"orrery/state", "github.com/klauspost/compress/zstd"},
		{"orrery/state/store", "orrery/deploy"},
		{"orrery/deploy/engine", "orrery/state/store"},
		{"orrery/examples/observatory/sky", "orrery/state"},
		{"orrery/internal/life", "orrery/state"},
		{"orrery/fabric/rpc", "k8s.io/client-go"},
	} {
		if forbidden(c[0], c[1]) == "" {
			t.Errorf("%s may import %s", c[0], c[1])
		}
	}
}
