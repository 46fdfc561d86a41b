package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"orrery/clip"
	"orrery/clip/find"
	"orrery/clip/history"
	"orrery/clip/mirror"
	"orrery/clip/paste"
	"orrery/clip/recorder"
)

// Server answers requests.
type Server struct {
	Recorder *recorder.Recorder
	History  *history.History
	Sync     *mirror.Node // nil: there are no other machines
	Display  string
	Stop     func() // ends the recorder
	// Keyboard opens what pastes; nil: nothing can.
	Keyboard func() (clip.Keyboard, error)
	// Secrets finds what opens an encrypted history without asking anybody; nil: nothing.
	Secrets func(ctx context.Context, ways []history.Way) ([]history.Secret, error)
	// Paste are rules about how programs paste.
	Paste  []paste.Rule
	Logger *slog.Logger // nil discards

	started time.Time
	work    sync.WaitGroup
	slots   chan struct{}
}

const (
	maxConnections = 64
	requestTime    = 10 * time.Second // for the request to arrive
)

// Listen takes the socket that the service manager has opened, or opens one, with mode 0600 in a folder with mode 0700. One that nobody answers on is replaced; clip.ErrInUse if somebody does.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if l, err := passed(); l != nil || err != nil {
		return l, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("socket %s is %w by another recorder", path, clip.ErrInUse), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	before := unix.Umask(0o177)
	defer unix.Umask(before)
	var lc net.ListenConfig
	return lc.Listen(ctx, "unix", path)
}

// Run serves until ctx ends, and then waits for those that are being answered.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	s.started, s.slots = time.Now(), make(chan struct{}, maxConnections)
	defer s.work.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil // it was told to end
			}
			return err
		}
		s.slots <- struct{}{}
		s.work.Go(func() {
			defer func() { <-s.slots }()
			defer c.Close()
			end := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer end()
			if err := s.serve(ctx, c); err != nil && ctx.Err() == nil {
				s.Logger.DebugContext(ctx, "request", "error", err)
			}
		})
	}
}

// conn is one request's connection.
type conn struct {
	net.Conn
	r *bufio.Reader
	w *bufio.Writer
}

func (s *Server) serve(ctx context.Context, raw net.Conn) error {
	c := &conn{raw, bufio.NewReader(raw), bufio.NewWriterSize(raw, 64<<10)}
	if err := raw.SetReadDeadline(time.Now().Add(requestTime)); err != nil {
		return err
	}
	var q Request
	if err := readMessage(c.r, &q); err != nil {
		return err
	}
	if q.Version != Version {
		return c.answer(failure(fmt.Errorf("protocol version %d is not the recorder's, which is %d (restart it: clip record)", q.Version, Version)))
	}
	switch q.Op {
	case OpList, OpSearch, OpWatch:
		if err := raw.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		return s.lines(ctx, c, &q)
	case OpPaste:
		return s.paste(ctx, c, q.Leave)
	}
	var contents []clip.Content
	if len(q.Contents) > 0 {
		if err := raw.SetReadDeadline(time.Now().Add(6 * requestTime)); err != nil {
			return err
		}
		var err error
		if contents, err = readContents(c.r, q.Contents); err != nil {
			return errors.Join(err, c.answer(failure(err)))
		}
	}
	r, give, err := s.do(ctx, &q, contents)
	if err != nil {
		return c.answer(failure(err))
	}
	r.Contents = announce(give)
	if err := writeMessage(c.w, r); err != nil {
		return err
	}
	for _, content := range give {
		if _, err := c.w.Write(content.Data); err != nil {
			return err
		}
	}
	if err := c.w.Flush(); err != nil {
		return err
	}
	if q.Op == OpStop && s.Stop != nil {
		s.Stop()
	}
	return nil
}

func (c *conn) answer(r *Response) error {
	return errors.Join(writeMessage(c.w, r), c.w.Flush())
}

