package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"orrery/internal/folder"
	"orrery/state"
	"orrery/state/module/place"
)

// A snapshot is, in this order:
//
//	Orrery Git snapshot 1
//	format sha1                             or sha256: how objects are named
//	configuration yes                       the files that configure it (see place.Files)
//	head refs/heads/main                    or the id of a commit
//	objects 1234
//	commit 254                              for each object its type and size, its content, and a line's end
//	...
//	refs 5
//	0a1b... refs/heads/main                 by name
//	end
const (
	magic   = "Orrery Git snapshot 1\n"
	endLine = "end"
)

// header is what a snapshot says of the whole repository.
type header struct{ format, head string }

// dump writes the repository's snapshot, as of one look at its refs.
func (r *repository) dump(ctx context.Context, at string, w io.Writer) error {
	if err := r.bare(ctx, at); err != nil {
		return err
	}
	h, all, err := look(ctx, at)
	if err != nil {
		return err
	}
	var tips []string
	for _, ref := range all {
		tips = append(tips, ref.id)
	}
	if validID(h.head) {
		tips = append(tips, h.head)
	}
	list, err := objects(ctx, at, tips)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprintf(out, "%sformat %s\n", magic, h.format) // out keeps the first error, as of all below
	if err := configuration.Write(out, at, r.props.Configuration); err != nil {
		return err
	}
	fmt.Fprintf(out, "head %s\nobjects %d\n", h.head, len(list.ids))
	if err := contents(ctx, at, list, out); err != nil {
		return err
	}
	fmt.Fprintf(out, "refs %d\n", len(all))
	for _, ref := range all {
		fmt.Fprintf(out, "%s %s\n", ref.id, ref.name)
	}
	fmt.Fprintln(out, endLine)
	return out.Flush()
}

// look reads what names objects.
func look(ctx context.Context, at string) (header, []ref, error) {
	var h header
	var err error
	if h.format, err = ask(ctx, at, "rev-parse", "--show-object-format"); err != nil {
		return h, nil, err
	}
	if h.head, err = ask(ctx, at, "symbolic-ref", "--quiet", "HEAD"); err != nil {
		if h.head, err = ask(ctx, at, "rev-parse", "--verify", "HEAD^{commit}"); err != nil {
			return h, nil, err
		}
	}
	all, err := refs(ctx, at)
	return h, all, err
}

// contents writes the objects in that order.
func contents(ctx context.Context, at string, list *order, out *bufio.Writer) error {
	if len(list.ids) == 0 {
		return nil
	}
	return drain(ctx, at, list.reader(0), func(r io.Reader) error {
		in := bufio.NewReaderSize(r, 64<<10)
		want := bufio.NewScanner(list.reader(0))
		for want.Scan() {
			line, err := in.ReadString('\n')
			if err != nil {
				return cut(err)
			}
			fields := strings.Fields(line)
			if len(fields) != 3 || fields[0] != want.Text() {
				return fmt.Errorf("%w: git has of object %s only %q", state.ErrCorrupt, want.Text(), line)
			}
			size, err := strconv.ParseInt(fields[2], 10, 64)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(out, "%s %d\n", fields[1], size); err != nil {
				return err
			}
			if _, err := io.CopyN(out, in, size+1); err != nil { // with a line's end
				return cut(err)
			}
		}
		return want.Err()
	}, "cat-file", "--batch", "--buffer")
}

// load makes the repository side from a snapshot. Before is the repository that it replaces, if any.
func (r *repository) load(ctx context.Context, side, before string, owner folder.Owner, snapshot io.Reader) error {
	s := &stream{r: bufio.NewReaderSize(snapshot, place.MaxLine)}
	format, err := s.begin()
	if err != nil {
		return err
	}
	if err := r.found(ctx, side, format, owner); err != nil {
		return err
	}
	take := r.props.Configuration
	has, err := configuration.Read(s.r, side, take)
	if err != nil {
		return err
	}
	head, err := s.head()
	if err != nil {
		return err
	}
	if err := s.store(ctx, side, format); err != nil {
		return err
	}
	all, err := s.refs()
	if err != nil {
		return err
	}
	if err := name(ctx, side, head, all); err != nil {
		return err
	}
	if err := r.compare(ctx, side, head, all, s.objects); err != nil {
		return err
	}
	if before != "" && (!has || !take) {
		if err := configuration.Copy(side, before); err != nil {
			return err
		}
	}
	return owner.Give(side)
}

// name creates the refs.
func name(ctx context.Context, side, head string, all []ref) error {
	err := feed(ctx, side, func(w io.Writer) error {
		out := bufio.NewWriter(w)
		for _, ref := range all {
			if _, err := fmt.Fprintf(out, "create %s\x00%s\x00", ref.name, ref.id); err != nil {
				return err
			}
		}
		return out.Flush()
	}, "update-ref", "--stdin", "-z")
	if err != nil {
		return fmt.Errorf("%w: %w", state.ErrCorrupt, err)
	}
	if validID(head) {
		return run(ctx, side, "update-ref", "--no-deref", "HEAD", head)
	}
	return run(ctx, side, "symbolic-ref", "HEAD", head)
}

