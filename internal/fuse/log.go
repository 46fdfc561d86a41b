package fuse

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logCategory is what Pebble calls its write-ahead logs.
const logCategory vfs.DiskWriteCategory = "pebble-wal"

// ahead is how many bytes a log has at the most that are not written yet. A sync of a file that grows makes its new size and place durable, too, which
// takes about twice as long as a sync of bytes that had their place before.
const ahead = 1 << 20

// least is how many zeros are added at the least.
const least = 4 << 10

var zeros [64 << 10]byte

// log is a file that grows by zeros, in steps that become longer. A log of Pebble's ends where its records end, as one does that takes the place of an older, longer one.
type log struct {
	file
	at, size int64
}

// newLog returns a log that is written from its beginning; it is as long as it was if it takes the place of an older one.
func newLog(f file) (vfs.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, f.of.check("create", f.name, fmt.Errorf("cannot tell its size: %w", err))
	}
	return &log{file: f, size: info.Size()}, nil
}

// Write writes behind what was written before.
func (l *log) Write(b []byte) (int, error) {
	if end := l.at + int64(len(b)); end > l.size {
		if err := l.grow(end); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(b)
	l.at += int64(n)
	return n, err
}

// grow adds zeros from an offset on.
func (l *log) grow(from int64) error {
	l.size = from + min(max(from, least), ahead)
	for from < l.size {
		n, err := l.WriteAt(zeros[:min(int64(len(zeros)), l.size-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}
