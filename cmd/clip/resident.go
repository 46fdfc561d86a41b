package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// begins is how long the recorder takes to begin: afterwards it needs little of its code.
const begins = 3 * time.Second

// letGo takes the program's own pages that are never written (code, constants) out of this process's memory. They come back one by one when they are needed, from the kernel's cache of the file.
// Half of what is there after the start is of what only begins once, or of commands that this process never is.
func letGo() error { return advise(unix.MADV_DONTNEED) }

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
