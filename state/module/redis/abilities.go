package redis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"orrery/internal/spool"
	"orrery/state"
)

// Health implements state.Doctor: the server answers, is not loading, and accepts writes.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(d *database) error {
		if d.info["loading"] == "1" {
			return errors.New("the server is still loading its data")
		}
		if err := d.session.do(ctx, "PING").Err(); err != nil { // a server that cannot save answers by that it refuses writes
			return d.explain(err)
		}
		if _, err := os.Lstat(d.activeFile()); errors.Is(err, fs.ErrNotExist) {
			return state.ErrInactive
		} else if err != nil {
			return err
		}
		return nil
	})
}

// The sample by which a size is found.
const (
	sampleKeys   = 10000 // looked at for the prefix
	sampleValues = 200   // measured
)

// Size implements state.Sizer: the mean memory of some keys, times the number of keys.
func (m *Module) Size(ctx context.Context, t state.Target) (int64, error) {
	var size int64
	err := m.with(ctx, t, "measure", func(d *database) (err error) {
		size, err = d.measure(ctx)
		return err
	})
	return size, err
}

func (d *database) measure(ctx context.Context) (int64, error) {
	total, err := d.session.do(ctx, "DBSIZE").Int64()
	if err != nil || total == 0 {
		return 0, d.explain(err)
	}
	var looked, ours, measured, bytes int64
	cursor := "0"
	for looked < sampleKeys {
		page, err := d.session.do(ctx, "SCAN", cursor, "COUNT", scanCount).Slice()
		if err != nil {
			return 0, d.explain(err)
		}
		var keys []string
		if cursor, keys, err = scanned(page); err != nil {
			return 0, err
		}
		for _, key := range keys {
			looked++
			if !strings.HasPrefix(key, d.prefix) {
				continue
			}
			if ours++; measured < sampleValues {
				measured++
				n, err := d.session.do(ctx, "MEMORY", "USAGE", key).Int64() // an error: it is gone
				if err == nil {
					bytes += n
				}
			}
		}
		if cursor == "0" {
			break
		}
	}
	if measured == 0 || looked == 0 {
		return 0, nil
	}
	return int64(float64(bytes) / float64(measured) * float64(ours) / float64(looked) * float64(total)), nil
}

// Version implements state.Versioner.
func (m *Module) Version(ctx context.Context, t state.Target) (version string, err error) {
	err = m.with(ctx, t, "ask the version of", func(d *database) error {
		version = "Redis " + d.info["redis_version"]
		if d.info["server_name"] == "valkey" {
			version = "Valkey " + d.info["valkey_version"]
		}
		return nil
	})
	return version, err
}

// Shell implements state.Sheller: redis-cli in the component's database.
func (*Module) Shell(_ context.Context, t state.Target, script string) (state.Command, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return state.Command{}, err
	}
	p, err := decode(t.Component)
	if err != nil {
		return state.Command{}, err
	}
	password, err := s.password()
	if err != nil {
		return state.Command{}, err
	}
	path, err := exec.LookPath("redis-cli")
	if err != nil || !filepath.IsAbs(path) {
		return state.Command{}, fmt.Errorf("redis-cli: %w (apt-get install redis-tools)", state.ErrNotFound)
	}
	c := state.Command{Path: path, Args: []string{"-h", s.Host, "-p", strconv.Itoa(s.Port)}}
	if s.Socket != "" {
		c.Args = []string{"-s", s.Socket}
	}
	c.Args = append(c.Args, "-n", strconv.Itoa(*p.DB))
	if s.User != "" {
		c.Args = append(c.Args, "--user", s.User)
	}
	if password != "" {
		c.Env = []string{"REDISCLI_AUTH=" + password}
	}
	if strings.TrimSpace(script) == "" {
		return c, nil
	}
	words, err := split([]byte(script))
	if err != nil {
		return state.Command{}, fmt.Errorf("cannot read the command: %w", err)
	}
	c.Args = append(c.Args, "-e")
	for _, w := range words {
		c.Args = append(c.Args, string(w))
	}
	return c, nil
}

// maxItem is the longest content of an item that is told as it is.
const maxItem = 4 << 10

// Items implements state.Itemizer: the items are keys, without the prefix. What a key holds is told in words, or by a digest
// where it is long.
func (*Module) Items(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	var content bytes.Buffer
	sum := sha256.New()
	write := func(format string, args ...any) {
		b := fmt.Appendf(nil, format, args...)
		sum.Write(b)
		if content.Len() <= maxItem {
			content.Write(b[:min(len(b), maxItem+1-content.Len())])
		}
	}
	return read(snapshot, visitor{
		key: func(e entry) error {
			content.Reset()
			sum.Reset()
			write("%s", typeNames[e.kind])
			if e.expiry != 0 {
				write(" until %d", e.expiry)
			}
			if e.stream.Added != 0 {
				write(" last %s deleted %s added %d", spellID(e.stream.Last), spellID(e.stream.MaxDeleted), e.stream.Added)
			}
			return ctx.Err()
		},
		element: func(_ entry, one element) error {
			write(" %q=%q", one.name, one.value)
			return nil
		},
		end: func(e entry) error {
			item := state.Item{Key: e.key, Content: content.Bytes()}
			if content.Len() > maxItem {
				item.Content = fmt.Appendf(nil, "%s sha256:%x", typeNames[e.kind], sum.Sum(nil))
			}
			return visit(item)
		},
	})
}

// Group implements state.Presenter: a key is counted with its kind.
func (*Module) Group(i state.Item) string {
	kind, _, _ := bytes.Cut(i.Content, []byte{' '})
	return string(kind)
}

// Name implements state.Presenter.
func (*Module) Name(i state.Item) string { return string(i.Key) }

// RestorePart implements state.PartRestorer: the part is a key, without the prefix.
func (m *Module) RestorePart(ctx context.Context, t state.Target, r io.Reader, part string) error {
	return m.with(ctx, t, fmt.Sprintf("restore key %.80q of", part), func(d *database) error {
		now, err := d.now(ctx)
		if err != nil {
			return err
		}
		wanted := func(e entry) bool { return string(e.key) == part }
		missing := fmt.Errorf("%w in the snapshot", state.ErrNotFound)
		return spool.With(d.folder, func(f *os.File) error {
			err := read(io.TeeReader(r, f), visitor{key: func(e entry) error {
				if wanted(e) {
					missing = nil
					if e.expiry != 0 && e.expiry <= now {
						missing = fmt.Errorf("%w any more: it expired", state.ErrNotFound)
					}
				}
				return nil
			}})
			if err = errors.Join(err, missing); err != nil {
				return err
			}
			return d.load(ctx, f, wanted, commitKey, d.prefix+part)
		})
	})
}
