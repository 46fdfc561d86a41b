package memory

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
)

// inMemory is how much of the files that are mapped is in memory, in kB, by what /proc/self/status said.
func inMemory(t *testing.T, status []byte) int {
	t.Helper()
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
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var before, after [8192]byte
	if _, err := unix.Pread(int(f.Fd()), before[:], 0); err != nil {
		t.Fatal(err)
	}
	letGo := LetGo()
	_, err = unix.Pread(int(f.Fd()), after[:], 0) // before anything else brings pages back
	if letGo != nil || err != nil {
		t.Fatal(letGo, err)
	}
	if was, is := inMemory(t, before[:]), inMemory(t, after[:]); is > was*3/4 { // the rest is of shared libraries, and what this needs
		t.Errorf("%d kB of %d stay", is, was)
	}
}