// do carries out a request that has one answer.
func (s *Server) do(ctx context.Context, q *Request, contents []clip.Content) (r *Response, give []clip.Content, err error) {
	r = &Response{}
	var summary clip.Summary
	switch q.Op {
	case OpStatus:
		r.Status = s.status()
		return r, nil, nil
	case OpStop:
		return r, nil, nil
	case OpCompact:
		return r, nil, s.History.Compact()
	case OpLock:
		err = s.Recorder.Lock()
		debug.FreeOSMemory() // what was decrypted is not to wait for the next collection
		return r, nil, err
	case OpUnlock:
		return r, nil, s.unlock(ctx, q.Secrets)
	case OpRekey:
		return r, nil, s.History.Rekey(q.Secrets)
	case OpPause:
		s.pause(q.Pause)
		return r, nil, nil
	case OpSync:
		r.Sync, err = s.sync(q.Sync)
		return r, nil, err
	case OpDelete:
		r.Count, err = s.Recorder.Delete(q.IDs...)
		return r, nil, err
	case OpAdd:
		item := clip.Item{Contents: contents, Summary: clip.Summary{Used: q.Used}}
		if q.Mark != nil {
			item.Mark = *q.Mark
		}
		if q.Selection != 0 {
			summary, err = s.Recorder.Copy(q.Selection, item)
		} else {
			summary, _, err = s.History.Add(item)
		}
		s.Recorder.Marked()
		r.Summary = &summary
		return r, nil, err
	case OpImport:
		return r, nil, s.importItem(q, contents, r)
	}
	if len(q.IDs) != 1 {
		return nil, nil, fmt.Errorf("operation %q takes one id, not %d", q.Op, len(q.IDs))
	}
	switch q.Op {
	case OpShow:
		var item clip.Item
		item, err = s.History.Get(q.IDs[0])
		summary, give, r.App, r.Created = item.Summary, item.Contents, item.App, item.Created
	case OpGive:
		summary, err = s.Recorder.Give(max(q.Selection, clip.Clipboard), q.IDs[0], q.Plain)
	case OpMark:
		summary, err = s.History.Mark(q.IDs[0], q.Change.apply)
		s.Recorder.Marked()
	default:
		err = fmt.Errorf("operation %q is unknown", q.Op)
	}
	r.Summary = &summary
	return r, give, err
}

// importItem answers how many items are kept: 0 or 1.
func (s *Server) importItem(q *Request, contents []clip.Content, r *Response) error {
	item := clip.Item{Contents: contents, App: q.App, Created: q.Created, Summary: clip.Summary{Used: q.Used, Count: q.Times}}
	if q.Mark != nil {
		item.Mark = *q.Mark
	}
	summary, fresh, why, err := s.Recorder.Import(item)
	if why != "" || err != nil {
		r.Refused = string(why)
		return err
	}
	if r.Summary = &summary; fresh {
		r.Count = 1
	}
	return nil
}

// apply changes what is said of an item.
func (c *Change) apply(m *clip.Mark) {
	if c == nil {
		return
	}
	if c.Pinned != nil {
		m.Pinned = *c.Pinned
	}
	if c.Note != nil {
		m.Note = *c.Note
	}
	if c.Expires != nil {
		m.Expires = *c.Expires
	}
	kept := append(m.Tags, c.Tag...)
	m.Tags = nil
	for _, t := range kept {
		drop := false
		for _, u := range c.Untag {
			drop = drop || t == u
		}
		if !drop {
			m.Tags = append(m.Tags, t)
		}
	}
}

// unlock opens the history with secrets that were sent, or with those that are at hand.
func (s *Server) unlock(ctx context.Context, secrets []history.Secret) error {
	var missing error
	if s.Secrets != nil && len(secrets) == 0 {
		secrets, missing = s.Secrets(ctx, s.History.Stats().Keys)
	}
	defer debug.FreeOSMemory() // a passphrase takes 64 MB
	if err := s.History.Unlock(secrets); err != nil {
		return errors.Join(err, missing)
	}
	if r := s.History.Repair(); r.Aside != "" {
		s.Logger.WarnContext(ctx, "the history was damaged; what could be read is kept, and the damaged file was put aside", "bytes", r.Damaged, "file", r.Aside)
	}
	return nil
}

func (s *Server) pause(p *Pause) {
	switch {
	case p == nil || p.Resume:
		s.Recorder.Resume()
	case p.Skip:
		s.Recorder.Skip()
	default:
		s.Recorder.Pause(p.For)
	}
}

