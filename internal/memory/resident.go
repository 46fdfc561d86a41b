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

// advise tells the kernel something about the memory where the program's own file is.
func advise(advice uintptr) error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil || !strings.HasSuffix(strings.TrimSpace(line), self) || strings.Contains(rights, "w") {
			continue
		}
		if _, _, failed := unix.Syscall(unix.SYS_MADVISE, from, to-from, advice); failed != 0 {
			return failed
		}
	}
	return nil
}
