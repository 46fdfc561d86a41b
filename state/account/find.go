package account

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"orrery/internal/command"
)

// found is an account of the system.
type found struct{ number int }

// find looks an account up, by name.
func (s System) find(ctx context.Context, kind, name string) (found, bool, error) {
	if s.root != "" {
		file := map[string]string{KindUser: "passwd", KindGroup: "group"}[kind]
		f, err := os.Open(filepath.Join(s.root, "etc", file))
		if err != nil {
			return found{}, false, err
		}
		a, ok, err := scan(f, name)
		return a, ok, errors.Join(err, f.Close())
	}
	if s.platform.needsNumber { // macOS
		record, attribute := "/Users/"+name, "UniqueID"
		if kind == KindGroup {
			record, attribute = "/Groups/"+name, "PrimaryGroupID"
		}
		return ask(ctx, []string{"dscl", ".", "-read", record, attribute}, func(out string) (found, bool, error) {
			_, text, _ := strings.Cut(out, ":")
			n, err := strconv.Atoi(strings.TrimSpace(text))
			return found{n}, err == nil, err
		})
	}
	database := map[string]string{KindUser: "passwd", KindGroup: "group"}[kind]
	return ask(ctx, []string{"getent", database, name}, func(out string) (found, bool, error) { return scan(strings.NewReader(out), name) })
}

// ask runs a program that fails where there is no such account.
func ask(ctx context.Context, argv []string, read func(string) (found, bool, error)) (found, bool, error) {
	path, err := program(argv[0])
	if err != nil {
		return found{}, false, err
	}
	out, err := command.Program{Path: path, Args: argv[1:]}.Output(ctx, 1<<20)
	if failure, ok := errors.AsType[*command.Failure](err); ok && failure.Status > 0 {
		return found{}, false, nil
	}
	if err != nil {
		return found{}, false, err
	}
	return read(string(out))
}

// scan looks for a name in lines NAME:PASSWORD:NUMBER:...
func scan(r io.Reader, name string) (found, bool, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) < 3 || fields[0] != name {
			continue
		}
		n, err := strconv.Atoi(fields[2])
		if err != nil {
			return found{}, false, fmt.Errorf("number %q of account %s: %w", fields[2], name, err)
		}
		return found{n}, true, nil
	}
	return found{}, false, lines.Err()
}
