package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	defectRow = regexp.MustCompile(`(?m)^\| (\d+) \|.*\|([^|]*)\|$`)
	quoted    = regexp.MustCompile("`([^`]*)`")
	helpLong  = regexp.MustCompile(`--([a-z-]+)`)
)

// The page about Dysnomia names each of the sixteen defects, and tests of each that exist.
func TestDefectsOfDysnomia(t *testing.T) {
	page, err := os.ReadFile("dysnomia.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := defectRow.FindAllStringSubmatch(string(page), -1)
	if len(rows) != 16 {
		t.Fatalf("%d defects", len(rows))
	}
	for i, row := range rows {
		if row[1] != fmt.Sprint(i+1) {
			t.Errorf("row %d is of defect %s", i+1, row[1])
		}
		tests := quoted.FindAllStringSubmatch(row[2], -1)
		if len(tests) == 0 {
			t.Errorf("defect %s has no test", row[1])
		}
		for _, one := range tests {
			if !testExists(t, one[1]) {
				t.Errorf("defect %s: there is no test %s", row[1], one[1])
			}
		}
	}
}

// testExists finds a script by its path, or a test by FOLDER:NAME.
func testExists(t *testing.T, name string) bool {
	t.Helper()
	folder, function, isTest := strings.Cut(name, ":")
	if !isTest {
		_, err := os.Stat(filepath.Join("..", name))
		return err == nil
	}
	files, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "func "+function+"(") {
			return true
		}
	}
	return false
}

// Each option that a command of Dysnomia takes here is in the page.
func TestOptionsOfDysnomia(t *testing.T) {
	page, err := os.ReadFile("dysnomia.md")
	if err != nil {
		t.Fatal(err)
	}
	program := orrery(t)
	for _, name := range []string{"dysnomia", "dysnomia-snapshots", "dysnomia-containers"} {
		_, section, ok := strings.Cut(string(page), "\n## "+name+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if !ok {
			t.Errorf("no section about %s", name)
		}
		out, err := exec.CommandContext(context.WithoutCancel(t.Context()), program, "compat", name, "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		_, options, _ := strings.Cut(string(out), "Options:")
		options, _, _ = strings.Cut(options, "Environment:")
		for _, option := range helpLong.FindAllStringSubmatch(options, -1) {
			if !strings.Contains(section, "`--"+option[1]+"`") {
				t.Errorf("%s: --%s is not in the page", name, option[1])
			}
		}
	}
}
