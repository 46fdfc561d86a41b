package dysnomia

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The revision that every repository begins with, as svnadmin dump writes it.
const beginning = "Revision-number: 0\nProp-content-length: 10\nContent-length: 10\n\nPROPS-END\n\n"

// SubversionDump makes a dump of a whole repository of one by Dysnomia's module, which is of its newest revision alone:
// the content becomes revision 1. Where a repository has more revisions than that, it is refused: they would be lost.
func SubversionDump(c *Call, dump *bufio.Reader) (io.Reader, error) {
	head, err := dump.Peek(4096)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	field := []byte("\nRevision-number: ")
	at := bytes.Index(head, field)
	if at < 0 {
		return dump, nil // whoever reads it says what is wrong
	}
	text, _, found := bytes.Cut(head[at+len(field):], []byte("\n"))
	revision, err := strconv.ParseUint(string(text), 10, 63)
	if err != nil || !found || revision == 0 {
		return dump, nil //nolint:nilerr // the same
	}
	if c != nil {
		if err := c.keepsHistory(revision); err != nil {
			return nil, err
		}
	}
	before := string(head[:at+1])
	if _, err := dump.Discard(at + len(field) + len(text)); err != nil {
		return nil, err
	}
	return io.MultiReader(strings.NewReader(before+beginning+"Revision-number: 1"), dump), nil
}

// keepsHistory refuses to replace a repository of several revisions by one revision.
func (c *Call) keepsHistory(revision uint64) error {
	path := filepath.Join(c.Property("svnBaseDir", ""), c.Ref.Component)
	content, err := os.ReadFile(filepath.Join(path, "db", "current"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	youngest, _, _ := strings.Cut(strings.TrimSpace(string(content)), " ")
	if youngest == "0" || youngest == "1" {
		return nil
	}
	return fmt.Errorf("the snapshot has revision %d alone, as Dysnomia's module takes it, and %s has a history of %s revisions, which would be lost (move it away first if that is meant)", revision, path, youngest)
}
