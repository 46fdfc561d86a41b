package subversion

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"

	"orrery/state"
	"orrery/state/module/place"
)

// reading follows a dump record by record: a few fields, an empty line, as many bytes as the field Content-length says.
// It passes everything on but the end marker.
type reading struct {
	r      *bufio.Reader
	w      io.Writer
	framed bool // there must be an end marker
	// visit, if set, gets each revision with a digest of everything that the dump says of it.
	visit func(revision int64, digest []byte) error

	uuid     string
	revision int64 // the newest one
	begun    bool  // a revision was there
	sum      hash.Hash
}

// fields is one record's head.
type fields struct {
	first, value string // its first field
	length       int64  // of its content
}

// all reads to the end.
func (d *reading) all() error {
	if d.visit != nil {
		d.sum = sha256.New()
	}
	version, err := d.head()
	if err != nil {
		return err
	}
	if version.first != "SVN-fs-dump-format-version" || version.value != "2" && version.value != "3" {
		return fmt.Errorf("%w: it does not begin as a dump of version 2 or 3 does", state.ErrCorrupt)
	}
	for {
		f, err := d.head()
		if errors.Is(err, io.EOF) && !d.framed && d.begun && d.uuid != "" {
			return d.leave()
		}
		if err != nil {
			return d.cutShort(err)
		}
		if f.first == endField {
			return d.end(f)
		}
		if err := d.record(f); err != nil {
			return err
		}
	}
}

// record takes one record in.
func (d *reading) record(f fields) error {
	switch f.first {
	case "UUID":
		if d.uuid != "" || d.begun {
			return fmt.Errorf("%w: the UUID is in the wrong place", state.ErrCorrupt)
		}
		d.uuid = f.value
	case "Revision-number":
		n, err := strconv.ParseInt(f.value, 10, 64)
		want := d.revision + 1
		if !d.begun {
			want = 0
		}
		if err != nil || n != want {
			return fmt.Errorf("%w: revision %q where %d should be", state.ErrCorrupt, f.value, want)
		}
		if err := d.leave(); err != nil {
			return err
		}
		d.revision, d.begun = n, true
	case "Node-path":
		if !d.begun {
			return fmt.Errorf("%w: a path before the first revision", state.ErrCorrupt)
		}
	default:
		return fmt.Errorf("%w: a record that begins with %.40q", state.ErrCorrupt, f.first)
	}
	if d.sum != nil {
		fmt.Fprintf(d.sum, "%s: %s\n", f.first, f.value)
	}
	_, err := io.CopyN(d.out(), d.r, f.length)
	return d.cutShort(err)
}

// end sees to it that the end marker is the end and fits.
func (d *reading) end(f fields) error {
	if !d.framed || !d.begun || d.uuid == "" || f.value != strconv.FormatInt(d.revision, 10) || f.length != 0 {
		return fmt.Errorf("%w: its end marker says revision %.20q, it has %d", state.ErrCorrupt, f.value, d.revision)
	}
	if _, err := d.r.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("%w: something comes after its end marker", state.ErrCorrupt)
		}
		return err
	}
	return d.leave()
}

// leave visits the revision that ends here.
func (d *reading) leave() error {
	if d.visit == nil || !d.begun {
		return nil
	}
	defer d.sum.Reset()
	return d.visit(d.revision, d.sum.Sum(nil))
}

// cutShort says what an end in the middle means.
func (d *reading) cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the dump ends after revision %d, in the middle", state.ErrCorrupt, d.revision)
	}
	return err
}

// out is where bytes go.
func (d *reading) out() io.Writer {
	switch {
	case d.sum == nil:
		return d.w
	case d.w == nil:
		return d.sum
	}
	return io.MultiWriter(d.w, d.sum)
}

// head reads the empty lines and the fields before a record's content. io.EOF means that there is none.
func (d *reading) head() (fields, error) {
	var f fields
	for {
		line, err := d.r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0 && f.first == "":
			return f, io.EOF
		case errors.Is(err, io.EOF):
			return f, io.ErrUnexpectedEOF
		case errors.Is(err, bufio.ErrBufferFull):
			return f, fmt.Errorf("%w: a line is longer than %d bytes", state.ErrCorrupt, place.MaxLine)
		case err != nil:
			return f, err
		}
		if f.first == "" && bytes.HasPrefix(line, []byte(endField+": ")) {
			return fields{first: endField, value: strings.TrimSuffix(string(line[len(endField)+2:]), "\n")}, nil
		}
		if d.w != nil {
			if _, err := d.w.Write(line); err != nil {
				return f, err
			}
		}
		if len(line) > 1 {
			if err := d.field(&f, line); err != nil {
				return f, err
			}
		} else if f.first != "" {
			return f, nil
		}
	}
}

func (d *reading) field(f *fields, line []byte) error {
	name, value, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), ": ")
	if !ok || name == "" {
		return fmt.Errorf("%w: %.40q is no field", state.ErrCorrupt, line)
	}
	switch {
	case f.first == "":
		f.first, f.value = name, value
		return nil
	case name == "Content-length":
		var err error
		if f.length, err = strconv.ParseInt(value, 10, 64); err != nil || f.length < 0 {
			return fmt.Errorf("%w: a content of length %.40q", state.ErrCorrupt, value)
		}
	}
	if d.sum != nil && f.first != "Revision-number" {
		_, _ = d.sum.Write(line) // never fails
	}
	return nil
}
