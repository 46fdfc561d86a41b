package exchange

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"orrery/clip"
)

// CopyQ keeps a file a tab, the newest item first: a number of items, and for each -2, a number of types, and for each of these its name, whether its
// content is compressed, and that. Numbers have 32 bits, the highest byte first; texts are a number of bytes and UTF-16; contents are a number of bytes and those (Qt's QDataStream).
const (
	copyqItem      = -2
	copyqEncrypted = -3
	copyqNothing   = 0xffffffff
	copyqInternal  = "application/x-copyq-"
	copyqFile      = "FILE:" // begins the name of a type whose content is in another file
	maxCopyQ       = 1 << 32
	maxCopyQTypes  = 4096
	maxCopyQItems  = 1 << 20
)

// copyqTypes are beginnings of types, by the digit that stands for them.
var copyqTypes = map[byte]string{ //nolint:gochecknoglobals // a table
	'0': "", '1': copyqInternal + "owner-window-title", '2': copyqInternal + "item-notes", '3': copyqInternal, '4': "text/plain", '5': "text/html", '6': "text/uri-list",
	'7': "image/", '8': "text/", '9': "application/", 'a': "audio/", 'b': "video/",
}

// readCopyQ reads a tab's file, or all in a folder.
func readCopyQ(ctx context.Context, path string, each Each) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return readTab(ctx, path, each)
	}
	tabs, err := filepath.Glob(filepath.Join(path, "copyq_tab_*.dat"))
	if err != nil {
		return err
	}
	if len(tabs) == 0 {
		return fmt.Errorf("%w: no file copyq_tab_*.dat is in it", ErrFormat)
	}
	for _, tab := range tabs {
		if err := readTab(ctx, tab, each); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(tab), err)
		}
	}
	return nil
}

// tabOf is the tab that a file's name means; "" for the clipboard's.
func tabOf(path string) string {
	name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "copyq_tab_"), ".dat")
	tab, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(name, "-", "/"))
	if err != nil || string(tab) == "&clipboard" {
		return ""
	}
	return strings.ReplaceAll(string(tab), "&", "") // which marks a key
}

func readTab(ctx context.Context, path string, each Each) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > maxCopyQ {
		return fmt.Errorf("%d bytes: %w", info.Size(), clip.ErrTooLarge)
	}
	return decodeTab(ctx, f, info.Size(), tabOf(path), info.ModTime(), each, outside)
}

// decodeTab looks for where items begin, and then reads them backwards.
func decodeTab(ctx context.Context, from io.ReaderAt, size int64, tab string, written time.Time, each Each, outside func(path string) ([]byte, error)) error {
	d := &qtReader{from: from, size: size, outside: outside}
	n := d.number()
	if d.err == nil && n > maxCopyQItems {
		d.err = fmt.Errorf("%w: %d items", ErrFormat, n)
	}
	var begins []int64
	for i := uint32(0); i < n && d.err == nil && ctx.Err() == nil; i++ {
		begins = append(begins, d.at)
		d.item(false)
		if d.err != nil {
			d.err = fmt.Errorf("item %d: %w", i+1, d.err)
		}
	}
	if err := errors.Join(ctx.Err(), d.err); err != nil {
		return err
	}
	times := newClock(written, len(begins))
	for i, begin := range slices.Backward(begins) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.at = begin
		contents := d.item(true)
		if d.err != nil {
			return fmt.Errorf("item %d: %w", i+1, d.err)
		}
		item := copied(contents, tab)
		item.Used = times.tick()
		if len(item.Contents) == 0 {
			continue // CopyQ's own alone, such as what it encrypted
		}
		if err := each(item); err != nil {
			return fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	return nil
}

// copied makes an item of CopyQ's contents, among which is what people say of it.
func copied(contents []clip.Content, tab string) (item clip.Item) {
	if tab != "" && len(tab) <= clip.MaxTag {
		item.Tags = append(item.Tags, tab)
	}
	for _, c := range contents {
		switch name, own := strings.CutPrefix(c.Type, copyqInternal); {
		case !own:
			item.Contents = append(item.Contents, c)
		case name == "item-notes":
			item.Note = strings.ToValidUTF8(string(c.Data[:min(len(c.Data), clip.MaxNote)]), "")
		case name == "item-pinned":
			item.Pinned = true
		case name == "tags":
			for t := range strings.SplitSeq(string(c.Data), ",") {
				if t = strings.TrimSpace(t); t != "" && len(t) <= clip.MaxTag && len(item.Tags) < clip.MaxTags && !slices.Contains(item.Tags, t) {
					item.Tags = append(item.Tags, t)
				}
			}
		}
	}
	slices.Sort(item.Tags)
	return item
}

// qtReader takes what QDataStream wrote. After an error all is zero.
type qtReader struct {
	from io.ReaderAt
	size int64
	at   int64
	err  error
	// outside reads the content that is in another file.
	outside func(path string) ([]byte, error)
}

func (d *qtReader) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: byte %d: %s", ErrFormat, d.at, fmt.Sprintf(format, args...))
	}
}

