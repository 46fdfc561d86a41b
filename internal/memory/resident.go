package memory

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// LetGo takes the program's own pages that are never written (code, constants) out of this process's memory. They come back a few at a time when they are needed, from
// the kernel's cache of the file. Much of what is there after the start of a large program is of what only begins once, of commands that this process never is, and
// what the kernel mapped around that.
func LetGo() error { return advise(unix.MADV_DONTNEED) }

// advise tells the kernel something about the memory where the program's own file is, as far as it is as the file is: of what was written there (addresses that the
// loader has filled in, before it took the right to write away) the file knows nothing.
func advise(advice uintptr) error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	var from, to uintptr
	own := false
	for line := range strings.Lines(string(maps)) {
		var begin, end uintptr
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &begin, &end, &rights); err == nil {
			from, to, own = begin, end, strings.HasSuffix(strings.TrimSpace(line), self) && !strings.Contains(rights, "w")
			continue
		}
		if written, ok := strings.CutPrefix(line, "Anonymous:"); !ok || !own || strings.TrimSpace(written) != "0 kB" {
			continue
		}
		if _, _, failed := unix.Syscall(unix.SYS_MADVISE, from, to-from, advice); failed != 0 {
			return failed
		}
	}
	return nil
}
