package history

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	stdsync "sync"
	"time"

	"golang.org/x/sys/unix"

	"orrery/clip"
	"orrery/clip/find"
	"orrery/clip/replica"
)

const (
	logName    = "history"
	lockName   = "lock"
	objectsDir = "objects"
)

// Config is how to open a history.
type Config struct {
	Directory string
	// Secrets are what may open an encrypted history.
	Secrets []Secret
	// Create are the secrets that a new history is encrypted with; none: it is not encrypted.
	Create []Secret
	// Locked opens an encrypted history that none of Secrets opens locked, which is an error otherwise.
	Locked bool
}

// History is an open history.
type History struct {
	dir    string
	lock   *os.File
	repair Repair

	mu      stdsync.RWMutex
	log     *log
	objects *objects
	index   *index
	key     []byte // nil: not encrypted
	closed  bool
	locked  bool

	machines *replicas // nil: this machine is alone
	wake     func()    // machines' while it is locked
}

// Repair is what Open found that was not as it should be. All zero: nothing.
type Repair struct {
	Torn    int64  // bytes at the end that were never finished, as a crash leaves them; cut off
	Damaged int64  // bytes in the middle that are no records
	Aside   string // where the damaged file was put
}

// Open opens the history in a folder, and makes one if there is none. The folder belongs to this process until Close; clip.ErrInUse if another one has it.
func Open(c Config) (*History, error) {
	if err := os.MkdirAll(filepath.Join(c.Directory, objectsDir), 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(c.Directory, lockName))
	if err != nil {
		return nil, fmt.Errorf("history in %s: %w", c.Directory, err)
	}
	h := &History{dir: c.Directory, lock: lock}
	if err := h.open(c); err != nil {
		return nil, errors.Join(fmt.Errorf("history in %s: %w", c.Directory, err), h.Close())
	}
	return h, nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w by another recorder", clip.ErrInUse)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (h *History) open(c Config) error {
	path := filepath.Join(c.Directory, logName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := h.create(path, c.Create); err != nil {
			return err
		}
		c.Secrets = slices.Concat(c.Create, c.Secrets)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	h.log = &log{file: file}
	if h.log.header, _, err = readHeader(file); err != nil {
		return err
	}
	err = h.unlock(c.Secrets)
	if errors.Is(err, clip.ErrLocked) && c.Locked {
		h.forgetAll()
		return nil
	}
	return err
}

// unlock reads what a header is known of.
func (h *History) unlock(secrets []Secret) (err error) {
	if _, err := h.log.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var begin int64
	if h.log.header, begin, err = readHeader(h.log.file); err != nil {
		return err
	}
	if len(h.log.header.Keys) > 0 {
		if h.key, err = unwrap(h.log.header.Keys, secrets); err != nil {
			return err
		}
	}
	if err := h.useKey(); err != nil {
		return err
	}
	if err := h.load(begin); err != nil {
		return err
	}
	if err := h.settle(); err != nil {
		return err
	}
	return h.objects.sweep(func(name string) bool { return h.index.files[name] > 0 })
}

// useKey makes what encrypts.
func (h *History) useKey() (err error) {
	h.objects = &objects{dir: h.objectsFolder(), key: h.key}
	if h.key == nil {
		return nil
	}
	if h.log.seal, err = newSeal(h.key); err == nil {
		h.objects.seal = h.log.seal
	}
	return err
}

func (h *History) objectsFolder() string { return filepath.Join(h.dir, objectsDir) }

// create writes an empty log.
func (h *History) create(path string, secrets []Secret) error {
	head := &header{Version: version, ID: make([]byte, 16)}
	_, _ = rand.Read(head.ID) // never fails, by its contract
	if len(secrets) > 0 {
		key := make([]byte, keySize)
		_, _ = rand.Read(key)
		for _, s := range secrets {
			slot, err := wrapKey(key, s)
			if err != nil {
				return err
			}
			head.Keys = append(head.Keys, slot)
		}
	}
	b, err := head.encode()
	if err != nil {
		return err
	}
	return writeDurably(path, b)
}

// load reads the log into the index. A log that is damaged in the middle is put aside, and written anew of what could be read.
func (h *History) load(begin int64) error {
	info, err := h.log.file.Stat()
	if err != nil {
		return err
	}
	h.index, h.log.end = newIndex(), begin
	damaged, torn, err := h.log.scan(begin, info.Size(), h.replay)
	if err != nil {
		return err
	}
	h.index.entries, h.index.order = slices.Clip(slices.Clone(h.index.entries)), slices.Clip(slices.Clone(h.index.order)) // what grew has room for a quarter more
	h.repair = Repair{Torn: torn, Damaged: damaged}
	if damaged > 0 {
		h.repair.Aside = filepath.Join(h.dir, logName+".damaged-"+time.Now().UTC().Format("20060102T150405.000"))
		if err := os.Link(filepath.Join(h.dir, logName), h.repair.Aside); err != nil {
			return fmt.Errorf("cannot put the damaged history aside: %w", err)
		}
		return h.compact(h.key, h.log.header.Keys)
	}
	if torn > 0 {
		return errors.Join(h.log.file.Truncate(h.log.end), sync(h.log.file))
	}
	return nil
}

// replay takes a record of the log in.
func (h *History) replay(offset int64, record any) {
	switch r := record.(type) {
	case *added:
		if r.id >= h.index.next {
			h.index.add(r, offset)
			if h.machines != nil {
				h.machines.last, h.machines.lastID = r.digest, r.id
			}
		}
	case used:
		if e := h.index.find(r.id); e != nil {
			h.index.use(e, r.at)
		}
	case marked:
		if e := h.index.find(r.id); e != nil {
			h.index.mark(e, r.mark)
		}
	case deleted:
		gone := h.index.living(r.ids)
		h.release(gone)
		h.index.remove(gone)
	case entryOf:
		if h.machines != nil {
			h.put(r)
		}
	case heardOf:
		if h.machines == nil {
			h.machines = newReplicas(r.own)
		}
		h.machines.Become(r.own)
		h.machines.Heard(r.seen)
	}
}

// living are the entries with these ids that are there.
func (x *index) living(ids []clip.ID) []*entry {
	var all []*entry
	for _, id := range ids {
		if e := x.find(id); e != nil && !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// release counts the files of entries down, and returns those that nobody needs any more.
func (h *History) release(gone []*entry) (files []string) {
	for _, e := range gone {
		if len(h.index.files) == 0 {
			return files
		}
		r, err := h.added(e)
		if err != nil {
			continue // its files stay until the next start
		}
		for _, p := range r.parts {
			if p.file == "" {
				continue
			}
			if h.index.files[p.file]--; h.index.files[p.file] <= 0 {
				delete(h.index.files, p.file)
				files = append(files, p.file)
			}
		}
	}
	return files
}

// added reads the record of an entry.
func (h *History) added(e *entry) (*added, error) {
	record, err := h.log.readAt(e.offset)
	if err != nil {
		return nil, err
	}
	r, ok := record.(*added)
	if !ok || r.id != e.id {
		return nil, fmt.Errorf("item %d: %w", e.id, clip.ErrCorrupt)
	}
	return r, nil
}

// Repair is what was found when it was opened.
func (h *History) Repair() Repair {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.repair
}

// Add keeps what was copied. If the history has the same contents already, that item is moved up and counted, and fresh is false.
func (h *History) Add(item clip.Item) (s clip.Summary, fresh bool, err error) {
	return h.add(item, true)
}

// Import keeps an item of another history, with its times. What this one has already is left as it is, so that it can be repeated.
func (h *History) Import(item clip.Item) (s clip.Summary, fresh bool, err error) {
	return h.add(item, false)
}

func (h *History) add(item clip.Item, again bool) (s clip.Summary, fresh bool, err error) {
	if err := check(item); err != nil {
		return s, false, err
	}
	sum := digestOf(item.Contents)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ready(); err != nil {
		return s, false, err
	}
	now := h.index.now(time.Now())
	if !item.Used.IsZero() {
		now = item.Used.UnixMilli()
	}
	same := func(e *entry) bool {
		r, err := h.added(e)
		return err == nil && r.digest == sum
	}
	if e := h.index.like(sum, same); e != nil {
		if !again {
			return h.index.summary(e), false, nil
		}
		if h.machines != nil {
			return h.change(e, sum, func(en *replica.Entry, stamp replica.Stamp) { en.Use(stamp, now, 1) })
		}
		if _, err := h.log.append(used{e.id, now}.encode()); err != nil {
			return s, false, err
		}
		h.index.use(e, now)
		return h.index.summary(e), false, nil
	}
	r := &added{
		id: h.index.next, digest: sum, created: now, used: now, count: uint64(max(1, item.Count)), //nolint:gosec // not negative
		kind: clip.KindOf(item.Contents), preview: clip.Preview(item.Contents), app: item.App,
	}
	if !item.Created.IsZero() {
		r.created = item.Created.UnixMilli()
	}
	if r.parts, err = h.keep(item.Contents); err != nil {
		return s, false, err
	}
	bodies := [][]byte{r.encode()}
	if h.machines != nil {
		return h.addReplicated(r, item.Mark)
	}
	if m := item.Mark; m.Pinned || m.Note != "" || len(m.Tags) > 0 || !m.Expires.IsZero() {
		bodies = append(bodies, marked{r.id, m}.encode())
	}
	offsets, err := h.log.append(bodies...)
	if err != nil {
		return s, false, err
	}
	e := h.index.add(r, offsets[0])
	h.index.mark(e, item.Mark)
	return h.index.summary(e), true, nil
}

func check(item clip.Item) error {
	if len(item.Contents) == 0 {
		return errors.New("nothing was copied")
	}
	if len(item.Contents) > clip.MaxTypes {
		return fmt.Errorf("%d types: %w, %d are possible", len(item.Contents), clip.ErrTooLarge, clip.MaxTypes)
	}
	total := 0
	for _, c := range item.Contents {
		if c.Type == "" || len(c.Type) > clip.MaxType {
			return fmt.Errorf("type %q: a type's name has 1 to %d bytes", c.Type, clip.MaxType)
		}
		total += len(c.Data)
	}
	if total > clip.MaxItem {
		return fmt.Errorf("%d bytes: %w, %d are possible", total, clip.ErrTooLarge, clip.MaxItem)
	}
	if len(item.App) > maxApp {
		return fmt.Errorf("application's name of %d bytes: %w", len(item.App), clip.ErrTooLarge)
	}
	return checkMark(item.Mark)
}

func checkMark(m clip.Mark) error {
	if len(m.Note) > clip.MaxNote {
		return fmt.Errorf("note of %d bytes: %w, %d are possible", len(m.Note), clip.ErrTooLarge, clip.MaxNote)
	}
	if len(m.Tags) > clip.MaxTags {
		return fmt.Errorf("%d tags: %w, %d are possible", len(m.Tags), clip.ErrTooLarge, clip.MaxTags)
	}
	for _, t := range m.Tags {
		if t == "" || len(t) > clip.MaxTag {
			return fmt.Errorf("tag %q: a tag has 1 to %d bytes", t, clip.MaxTag)
		}
	}
	return nil
}

// keep puts large contents into files.
func (h *History) keep(contents []clip.Content) ([]part, error) {
	parts := make([]part, 0, len(contents))
	inline := 0
	for _, c := range contents {
		p := part{kind: c.Type, size: uint64(len(c.Data)), data: c.Data}
		if len(c.Data) > maxInline || inline+len(c.Data) > maxInlines {
			var err error
			if p.file, err = h.objects.put(c.Data); err != nil {
				return nil, fmt.Errorf("cannot keep %d bytes of %s: %w", len(c.Data), c.Type, err)
			}
			p.data = nil
		} else {
			inline += len(c.Data)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// Get is an item with all its contents.
func (h *History) Get(id clip.ID) (clip.Item, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if err := h.ready(); err != nil {
		return clip.Item{}, err
	}
	e := h.index.find(id)
	if e == nil {
		return clip.Item{}, fmt.Errorf("item %d: %w", id, clip.ErrNotFound)
	}
	r, err := h.added(e)
	if err != nil {
		return clip.Item{}, fmt.Errorf("item %d: %w", id, err)
	}
	item := clip.Item{Summary: h.index.summary(e), Created: fromMilliseconds(r.created), App: r.app}
	for _, p := range r.parts {
		if p.file != "" {
			if p.data, err = h.objects.get(p.file); err != nil {
				return clip.Item{}, fmt.Errorf("item %d: %w", id, err)
			}
		}
		item.Contents = append(item.Contents, clip.Content{Type: p.kind, Data: p.data})
	}
	return item, nil
}

// Mark replaces what is said of an item.
func (h *History) Mark(id clip.ID, change func(*clip.Mark)) (clip.Summary, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ready(); err != nil {
		return clip.Summary{}, err
	}
	e := h.index.find(id)
	if e == nil {
		return clip.Summary{}, fmt.Errorf("item %d: %w", id, clip.ErrNotFound)
	}
	m := h.index.marks[id]
	m.Tags = slices.Clone(m.Tags)
	change(&m)
	slices.Sort(m.Tags)
	m.Tags = slices.Compact(m.Tags)
	if err := checkMark(m); err != nil {
		return clip.Summary{}, fmt.Errorf("item %d: %w", id, err)
	}
	if h.machines != nil {
		r, err := h.added(e)
		if err != nil {
			return clip.Summary{}, fmt.Errorf("item %d: %w", id, err)
		}
		s, _, err := h.change(e, r.digest, func(en *replica.Entry, stamp replica.Stamp) { en.SetMark(stamp, m) })
		return s, err
	}
	if _, err := h.log.append(marked{id, m}.encode()); err != nil {
		return clip.Summary{}, err
	}
	h.index.mark(e, m)
	return h.index.summary(e), nil
}

// Delete deletes those of the items that are there, and says how many. Their bytes are on disk until Compact.
func (h *History) Delete(ids ...clip.ID) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ready(); err != nil {
		return 0, err
	}
	return h.delete(h.index.living(ids), h.bereave)
}

// maxIDs fit into a record.
const maxIDs = 50_000

// delete deletes items; entries, unless it is nil, makes the records of what other machines are told, if there are any.
func (h *History) delete(gone []*entry, entries func([]*entry) []entryOf) (int, error) {
	deletedSoFar := 0
	for batch := range slices.Chunk(gone, maxIDs) {
		ids := make([]clip.ID, 0, len(batch))
		for _, e := range batch {
			ids = append(ids, e.id)
		}
		var told []entryOf
		var bodies [][]byte
		if h.machines != nil && entries != nil {
			told = entries(batch)
		}
		for _, r := range told {
			bodies = append(bodies, r.encode())
		}
		if _, err := h.log.append(append(bodies, deleted{ids}.encode())...); err != nil {
			return deletedSoFar, err
		}
		files := h.release(batch)
		h.index.remove(batch)
		for _, r := range told {
			h.put(r)
		}
		if len(told) > 0 {
			h.machines.wake()
		}
		deletedSoFar += len(batch)
		if err := h.objects.remove(files); err != nil {
			return deletedSoFar, err
		}
	}
	return deletedSoFar, nil
}

// Limits bound a history. Zero: no limit. Pinned items are exempt, and do not count.
type Limits struct {
	Items int
	Bytes int64
	Age   time.Duration
}

// Enforce deletes what is beyond the limits, the items first that were not used for longest, and what has expired. It returns those ids.
func (h *History) Enforce(l Limits, now time.Time) ([]clip.ID, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.locked {
		return nil, nil // it is looked at again
	}
	items, bytes := len(h.index.order), h.index.bytes
	for id, m := range h.index.marks {
		if e := h.index.find(id); e != nil && m.Pinned {
			items, bytes = items-1, bytes-e.size
		}
	}
	var gone []*entry
	for _, place := range h.index.order {
		e := &h.index.entries[place]
		m := h.index.marks[e.id]
		expired := !m.Expires.IsZero() && !now.Before(m.Expires)
		old := l.Age > 0 && e.used < now.Add(-l.Age).UnixMilli()
		over := l.Items > 0 && items > l.Items || l.Bytes > 0 && bytes > l.Bytes
		if !expired && (m.Pinned || !old && !over) {
			if !over && !old && len(h.index.marks) == 0 {
				break // all that follow were used later
			}
			continue
		}
		gone = append(gone, e)
		if !m.Pinned {
			items, bytes = items-1, bytes-e.size
		}
	}
	ids := make([]clip.ID, 0, len(gone))
	for _, e := range gone {
		ids = append(ids, e.id)
	}
	_, err := h.delete(gone, h.forget)
	return ids, err
}

// Stats are figures of a history.
type Stats struct {
	Items     int   `json:"items"`
	Pinned    int   `json:"pinned"`
	Bytes     int64 `json:"bytes"`     // of all contents
	LogBytes  int64 `json:"log_bytes"` // of the log, without the files of large contents
	Dead      int   `json:"dead"`      // deleted items that Compact would take out of the log
	Encrypted bool  `json:"encrypted"`
	Locked    bool  `json:"locked"`
	Keys      []Way `json:"keys,omitempty"` // where encrypted: what opens it
}

// Way is what opens an encrypted history: the kind of a secret, and which one.
type Way struct {
	Kind string `json:"kind"`
	Hint string `json:"hint,omitempty"`
}

// Stats are its figures.
func (h *History) Stats() Stats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	s := Stats{Items: len(h.index.order), Bytes: h.index.bytes, LogBytes: h.log.end, Dead: h.index.dead, Encrypted: len(h.log.header.Keys) > 0, Locked: h.locked}
	for _, k := range h.log.header.Keys {
		s.Keys = append(s.Keys, Way{k.Kind, k.Hint})
	}
	for _, m := range h.index.marks {
		if m.Pinned {
			s.Pinned++
		}
	}
	return s
}

// All yields the items, the one that was used last first. Changes wait until the loop ends.
func (h *History) All() iter.Seq[clip.Summary] {
	return func(yield func(clip.Summary) bool) {
		h.mu.RLock()
		defer h.mu.RUnlock()
		for _, place := range slices.Backward(h.index.order) {
			if !yield(h.index.summary(&h.index.entries[place])) {
				return
			}
		}
	}
}

// Close closes it.
func (h *History) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	var errs []error
	if h.log != nil {
		errs = append(errs, h.log.file.Close())
	}
	return errors.Join(append(errs, h.lock.Close())...)
}

// Matcher says which items somebody looks for.
type Matcher interface {
	// Match is told an item's summary, without its Preview, and its text in lower case, of which it must keep nothing; ok is false if it is not meant. Higher scores are better.
	Match(s *clip.Summary, lower []byte) (score int, ok bool)
	// Filters says whether Match looks at more of the summary than its Note.
	Filters() bool
	// Whole says whether text that is longer than the preview is to be read from disk.
	Whole() bool
}

// Found is an item that was looked for.
type Found struct {
	clip.Summary
	Score int `json:"score"`
}

// Search returns the limit best matches: by score, then the one that was used last first.
func (h *History) Search(ctx context.Context, m Matcher, limit int) ([]Found, error) {
	h.mu.RLock()
	if err := h.ready(); err != nil {
		h.mu.RUnlock()
		return nil, err
	}
	for h.index.lower == nil {
		h.mu.RUnlock()
		h.mu.Lock()
		if h.index.lower == nil {
			h.index.lower = h.index.texts.lowered()
		}
		h.mu.Unlock()
		h.mu.RLock()
	}
	defer h.mu.RUnlock()
	var best top
	var s clip.Summary
	filters := m.Filters()
	for i, place := range slices.Backward(h.index.order) {
		if i%512 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e := &h.index.entries[place]
		var lower []byte
		if e.flags&flagPreview != 0 {
			lower = h.index.lower.get(e.preview, int(e.length)+1)
		}
		if filters {
			s = clip.Summary{ID: e.id, Kind: e.kind, Used: fromMilliseconds(e.used), Count: int(e.count), Size: e.size}
		}
		if e.flags&flagMarked != 0 {
			s.Mark = h.index.marks[e.id]
		} else if s.Note != "" {
			s.Note = ""
		}
		score, ok := m.Match(&s, lower)
		if !ok && m.Whole() && int(e.length)+1 > clip.PreviewSize-4 && e.kind != clip.Image {
			score, ok = h.matchWhole(e, &s, m)
		}
		if ok {
			best.add(candidate{place, score, i}, limit)
		}
	}
	found := make([]Found, 0, len(best))
	for _, c := range best.sorted() {
		found = append(found, Found{h.index.summary(&h.index.entries[c.place]), c.score})
	}
	return found, nil
}

// maxWhole is how much of a text is searched.
const maxWhole = 1 << 20

// matchWhole looks in the whole text.
func (h *History) matchWhole(e *entry, s *clip.Summary, m Matcher) (int, bool) {
	r, err := h.added(e)
	if err != nil {
		return 0, false
	}
	for _, p := range r.parts {
		if !clip.TextType(p.kind) {
			continue
		}
		if p.file != "" {
			if p.data, err = h.objects.get(p.file); err != nil {
				return 0, false
			}
		}
		text := p.data[:min(len(p.data), maxWhole)]
		return m.Match(s, find.Lower(text))
	}
	return 0, false
}

// Rest forgets what only searches need in memory.
func (h *History) Rest() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.index.lower = nil
}