// sync answers with how other machines are.
func (s *Server) sync(q *Sync) (*mirror.Status, error) {
	if s.Sync == nil || q == nil {
		return nil, errors.New("this recorder has no other machines")
	}
	switch q.Do {
	case SyncStatus:
	case SyncNow:
		s.Sync.Now()
	case SyncPause:
		s.Sync.Pause(q.For)
	case SyncResume:
		s.Sync.Resume()
	case SyncReload:
		s.Sync.Reload()
	default:
		return nil, fmt.Errorf("sync cannot %q", q.Do)
	}
	status := s.Sync.Status()
	return &status, nil
}

func (s *Server) status() *Status {
	until, forever := s.Recorder.Paused()
	return &Status{
		Display: s.Display, Started: s.started, PID: os.Getpid(), Paused: forever || !until.IsZero(), Until: until,
		History: s.History.Stats(), Counts: s.Recorder.Counts(),
	}
}

// lines answers with a line an item.
func (s *Server) lines(ctx context.Context, c *conn, q *Request) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.work.Go(func() { // a client that goes away, or types the next letter, ends its search
		_, _ = c.r.Discard(1)
		cancel()
	})
	defer c.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // ends the goroutine above; a connection that is closed has ended it
	line, err := lineWriter(c.w, q.Format)
	if err != nil {
		return c.answer(failure(err))
	}
	if s.History.Locked() {
		return c.answer(failure(fmt.Errorf("%w (clip unlock)", clip.ErrLocked)))
	}
	switch q.Op {
	case OpList:
		if err := writeMessage(c.w, &Response{}); err != nil {
			return err
		}
		return errors.Join(s.list(c.w, q.Limit, q.Format), c.w.Flush())
	case OpSearch:
		return s.search(ctx, c, q, line)
	}
	return s.watch(ctx, c, line)
}

// list prints into memory while it holds the history, so that a slow reader does not.
func (s *Server) list(w io.Writer, limit int, format string) error {
	var text bytes.Buffer
	line, err := lineWriter(&text, format)
	if err != nil {
		return err
	}
	n := 0
	for summary := range s.History.All() {
		if limit > 0 && n == limit {
			break
		}
		n++
		if err := line(&summary); err != nil {
			return err
		}
	}
	_, err = text.WriteTo(w)
	return err
}

func (s *Server) search(ctx context.Context, c *conn, q *Request, line func(*clip.Summary) error) error {
	query, err := find.Parse(q.Query, find.Mode(q.Mode), time.Now())
	if err != nil {
		return c.answer(failure(err))
	}
	s.Recorder.Searched()
	found, err := s.History.Search(ctx, query, q.Limit)
	if err != nil {
		return c.answer(failure(err))
	}
	if err := writeMessage(c.w, &Response{Count: len(found)}); err != nil {
		return err
	}
	for i := range found {
		if err := line(&found[i].Summary); err != nil {
			return err
		}
	}
	return c.w.Flush()
}

func (s *Server) watch(ctx context.Context, c *conn, line func(*clip.Summary) error) error {
	news, stop := s.Recorder.Watch()
	defer stop()
	if err := c.answer(&Response{}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case summary := <-news:
			if err := errors.Join(line(&summary), c.w.Flush()); err != nil {
				return err
			}
		}
	}
}

// lineWriter writes items in a format.
func lineWriter(w io.Writer, format string) (func(*clip.Summary) error, error) {
	end := byte('\n')
	switch format {
	case FormatJSON:
		e := json.NewEncoder(w)
		return func(s *clip.Summary) error { return e.Encode(s) }, nil
	case FormatNUL:
		end = 0
	case FormatTSV, "":
	default:
		return nil, fmt.Errorf("format %q is unknown (use tsv, json or nul)", format)
	}
	var buffer []byte
	return func(s *clip.Summary) error {
		buffer = strconv.AppendUint(buffer[:0], uint64(s.ID), 10)
		buffer = append(append(append(buffer, '\t'), s.Preview...), end)
		_, err := w.Write(buffer)
		return err
	}, nil
}