// compare has Git find out that everything is there and looks for what should not be.
func (r *repository) compare(ctx context.Context, side, head string, want []ref, count int) error {
	h, got, err := look(ctx, side)
	if err != nil {
		return err
	}
	if h.head != head || !slices.Equal(got, want) {
		return fmt.Errorf("%w: the refs that git made are not those of the snapshot", state.ErrCorrupt)
	}
	var tips []string
	for _, ref := range want {
		tips = append(tips, ref.id)
	}
	if validID(head) {
		tips = append(tips, head)
	}
	list, err := objects(ctx, side, tips)
	if err != nil {
		return fmt.Errorf("%w: the snapshot lacks history: %w", state.ErrCorrupt, err)
	}
	if len(list.ids) != count {
		return fmt.Errorf("%w: the snapshot's refs reach %d of its %d objects", state.ErrCorrupt, len(list.ids), count)
	}
	return nil
}

// stream is a snapshot that is being read.
type stream struct {
	r       *bufio.Reader
	objects int // how many it says it has
}

func (s *stream) line() (string, error) {
	line, err := s.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("%w: a line in the snapshot is longer than %d bytes", state.ErrCorrupt, place.MaxLine)
	case err != nil:
		return "", cut(err)
	}
	return string(line[:len(line)-1]), nil
}

// after reads a line that must begin with a word and returns the rest.
func (s *stream) after(word string) (string, error) {
	line, err := s.line()
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(line, word+" ")
	if !ok {
		return "", fmt.Errorf("%w: %.80q in the snapshot where %q should be", state.ErrCorrupt, line, word)
	}
	return rest, nil
}

func (s *stream) number(word string) (int, error) {
	rest, err := s.after(word)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(rest, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: %q %q in the snapshot is no number", state.ErrCorrupt, word, rest)
	}
	return int(n), nil
}

// begin reads the first lines.
func (s *stream) begin() (format string, err error) {
	line, err := s.line()
	if err != nil {
		return "", err
	}
	if line+"\n" != magic {
		return "", fmt.Errorf("%w: it is not a snapshot of a Git repository of version 1", state.ErrCorrupt)
	}
	format, err = s.after("format")
	if err == nil && format != "sha1" && format != "sha256" {
		err = fmt.Errorf("%w: objects are named by %.20q", state.ErrCorrupt, format)
	}
	return format, err
}

func (s *stream) head() (string, error) {
	head, err := s.after("head")
	if err == nil && !validRef(head) && !validID(head) {
		err = fmt.Errorf("%w: %.80q can be no HEAD", state.ErrCorrupt, head)
	}
	return head, err
}

// each calls visit for each object; content ends where the object does, and need not be read to there.
func (s *stream) each(visit func(kind string, size int64, content io.Reader) error) (err error) {
	if s.objects, err = s.number("objects"); err != nil {
		return err
	}
	for range s.objects {
		line, err := s.line()
		if err != nil {
			return err
		}
		kind, rest, _ := strings.Cut(line, " ")
		size, err := strconv.ParseInt(rest, 10, 64)
		if err != nil || size < 0 || packType[kind] == 0 {
			return fmt.Errorf("%w: %.80q in the snapshot is no object", state.ErrCorrupt, line)
		}
		content := &io.LimitedReader{R: s.r, N: size}
		if err := visit(kind, size, content); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, content); err != nil || content.N > 0 {
			return cut(errors.Join(err, io.ErrUnexpectedEOF))
		}
		if b, err := s.r.ReadByte(); err != nil || b != '\n' {
			return cut(errors.Join(err, io.ErrUnexpectedEOF))
		}
	}
	return nil
}

// refs reads the last part, to the end.
func (s *stream) refs() ([]ref, error) {
	count, err := s.number("refs")
	if err != nil {
		return nil, err
	}
	var all []ref
	for range count {
		line, err := s.line()
		if err != nil {
			return nil, err
		}
		id, name, _ := strings.Cut(line, " ")
		if !validID(id) || !validRef(name) || len(all) > 0 && all[len(all)-1].name >= name {
			return nil, fmt.Errorf("%w: %.80q in the snapshot is no ref, or in the wrong place", state.ErrCorrupt, line)
		}
		all = append(all, ref{name, id})
	}
	line, err := s.line()
	if err != nil {
		return nil, err
	}
	if line != endLine {
		return nil, fmt.Errorf("%w: %.80q in the snapshot where its end should be", state.ErrCorrupt, line)
	}
	if _, err := s.r.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, fmt.Errorf("%w: something comes after the snapshot's end", state.ErrCorrupt))
	}
	return all, nil
}

// cut says what an end in the middle means.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends in the middle", state.ErrCorrupt)
	}
	return err
}
