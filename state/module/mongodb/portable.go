package mongodb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // the name of a file, as mongodump makes it
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orrery/internal/spool"
	"orrery/state"
)

var _ state.Portable = (*Module)(nil)

const (
	portableFolder = "database/"
	dataSuffix     = ".bson"
	aboutSuffix    = ".metadata.json"
	maxAbout       = 256 << 20 // of all metadata, which is kept in memory
)

// Extension implements state.Portable.
func (*Module) Extension() string { return ".tar" }

// about is what a file of metadata says, in extended JSON.
type about struct {
	Options    bson.Raw   `bson:"options"`
	Indexes    []bson.Raw `bson:"indexes"`
	Collection string     `bson:"collectionName"`
	Type       string     `bson:"type"`
}

// Export implements state.Portable: a tar file of a folder as mongodump writes it, which mongorestore reads when it is
// unpacked (mongorestore --nsFrom 'database.*' --nsTo 'NAME.*' DIR).
func (*Module) Export(ctx context.Context, snapshot io.Reader, w io.Writer) error {
	out := tar.NewWriter(w)
	err := spool.With("", func(f *os.File) error {
		return read(snapshot, &exporter{ctx: ctx, out: out, f: f})
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// exporter puts each collection into a file first, for a tar file says lengths before contents.
type exporter struct {
	ctx  context.Context //nolint:containedctx // of the one call
	out  *tar.Writer
	f    *os.File
	to   *bufio.Writer
	size int64
	what part
}

func (e *exporter) part(p part) error {
	e.what, e.size = p, 0
	if err := e.about(p); err != nil {
		return err
	}
	if err := e.f.Truncate(0); err != nil {
		return err
	}
	_, err := e.f.Seek(0, io.SeekStart)
	e.to = bufio.NewWriterSize(e.f, 64<<10)
	return err
}

func (e *exporter) document(doc []byte) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	n, err := e.to.Write(doc)
	e.size += int64(n)
	return err
}

func (e *exporter) closeCollection() error {
	if err := e.to.Flush(); err != nil {
		return err
	}
	return e.entry(fileName(e.what.name)+dataSuffix, e.size, io.NewSectionReader(e.f, 0, e.size))
}

func (e *exporter) entry(name string, size int64, content io.Reader) error {
	if err := e.out.WriteHeader(&tar.Header{Name: portableFolder + name, Typeflag: tar.TypeReg, Mode: 0o600, Size: size, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err := io.Copy(e.out, content)
	return err
}

// about writes the metadata of a collection or view.
func (e *exporter) about(p part) error {
	kind, indexes := "view", []bson.D{}
	if !p.view {
		kind = "collection"
		indexes = append(indexes, bson.D{{Key: "v", Value: 2}, {Key: "key", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "name", Value: "_id_"}})
		all, err := p.indexes()
		if err != nil {
			return err
		}
		for _, index := range all {
			fields, err := sortFields(index)
			if err != nil {
				return err
			}
			indexes = append(indexes, append(bson.D{{Key: "v", Value: 2}}, fields...))
		}
	}
	text, err := bson.MarshalExtJSON(bson.D{
		{Key: "options", Value: p.options()},
		{Key: "indexes", Value: indexes},
		{Key: "uuid", Value: ""},
		{Key: "collectionName", Value: p.name},
		{Key: "type", Value: kind},
	}, true, false)
	if err != nil {
		return err
	}
	return e.entry(fileName(p.name)+aboutSuffix, int64(len(text)), bytes.NewReader(text))
}

// fileName is what mongodump calls the files of a collection.
func fileName(collection string) string {
	const longest, kept = 238, 208
	escaped := url.PathEscape(collection)
	if len(escaped) <= longest {
		return escaped
	}
	sum := sha1.Sum([]byte(collection)) //nolint:gosec // it only tells names apart
	return escaped[:kept] + "%24" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// Import implements state.Portable. It takes what Export wrote, or a tar file of the folder that mongodump wrote of one database.
func (*Module) Import(ctx context.Context, plain io.Reader, w io.Writer) error {
	return spool.With("", func(f *os.File) error {
		in := &importer{ctx: ctx, f: f, abouts: map[string]about{}, data: map[string]run{}}
		if err := in.read(plain); err != nil {
			return err
		}
		return in.write(w)
	})
}

// importer keeps the documents of all collections in a file, because files come in any order.
type importer struct {
	ctx    context.Context //nolint:containedctx // of the one call
	f      *os.File
	end    int64
	folder string
	text   int64            // bytes of metadata
	abouts map[string]about // by the files' names without their ends
	data   map[string]run
}

// run is a range of the importer's file that holds documents.
type run struct{ from, to int64 }

// tally counts what is read.
type tally struct {
	from io.Reader
	n    int64
}

func (t *tally) Read(b []byte) (int, error) {
	n, err := t.from.Read(b)
	t.n += int64(n)
	return n, err
}

// read takes a tar file. Its end is two blocks of zeros: a file that was cut short between two files in it has none.
func (in *importer) read(plain io.Reader) error {
	const block = 512
	counted := &tally{from: plain}
	archive := tar.NewReader(counted)
	for {
		if _, err := io.Copy(io.Discard, archive); err != nil { // what was left of the file before
			return torn(err)
		}
		from := (counted.n + block - 1) / block * block
		h, err := archive.Next()
		if err == io.EOF && counted.n < from+2*block {
			err = io.ErrUnexpectedEOF
		}
		switch {
		case err == io.EOF:
			return in.ctx.Err()
		case err != nil:
			return torn(err)
		case h.Typeflag == tar.TypeDir:
			continue
		}
		if err := in.file(h, archive); err != nil {
			return fmt.Errorf("file %.300q: %w", h.Name, err)
		}
	}
}

// torn says what an error of the tar file's reader means.
func torn(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: the tar file ends in the middle", state.ErrCorrupt)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("%w: it is not a tar file: %w", state.ErrCorrupt, err)
	}
	return fmt.Errorf("cannot read the tar file: %w", err)
}

func (in *importer) file(h *tar.Header, content io.Reader) error {
	path := strings.TrimPrefix(h.Name, "./")
	slash := strings.LastIndexByte(path, '/')
	folder, name := path[:slash+1], path[slash+1:]
	if name == "prelude.json" || strings.HasPrefix(name, "system.") {
		return in.refuseBuckets(name)
	}
	if len(in.abouts)+len(in.data) > 0 && folder != in.folder {
		return fmt.Errorf("%w: it is in another folder than what is before it (take the folder of one database)", state.ErrCorrupt)
	}
	in.folder = folder
	base, isAbout := strings.CutSuffix(name, aboutSuffix)
	_, known := in.abouts[base]
	if isAbout && !known && h.Typeflag == tar.TypeReg {
		return in.about(base, content)
	}
	base, isData := strings.CutSuffix(name, dataSuffix)
	_, known = in.data[base]
	if isData && !known && h.Typeflag == tar.TypeReg {
		return in.documents(base, content)
	}
	return fmt.Errorf("%w: it is no file of mongodump's that is expected here (unpack what ends in .gz)", state.ErrCorrupt)
}

func (*importer) refuseBuckets(name string) error {
	if strings.HasPrefix(name, "system.buckets.") {
		return fmt.Errorf("it is of a time series: %w keep it", state.ErrNotAble)
	}
	return nil
}

func (in *importer) about(base string, content io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(content, maxAbout))
	if err != nil {
		return torn(err)
	}
	if in.text += int64(len(text)); in.text >= maxAbout {
		return fmt.Errorf("%w: there is more metadata than %d bytes", state.ErrCorrupt, maxAbout)
	}
	var a about
	if err := bson.UnmarshalExtJSON(text, false, &a); err != nil {
		return fmt.Errorf("%w: it is not extended JSON: %w", state.ErrCorrupt, err)
	}
	for _, raw := range append([]bson.Raw{a.Options}, a.Indexes...) {
		if raw != nil {
			if err := check(raw); err != nil {
				return err
			}
		}
	}
	if a.Type != "" && a.Type != "collection" && a.Type != "view" {
		return fmt.Errorf("it is of a %s: %w keep it", a.Type, state.ErrNotAble)
	}
	if a.Collection == "" {
		if a.Collection, err = url.PathUnescape(base); err != nil {
			return fmt.Errorf("%w: its name is not that of a collection: %w", state.ErrCorrupt, err)
		}
	}
	in.abouts[base] = a
	return nil
}

func (in *importer) documents(base string, content io.Reader) error {
	from := in.end
	n, err := io.Copy(io.NewOffsetWriter(in.f, in.end), content)
	if in.end += n; errors.Is(err, io.ErrUnexpectedEOF) {
		return torn(err)
	}
	in.data[base] = run{from, in.end}
	return err
}

// write puts everything into the order of a snapshot. Documents without metadata are a collection without indexes.
func (in *importer) write(w io.Writer) error {
	for base := range in.data {
		if _, ok := in.abouts[base]; ok {
			continue
		}
		name, err := url.PathUnescape(base)
		if err != nil {
			return fmt.Errorf("%w: %q is not the name of a collection: %w", state.ErrCorrupt, base, err)
		}
		in.abouts[base] = about{Collection: name}
	}
	parts, bases, err := in.parts()
	if err != nil {
		return err
	}
	out, err := newWriter(w)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := out.part(p); err != nil {
			return err
		}
		if p.view {
			continue
		}
		if err := in.collection(out, p, in.data[bases[p.name]]); err != nil {
			return fmt.Errorf("collection %q: %w", p.name, err)
		}
	}
	return out.end()
}
