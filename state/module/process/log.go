package process

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

const (
	logSize  = 1 << 20 // of one log file
	logFiles = 4       // current and those before it
	tailSize = 8 << 10 // bytes of output that are remembered for error messages
	tailLine = 8       // lines that an error message quotes
)

// logFile keeps a process's output in files that are rotated by size, and its last lines in memory.
type logFile struct {
	directory string

	mu   sync.Mutex
	file *os.File // nil after an error; opened anew by the next write
	size int64
	tail []byte
}

func openLog(directory string) (*logFile, error) {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, err
	}
	l := &logFile{directory: directory}
	return l, l.open()
}

func (l *logFile) path(name string) string { return filepath.Join(l.directory, name) }

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path("current"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write never fails: a full disk costs log lines, not the process that wrote them.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p...)
	if excess := len(l.tail) - tailSize; excess > 0 {
		l.tail = append(l.tail[:0], l.tail[excess:]...)
	}
	for rest := p; len(rest) > 0; {
		if l.size >= logSize {
			l.rotate()
		}
		if l.file == nil && l.open() != nil || l.size >= logSize {
			break
		}
		part := rest[:min(len(rest), int(logSize-l.size))]
		n, err := l.file.Write(part)
		l.size += int64(n)
		if err != nil {
			l.close()
			break
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// rotate makes current 1, 1 2, and so on, and begins a new current.
func (l *logFile) rotate() {
	l.close()
	for i := logFiles - 1; i > 1; i-- {
		if err := os.Rename(l.path(strconv.Itoa(i-1)), l.path(strconv.Itoa(i))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err := os.Rename(l.path("current"), l.path("1")); err != nil {
		// The folder cannot be written: the bound on size matters more than the old lines.
		_ = os.Truncate(l.path("current"), 0) // then there is nothing left to try
	}
}

func (l *logFile) close() {
	if l.file != nil {
		_ = l.file.Close() // what a log could not write is lost either way
		l.file = nil
	}
	l.size = 0
}

// Close closes the file; a later write opens it again.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
	return nil
}

// quoteTail returns the last lines for the end of an error message; empty if there are none.
func (l *logFile) quoteTail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := bytes.TrimRight(l.tail, "\n")
	if len(text) == 0 {
		return ""
	}
	lines := strings.Split(strings.ToValidUTF8(string(text), "?"), "\n")
	lines = lines[max(0, len(lines)-tailLine):]
	return "; its last output:\n  " + strings.Join(lines, "\n  ")
}
