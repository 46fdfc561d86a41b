package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"orrery/state"
)

// Object is one object of a bucket.
type Object struct {
	Name     string
	Size     int64
	Modified time.Time // by the clock of the service
}

// Bucket is object storage, as an adapter presents it: a map of names to bytes. What one process wrote, every
// other one sees from then on. Safe for concurrent use.
type Bucket interface {
	// List returns the objects whose names begin with prefix, sorted by name.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Read returns length bytes of an object from offset; a negative length means the rest. fs.ErrNotExist.
	Read(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// Write stores an object, wholly or not at all. With onlyNew it is an fs.ErrExist where there is one.
	Write(ctx context.Context, name string, r io.Reader, onlyNew bool) error
	// Delete removes an object; nothing happens if there is none.
	Delete(ctx context.Context, name string) error
	// String is the bucket's address, without secrets.
	String() string
}

const (
	packsFolder = "packs/"
	// editionMark is between the name of a file that changes and the number of its edition.
	editionMark = "~"
	leaseTime   = 2 * time.Minute
)

// bucketFiles are the files of a store in a bucket. A pack is an object. A file that changes has an object for each
// edition, of which the newest counts; a new one is written only where there is none of its number, so that of two
// who change a file at the same time one is told.
type bucketFiles struct {
	ctx    context.Context //nolint:containedctx // the files live as long as the call that opened the store
	bucket Bucket
	spool  string // folder for files that are being written
	ttl    time.Duration
	log    *slog.Logger

	mu     sync.Mutex
	temps  map[string]*os.File
	packs  map[string]Object
	read   map[string]uint64 // the edition that was read last
	leases map[*lease]bool
}

var _ files = (*bucketFiles)(nil)

func newBucketFiles(ctx context.Context, b Bucket, spool string) *bucketFiles {
	return &bucketFiles{
		ctx: ctx, bucket: b, spool: spool, ttl: leaseTime, log: slog.New(slog.DiscardHandler), temps: map[string]*os.File{},
		packs: map[string]Object{}, read: map[string]uint64{}, leases: map[*lease]bool{},
	}
}

// bucketInfo describes a file or folder in a bucket.
type bucketInfo struct {
	Object
	name string
}

func (i bucketInfo) Name() string       { return i.name }
func (i bucketInfo) Size() int64        { return i.Object.Size }
func (i bucketInfo) Mode() fs.FileMode  { return 0o600 }
func (i bucketInfo) ModTime() time.Time { return i.Modified }
func (i bucketInfo) IsDir() bool        { return false }
func (i bucketInfo) Sys() any           { return nil }

func notExist(name string) error { return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist} }

// edition splits the name of an object into the file's name and the number.
func edition(object string) (name string, number uint64, ok bool) {
	name, digits, ok := strings.Cut(object, editionMark)
	if !ok || len(digits) != 16 {
		return object, 0, false
	}
	number, err := strconv.ParseUint(digits, 16, 64)
	return name, number, err == nil
}

func editionName(name string, number uint64) string {
	return fmt.Sprintf("%s%s%016x", name, editionMark, number)
}

// newest returns the newest edition of a file. fs.ErrNotExist if there is none.
func (f *bucketFiles) newest(name string) (Object, uint64, error) {
	all, err := f.bucket.List(f.ctx, name+editionMark)
	if err != nil {
		return Object{}, 0, err
	}
	for _, o := range slices.Backward(all) {
		if of, number, ok := edition(o.Name); ok && of == name {
			return o, number, nil
		}
	}
	return Object{}, 0, notExist(name)
}

func (f *bucketFiles) ReadFile(name string) ([]byte, error) {
	for try := 0; ; try++ {
		o, number, err := f.newest(name)
		if errors.Is(err, fs.ErrNotExist) {
			f.noticed(name, 0)
		}
		if err != nil {
			return nil, err
		}
		b, err := f.fetch(o.Name, 0, -1)
		if errors.Is(err, fs.ErrNotExist) && try < 10 {
			continue // there is a newer one since
		}
		if err == nil {
			f.noticed(name, number)
		}
		return b, err
	}
}

func (f *bucketFiles) noticed(name string, number uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read[name] = number
}

// tries is how often a read is begun that breaks off.
const tries = 4

// fetch reads a part of an object.
func (f *bucketFiles) fetch(object string, offset, length int64) (b []byte, err error) {
	for range tries {
		if b, err = f.fetchOnce(object, offset, length); err == nil || errors.Is(err, fs.ErrNotExist) || f.ctx.Err() != nil {
			break
		}
	}
	return b, err
}

func (f *bucketFiles) fetchOnce(object string, offset, length int64) ([]byte, error) {
	r, err := f.bucket.Read(f.ctx, object, offset, length)
	if err != nil {
		return nil, err
	}
	var b []byte
	if length >= 0 {
		b = make([]byte, length)
		_, err = io.ReadFull(r, b)
	} else {
		b, err = io.ReadAll(io.LimitReader(r, maxManifest))
	}
	return b, errors.Join(err, r.Close())
}

