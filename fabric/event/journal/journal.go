// Package journal keeps the newest records of a log on the disk, within limits of bytes, number and age.
//
// A record has a Position (from 1, without holes), the time at which it was appended, a Head that is kept in memory, and a Body that is read when
// it is asked for. Records are in segments, files that are named after their first position and deleted whole when all in them is too old or too much. A
// segment begins with a state of the owner's, so that what the owner derives from all records can be had from the newest segments.
//
//	file     = "orrlog1\n" frame*
//	frame    = length u32, CRC-32C of the content u32, content          (numbers are little endian)
//	content  = 'S' log id [8]byte, state                               the first frame
//	         | 'R' position u64, milliseconds u64, length u32, head, body
//
// Append is not synced: it survives the process, however that ends, but not a power cut. What a crash cut short is cut off at Open. A journal belongs to one process.
package journal

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Record is one entry of the log.
type Record struct {
	Position uint64
	Time     time.Time
	Head     []byte

	size    int64 // of the body
	segment *segment
	offset  int64
}

// Size is the number of bytes of the body.
func (r Record) Size() int64 { return r.size }

// Config is what a Journal needs. What is 0 has no limit.
type Config struct {
	Directory  string // is made
	MaxBytes   int64  // of all segments; at least one stays
	MaxRecords int
	Keep       time.Duration
	// State is asked for when a segment begins, with the records before it appended.
	State  func() []byte
	Logger *slog.Logger // nil discards
}

// ErrGone says that a record has expired.
var ErrGone = errors.New("record has expired")

// Journal is an open log. Safe for concurrent use.
type Journal struct {
	config Config
	id     [8]byte

	mu       sync.Mutex // held while files are written, which nobody but writers waits for longer than for memory
	segments []*segment // oldest first; the last one is written
	records  []Record
	next     uint64
	failed   error // why nothing can be appended any more
	closed   bool
}

const (
	parts  = 16 // segments that the limits are divided into, so that expiry is not too coarse
	suffix = ".log"
)

// Open reads what is there: it calls restore with the state of the oldest segment, and record for each record after it, both before it returns.
func Open(config Config, restore func(state []byte) error, record func(Record)) (*Journal, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(config.Directory, 0o700); err != nil {
		return nil, err
	}
	j := &Journal{config: config, next: 1}
	if err := j.load(restore, record); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot read the log in %s: %w", config.Directory, err), j.Close())
	}
	if len(j.segments) == 0 {
		if _, err := rand.Read(j.id[:]); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// ID tells logs apart: positions are of one log only.
func (j *Journal) ID() string { return hex.EncodeToString(j.id[:]) }

// Append writes a record and returns it, with its position. After an error it is not there, and may be tried again.
func (j *Journal) Append(now time.Time, head, body []byte) (Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return Record{}, j.failed
	}
	s, err := j.current(now)
	if err != nil {
		return Record{}, err
	}
	r := Record{Position: j.next, Time: now, Head: slices.Clone(head), size: int64(len(body)), segment: s}
	content := appendRecord(nil, r, body)
	r.offset = s.size + int64(len(content)) - r.size
	if err := s.write(content); err != nil {
		err = fmt.Errorf("cannot write to %s: %w", s.path, err)
		if cut := s.cut(); cut != nil { // what is half there would hide what comes after it
			j.failed = errors.Join(err, cut)
		}
		return Record{}, err
	}
	j.records = append(j.records, r)
	j.next++
	s.last = now
	j.expire(now)
	return r, nil
}

// current is the segment to write to; a new one where the last one has its share.
func (j *Journal) current(now time.Time) (*segment, error) {
	if n := len(j.segments); n > 0 {
		s := j.segments[n-1]
		full := j.config.MaxBytes > 0 && s.size >= j.config.MaxBytes/parts
		old := j.config.Keep > 0 && now.Sub(s.begun) >= j.config.Keep/parts
		many := j.config.MaxRecords > 0 && j.next-s.first >= uint64(max(1, j.config.MaxRecords/parts)) //nolint:gosec // not negative
		if !full && !old && !many || j.next == s.first {
			return s, nil
		}
	}
	s, err := createSegment(j.config.Directory, j.next, j.id, j.config.State())
	if err != nil {
		return nil, err
	}
	s.begun, s.last = now, now
	j.segments = append(j.segments, s)
	return s, nil
}

