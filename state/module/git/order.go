package git

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"orrery/state"
)

// ref is a name for an object.
type ref struct{ name, id string }

// refs reads them, by name.
func refs(ctx context.Context, at string) ([]ref, error) {
	var all []ref
	err := drain(ctx, at, nil, func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			id, name, _ := strings.Cut(lines.Text(), " ")
			if !validRef(name) || !validID(id) {
				return fmt.Errorf("%w: git lists the ref %q", state.ErrCorrupt, lines.Text())
			}
			all = append(all, ref{name, id})
		}
		return lines.Err()
	}, "for-each-ref", "--format=%(objectname) %(refname)")
	slices.SortFunc(all, func(a, b ref) int { return cmp.Compare(a.name, b.name) })
	return all, err
}

// validID says whether it can be an object's id.
func validID(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && (len(raw) == 20 || len(raw) == 32) && id == strings.ToLower(id)
}

// order is a list of objects without doubles; ids are kept as bytes.
type order struct {
	ids  []string
	seen map[string]bool
}

func (o *order) add(id []byte) error {
	raw := make([]byte, hex.DecodedLen(len(id)))
	if _, err := hex.Decode(raw, id); err != nil {
		return fmt.Errorf("%w: git names an object %.80q", state.ErrCorrupt, id)
	}
	if key := string(raw); !o.seen[key] {
		o.seen[key] = true
		o.ids = append(o.ids, key)
	}
	return nil
}

// reader yields the ids in hex, one a line.
func (o *order) reader(from int) io.Reader {
	return &idReader{left: o.ids[from:]}
}

type idReader struct {
	left []string
	rest []byte
}

func (r *idReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if len(r.left) == 0 {
			return 0, io.EOF
		}
		r.rest = hex.AppendEncode(r.rest, []byte(r.left[0]))
		r.rest = append(r.rest, '\n')
		r.left = r.left[1:]
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// commit is what the order depends on.
type commit struct {
	date     int64
	id, tree string
}

// objects lists everything that the tips reach: commits by date, each before the trees and files that it brought, then
// what else there is (tags, and what they name), by id.
func objects(ctx context.Context, at string, tips []string) (*order, error) {
	o := &order{seen: map[string]bool{}}
	if len(tips) == 0 {
		return o, nil
	}
	commits, err := commits(ctx, at, tips)
	if err != nil {
		return nil, err
	}
	if err := o.walk(ctx, at, commits); err != nil {
		return nil, err
	}
	known := len(o.ids)
	if err := o.reachable(ctx, at, tips); err != nil {
		return nil, err
	}
	slices.Sort(o.ids[known:])
	return o, nil
}

func lines(all []string) io.Reader { return strings.NewReader(strings.Join(all, "\n") + "\n") }

func commits(ctx context.Context, at string, tips []string) ([]commit, error) {
	var all []commit
	err := drain(ctx, at, lines(tips), func(r io.Reader) error {
		in := bufio.NewScanner(r)
		for in.Scan() {
			if strings.HasPrefix(in.Text(), "commit ") {
				continue
			}
			fields := strings.Fields(in.Text())
			if len(fields) != 3 {
				return fmt.Errorf("%w: git lists the commit %q", state.ErrCorrupt, in.Text())
			}
			date, err := strconv.ParseInt(fields[0], 10, 64)
			if err != nil {
				return fmt.Errorf("%w: git lists the commit %q", state.ErrCorrupt, in.Text())
			}
			all = append(all, commit{date, fields[1], fields[2]})
		}
		return in.Err()
	}, "rev-list", "--stdin", "--format=%ct %H %T")
	slices.SortFunc(all, func(a, b commit) int { return cmp.Or(cmp.Compare(a.date, b.date), cmp.Compare(a.id, b.id)) })
	return all, err
}

// walk adds each commit with what its tree has that its first parent's tree has not.
func (o *order) walk(ctx context.Context, at string, commits []commit) error {
	trees := make(map[string]string, len(commits))
	ids := make([]string, len(commits))
	for i, c := range commits {
		ids[i], trees[c.id] = c.id, c.tree
	}
	if len(ids) == 0 {
		return nil
	}
	return drain(ctx, at, lines(ids), func(r io.Reader) error {
		in := bufio.NewReaderSize(r, 64<<10)
		for {
			line, err := in.ReadBytes(0)
			switch {
			case errors.Is(err, io.EOF) && len(line) == 0:
				return nil
			case err != nil:
				return err
			}
			if line[0] == ':' {
				err = o.change(line, in)
			} else if id := strings.Trim(string(line), "\x00\n"); id != "" {
				err = errors.Join(o.add([]byte(id)), o.add([]byte(trees[id])))
			}
			if err != nil {
				return err
			}
		}
	}, "diff-tree", "--stdin", "-r", "-t", "--root", "--always", "--diff-merges=first-parent", "--no-renames", "--raw", "--no-abbrev", "-z")
}

// change adds what a line ":MODE MODE ID ID STATUS", which a path follows, says is there now, if it is in this repository.
func (o *order) change(line []byte, in *bufio.Reader) error {
	if _, err := in.ReadBytes(0); err != nil {
		return err
	}
	fields := bytes.Fields(line)
	if len(fields) != 5 {
		return fmt.Errorf("%w: git lists the change %.200q", state.ErrCorrupt, line)
	}
	if mode := string(fields[1]); mode == "000000" || mode == "160000" {
		return nil // removed, or a submodule's commit
	}
	return o.add(fields[3])
}

// reachable adds the rest of what Git itself finds, and has it fail where something is missing.
func (o *order) reachable(ctx context.Context, at string, tips []string) error {
	return drain(ctx, at, lines(tips), func(r io.Reader) error {
		in := bufio.NewReaderSize(r, 64<<10)
		for {
			line, err := in.ReadBytes('\n')
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return nil
			}
			if err != nil {
				return err
			}
			if err := o.add(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
				return err
			}
		}
	}, "rev-list", "--objects", "--no-object-names", "--stdin")
}