// ReadDir lists the files in a folder. Of packs it is remembered what they are.
func (f *bucketFiles) ReadDir(name string) ([]fs.FileInfo, error) {
	objects, err := f.bucket.List(f.ctx, name+"/")
	if err != nil {
		return nil, err
	}
	var all []fs.FileInfo
	last := ""
	packs := map[string]Object{}
	for _, o := range objects {
		first, _, _ := strings.Cut(strings.TrimPrefix(o.Name, name+"/"), "/")
		first, _, _ = edition(first)
		if name+"/" == packsFolder {
			packs[o.Name] = o
		}
		if first == last {
			all = all[:len(all)-1] // the newest edition is the last one
		}
		last = first
		all = append(all, bucketInfo{o, first})
	}
	if name+"/" == packsFolder {
		f.mu.Lock()
		f.packs = packs
		f.mu.Unlock()
	}
	return all, nil
}

func (f *bucketFiles) Stat(name string) (fs.FileInfo, error) {
	if !strings.HasPrefix(name, packsFolder) {
		o, _, err := f.newest(name)
		return bucketInfo{o, baseName(name)}, err
	}
	f.mu.Lock()
	o, ok := f.packs[name]
	f.mu.Unlock()
	if ok {
		return bucketInfo{o, baseName(name)}, nil
	}
	all, err := f.bucket.List(f.ctx, name)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if o.Name == name {
			return bucketInfo{o, baseName(name)}, nil
		}
	}
	return nil, notExist(name)
}

func baseName(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

func (f *bucketFiles) Open(name string) (file, error) {
	info, err := f.Stat(name)
	if err != nil {
		return nil, err
	}
	object := name
	if o, ok := info.(bucketInfo); ok {
		object = o.Object.Name
	}
	return &remoteFile{files: f, object: object, size: info.Size()}, nil
}

// Folders are not kept in a bucket, and what was written is durable.
func (f *bucketFiles) MkdirAll(string) error { return nil }
func (f *bucketFiles) SyncDir(string) error  { return nil }

func (f *bucketFiles) Remove(name string) error {
	f.mu.Lock()
	temp := f.temps[name]
	delete(f.temps, name)
	delete(f.packs, name)
	f.mu.Unlock()
	if temp != nil {
		return temp.Close()
	}
	if strings.HasPrefix(name, packsFolder) {
		return f.bucket.Delete(f.ctx, name)
	}
	return f.dropBefore(name, ^uint64(0))
}

// dropBefore removes the editions of a file that are older than number.
func (f *bucketFiles) dropBefore(name string, number uint64) error {
	all, err := f.bucket.List(f.ctx, name+editionMark)
	if err != nil {
		return err
	}
	for _, o := range all {
		if of, n, ok := edition(o.Name); ok && of == name && n < number {
			if err := f.bucket.Delete(f.ctx, o.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Create makes a file on this machine that Rename uploads. It has no name, so that nothing is left of it.
func (f *bucketFiles) Create(name string) (file, error) {
	temp, err := os.CreateTemp(f.spool, "orrery-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(temp.Name()); err != nil {
		return nil, errors.Join(err, temp.Close())
	}
	f.mu.Lock()
	f.temps[name] = temp
	f.mu.Unlock()
	return tempFile{temp}, nil
}

// tempFile stays open until it is uploaded or removed.
type tempFile struct{ *os.File }

func (tempFile) Close() error { return nil }
func (tempFile) Sync() error  { return nil }
func (tempFile) Pace() error  { return nil }

// Rename uploads what was created, or moves what is there.
func (f *bucketFiles) Rename(from, to string) error {
	f.mu.Lock()
	temp, number := f.temps[from], f.read[to]+1
	f.mu.Unlock()
	if err := f.assure(); err != nil {
		return err
	}
	if temp == nil {
		return f.move(from, to)
	}
	object, pack := to, strings.HasPrefix(to, packsFolder)
	if !pack {
		object = editionName(to, number)
	}
	if err := f.upload(temp, object); err != nil {
		return fmt.Errorf("cannot upload %s: %w", to, err)
	}
	f.mu.Lock()
	delete(f.temps, from)
	f.read[to] = number
	f.mu.Unlock()
	if err := temp.Close(); err != nil {
		return err
	}
	if pack {
		return nil
	}
	return f.dropBefore(to, number)
}

// move gives an object another name, by way of a copy. Whoever repeats what was cut short finds the copy there.
func (f *bucketFiles) move(from, to string) error {
	info, err := f.Stat(from)
	if err != nil {
		return err
	}
	object := from
	if o, ok := info.(bucketInfo); ok {
		object = o.Object.Name
	}
	r, err := f.bucket.Read(f.ctx, object, 0, -1)
	if err != nil {
		return err
	}
	err = f.bucket.Write(f.ctx, to, r, true)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("cannot move %s to %s: %w", from, to, err)
	}
	return f.Remove(from)
}

// upload writes a new object. An answer may have been lost, and the object be there by an earlier try.
func (f *bucketFiles) upload(temp *os.File, object string) error {
	size, err := temp.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	err = f.bucket.Write(f.ctx, object, io.NewSectionReader(temp, 0, size), true)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if same, differs := f.same(temp, object, size); differs != nil || same {
		return differs
	}
	return fmt.Errorf("another process changed it at the same time (repeat it): %w", state.ErrInUse)
}

// same says whether an object has the content of a file.
func (f *bucketFiles) same(temp *os.File, object string, size int64) (bool, error) {
	r, err := f.bucket.Read(f.ctx, object, 0, -1)
	if err != nil {
		return false, err
	}
	defer func() { _ = r.Close() }() // only read from
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(r, a)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		m, _ := temp.ReadAt(b[:n], at) // what is shorter differs
		if at += int64(n); m < n || string(a[:n]) != string(b[:n]) {
			return false, nil
		}
		if n < len(a) {
			return at == size, nil
		}
	}
}
