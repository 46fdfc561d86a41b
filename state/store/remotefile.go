package store

import (
	"fmt"
	"io"

	"orrery/state"
)

// How much is read of an object at once, since each read waits for an answer.
const (
	readAtLeast = 64 << 10
	readAhead   = 512 << 10 // where reads follow each other
)

// remoteFile reads an object. Like the catalog that has it, it is not safe for concurrent use.
type remoteFile struct {
	files  *bucketFiles
	object string
	size   int64
	start  int64 // of what is in buffer
	buffer []byte
}

func (r *remoteFile) ReadAt(b []byte, offset int64) (n int, err error) {
	for n < len(b) {
		at := offset + int64(n)
		if at >= r.size {
			return n, io.EOF
		}
		if at < r.start || at >= r.start+int64(len(r.buffer)) {
			if err := r.fill(at, int64(len(b)-n)); err != nil {
				return n, err
			}
		}
		n += copy(b[n:], r.buffer[at-r.start:])
	}
	return n, nil
}

// fill reads what is wanted and somewhat more.
func (r *remoteFile) fill(at, wanted int64) error {
	start, length := at, max(wanted, readAtLeast)
	switch {
	case len(r.buffer) > 0 && at == r.start+int64(len(r.buffer)):
		length = max(wanted, readAhead)
	case at+wanted >= r.size: // the end of a pack is read first, and then what is in front of it
		start = max(0, min(at, r.size-readAtLeast))
	}
	length = min(length+at-start, r.size-start)
	b, err := r.files.fetch(r.object, start, min(length, maxManifest))
	if err != nil {
		return fmt.Errorf("cannot read %s at %d: %w", r.object, start, err)
	}
	if len(b) == 0 {
		return fmt.Errorf("%s: %w: it is cut off", r.object, state.ErrCorrupt)
	}
	r.start, r.buffer = start, b
	return nil
}

func (r *remoteFile) Close() error {
	r.buffer = nil
	return nil
}

func (*remoteFile) Pace() error               { return nil }
func (*remoteFile) Sync() error               { return nil }
func (*remoteFile) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