// Expire drops what is older than it should be. Append does it, too.
func (j *Journal) Expire(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.expire(now)
}

func (j *Journal) expire(now time.Time) {
	var total int64
	for _, s := range j.segments {
		total += s.size
	}
	for len(j.segments) > 1 {
		s := j.segments[0]
		tooMuch := j.config.MaxBytes > 0 && total > j.config.MaxBytes
		tooOld := j.config.Keep > 0 && now.Sub(s.last) >= j.config.Keep
		tooMany := j.config.MaxRecords > 0 && j.next-j.segments[1].first > uint64(j.config.MaxRecords) //nolint:gosec // not negative
		if !tooMuch && !tooOld && !tooMany {
			break
		}
		total -= s.size
		if err := s.remove(); err != nil {
			j.config.Logger.Warn("segment of the log not removed", "path", s.path, "error", err)
		}
		j.segments = j.segments[1:]
	}
	gone := 0
	for gone < len(j.records) && (j.records[gone].Position < j.segments[0].first || j.config.Keep > 0 && now.Sub(j.records[gone].Time) >= j.config.Keep) {
		gone++
	}
	j.records = slices.Delete(j.records, 0, gone)
}

// Next is the position of the record that will be appended next.
func (j *Journal) Next() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next
}

// After returns up to limit records after a position, and the first position of which there could be a record.
func (j *Journal) After(position uint64, limit int) (records []Record, first uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if first = j.next; len(j.records) > 0 {
		first = j.records[0].Position
	}
	i, _ := slices.BinarySearchFunc(j.records, position+1, func(r Record, p uint64) int { return int(int64(r.Position - p)) }) //nolint:gosec // near each other
	n := min(len(j.records)-i, limit)
	return slices.Clone(j.records[i : i+n]), first
}

// Body reads the body of a record; ErrGone if it has expired meanwhile.
func (j *Journal) Body(r Record) ([]byte, error) {
	if r.size == 0 {
		return nil, nil
	}
	body, err := r.segment.read(r.offset, r.size)
	j.mu.Lock()
	defer j.mu.Unlock()
	if errors.Is(err, os.ErrClosed) && !j.closed {
		err = ErrGone
	}
	return body, err
}

// Close closes the files.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	for _, s := range j.segments {
		errs = append(errs, s.close())
	}
	j.failed, j.closed = os.ErrClosed, true
	return errors.Join(errs...)
}

// load opens the segments, oldest first.
func (j *Journal) load(restore func([]byte) error, record func(Record)) error {
	names, err := filepath.Glob(filepath.Join(j.config.Directory, "*"+suffix))
	if err != nil {
		return err
	}
	slices.Sort(names)
	for i, name := range names {
		s, state, records, err := loadSegment(name)
		if errors.Is(err, errNoSegment) || err == nil && len(j.segments) > 0 && s.id != j.id {
			j.config.Logger.Warn("file is no segment of the log: it is removed", "path", name, "error", err)
			if err := errors.Join(s.close(), os.Remove(name)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if len(j.segments) == 0 {
			j.id, j.next = s.id, s.first
			if err := restore(state); err != nil {
				return err
			}
		}
		if s.first < j.next {
			return errors.Join(fmt.Errorf("%s begins before the segment before it ends", name), s.close())
		}
		if s.torn && i < len(names)-1 {
			j.config.Logger.Warn("segment of the log is damaged: records are lost", "path", name)
		}
		j.segments, j.next = append(j.segments, s), s.first
		for _, r := range records {
			r.segment = s
			s.last, j.next = r.Time, r.Position+1
			j.records = append(j.records, r)
			record(r)
		}
	}
	return nil
}
