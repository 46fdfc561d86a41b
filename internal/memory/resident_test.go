package memory

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
)

// inMemory is how much of the files that are mapped is in memory, in kB.
func inMemory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`RssFile:\s+(\d+)`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("%s", status)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLetGo: most of the program leaves memory, and it goes on.
func TestLetGo(t *testing.T) {
	if err := advise(unix.MADV_POPULATE_READ); err != nil {
		testenv.Missing(t, "a kernel with MADV_POPULATE_READ: "+err.Error(), "Linux 5.14 or newer")
	}
	before := inMemory(t)
	if err := LetGo(); err != nil {
		t.Fatal(err)
	}
	if after := inMemory(t); after > before*3/4 { // the rest is of shared libraries, and what this needs
		t.Errorf("%d kB of %d stay", after, before)
	}
}
