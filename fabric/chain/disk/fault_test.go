package disk_test

import (
	"errors"
	"fmt"
	"path"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
)

var errDevice = errors.New("device error")

// large is an entry with a value of a megabyte.
func large(sequence uint64) chain.Entry {
	return chain.Entry{
		Epoch: 1, Sequence: sequence, Client: 7, Request: sequence, Floor: sequence, Result: chain.Result{Version: sequence},
		Changes: []chain.Change{{Key: []byte{byte(sequence)}, Value: make([]byte, 1<<20)}},
	}
}

// within fails the test where a call does not come back.
func within(t *testing.T, what string, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not come back", what)
		return nil
	}
}

// Whichever files cannot be written any more, whoever writes hears of it.
func TestNoWriterWaitsForBrokenDisk(t *testing.T) {
	for name, pattern := range map[string]string{"tables": "*.sst", "manifest": "MANIFEST-*", "log": "*.log"} {
		t.Run(name, func(t *testing.T) {
			var broken atomic.Bool
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if match, _ := path.Match(pattern, path.Base(op.Path)); match && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && broken.Load() {
					return errDevice
				}
				return nil
			}))
			d, err := disk.Open(disk.Config{Directory: "db", FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			s, err := d.Open(1)
			if err != nil {
				t.Fatal(err)
			}
			broken.Store(true)
			var failed error
			for i := uint64(1); i < 400 && failed == nil; i++ {
				e := large(i)
				failed = within(t, "write", func() error { return s.Write(&disk.Batch{Append: []chain.Entry{e}, Apply: []chain.Entry{e}}) })
			}
			if !errors.Is(failed, disk.ErrFailed) {
				t.Fatalf("400 MB were written to a broken disk: %v", failed)
			}
			if err := within(t, "sync", s.Sync); !errors.Is(err, disk.ErrFailed) {
				t.Errorf("sync after that: %v", err)
			}
			if err := within(t, "close", d.Close); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whichever write fails, once or from then on, the store fails with it, nobody waits for ever, what was durable is durable, and what can be read can be read.
func TestErrorAtAnyWrite(t *testing.T) {
	whole := newLife()
	var writes atomic.Int64
	if err := whole.run(errorfs.Wrap(vfs.NewMem(), failing(&writes, -1, false))); err != nil {
		t.Fatal(err)
	}
	for n := int64(1); n <= writes.Load(); n += 2 {
		once := n%4 == 1
		inner := vfs.NewCrashableMem()
		l := newLife()
		l.blind = n%8 > 4
		var count atomic.Int64
		err := within(t, fmt.Sprintf("a life with an error of write %d", n), func() error { return l.run(errorfs.Wrap(steady{inner}, failing(&count, n, once))) })
		if l.stores[1] != nil { // else it could not begin
			switch {
			case errors.Is(err, disk.ErrFailed):
				l.failed(t, n)
			case err != nil:
				t.Errorf("error of write %d: %v", n, err)
			case !once && count.Load() > n+20: // the last ones may be those of files that are not needed any more
				t.Errorf("nobody heard of errors from write %d on", n)
			}
		}
		m := l.moment("", inner.CrashClone(vfs.CrashCloneCfg{}))
		if err := m.check(whole.pictures); err != nil {
			t.Errorf("after the error of write %d, and a crash: %v", n, err)
		}
	}
}

// failed checks that a disk that failed is not used.
func (l *life) failed(t *testing.T, n int64) {
	t.Helper()
	s := l.stores[1]
	e := entryAt(99, 1000)
	for what, call := range map[string]func() error{
		"write": func() error { return s.Write(&disk.Batch{Append: []chain.Entry{e}}) },
		"sync":  s.Sync,
		"part":  func() error { return s.Part(9, chain.Range{Start: []byte("k7")}, 1, 1) },
	} {
		if err := within(t, what, call); !errors.Is(err, disk.ErrFailed) {
			t.Errorf("%s after the error of write %d: %v", what, n, err)
		}
	}
	if err := within(t, "close", l.disk.Close); err != nil {
		t.Errorf("close after the error of write %d: %v", n, err)
	}
	if l.closed {
		return
	}
	_ = within(t, "reading", func() error {
		v, err := s.View()
		if err != nil {
			return err
		}
		defer v.Close()
		_, _, err = v.Scan(nil, chain.Range{}, 100, 1<<20)
		return err
	})
}

// failing lets the n-th write fail, and the later ones if it is not once.
func failing(count *atomic.Int64, n int64, once bool) errorfs.Injector {
	return errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		if i := count.Add(1); n > 0 && (i == n || i > n && !once) {
			return errDevice
		}
		return nil
	})
}