func (d *qtReader) bytes(n int64) []byte {
	if d.err != nil || n > d.size-d.at {
		d.fail("it ends too early")
		return nil
	}
	b := make([]byte, n)
	if _, err := d.from.ReadAt(b, d.at); err != nil && !errors.Is(err, io.EOF) {
		d.err = err
		return nil
	}
	d.at += n
	return b
}

func (d *qtReader) number() uint32 {
	if b := d.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// array is bytes with their number before; skip leaves them out.
func (d *qtReader) array(limit int64, skip bool) []byte {
	n := int64(d.number())
	switch {
	case n == copyqNothing:
		return nil
	case skip && n <= d.size-d.at:
		d.at += n
		return nil
	case n > limit:
		d.fail("%d bytes are too many", n)
		return nil
	}
	return d.bytes(n)
}

func (d *qtReader) text() string {
	b := d.array(4*clip.MaxType, false)
	if len(b)%2 != 0 {
		d.fail("a text has half a letter")
	}
	var units []uint16
	for pair := range slices.Chunk(b, 2) {
		if len(pair) == 2 {
			units = append(units, binary.BigEndian.Uint16(pair))
		}
	}
	return string(utf16.Decode(units))
}

// item reads an item, or passes it.
func (d *qtReader) item(read bool) (contents []clip.Content) {
	switch version := int32(d.number()); { //nolint:gosec // it has a sign
	case d.err != nil:
		return nil
	case version == copyqEncrypted:
		d.err = fmt.Errorf("%w: CopyQ's tabs are (turn their encryption off in CopyQ, and try again)", ErrEncrypted)
		return nil
	case version != copyqItem:
		d.fail("an item of a version that is not known (%d)", version)
		return nil
	}
	n := d.number()
	if n > maxCopyQTypes {
		d.fail("%d types are too many", n)
	}
	for i := uint32(0); i < n && d.err == nil; i++ {
		if c, ok := d.content(read); ok {
			contents = append(contents, c)
		}
	}
	return contents
}

func (d *qtReader) content(read bool) (c clip.Content, ok bool) {
	name := d.text()
	compressed := d.bytes(1)
	if d.err != nil {
		return c, false
	}
	if name == "" {
		d.fail("a type has no name")
		return c, false
	}
	begin, known := copyqTypes[name[0]]
	if !known {
		d.fail("a type begins with %q", name[0])
		return c, false
	}
	c.Type = begin + name[1:]
	file, elsewhere := strings.CutPrefix(c.Type, copyqFile)
	c.Data = d.array(clip.MaxItem, !read)
	switch {
	case d.err != nil || !read:
		return c, false
	case elsewhere:
		c.Type = file
		if c.Data, d.err = d.outside(string(c.Data)); d.err != nil {
			return c, false
		}
	case compressed[0] != 0:
		c.Data = d.inflate(c.Data)
	}
	return c, d.err == nil
}

// inflate undoes Qt's qCompress: a size, and zlib's.
func (d *qtReader) inflate(b []byte) []byte {
	if len(b) < 4 {
		d.fail("compressed content of %d bytes", len(b))
		return nil
	}
	z, err := zlib.NewReader(bytes.NewReader(b[4:]))
	if err != nil {
		d.fail("compressed content: %v", err)
		return nil
	}
	out, err := io.ReadAll(io.LimitReader(z, clip.MaxItem+1))
	switch {
	case err != nil:
		d.fail("compressed content: %v", err)
	case len(out) > clip.MaxItem:
		d.err = fmt.Errorf("compressed content: %w", clip.ErrTooLarge)
	case int64(len(out)) != int64(binary.BigEndian.Uint32(b)):
		d.fail("compressed content has %d bytes", len(out))
	default:
		return out
	}
	return nil
}
