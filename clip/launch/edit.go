package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kballard/go-shellquote"

	"orrery/clip"
)

// editors are tried in this order where neither VISUAL nor EDITOR is set.
var editors = []string{"editor", "nano", "vi"} //nolint:gochecknoglobals // a list

// Edit has somebody edit a text in the editor that VISUAL or EDITOR names, and returns what came of it; nil if that is the same. It is in a file that only its user can
// read, in memory where there is XDG_RUNTIME_DIR, and gone afterwards.
func Edit(ctx context.Context, text []byte, in io.Reader, out, complaints io.Writer) (edited []byte, err error) {
	program, err := editor()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(os.Getenv("XDG_RUNTIME_DIR"), "clip-edit-*") // a folder, because editors leave other files beside
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "item.txt")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	// Not by package command: the editor needs the terminal, and its process group.
	cmd := exec.CommandContext(ctx, program[0], append(program[1:], path)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, complaints
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("nothing is kept of what was edited: %s: %w", program[0], err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	edited, err = io.ReadAll(io.LimitReader(f, clip.MaxItem+1))
	if err != nil {
		return nil, err
	}
	if len(edited) > clip.MaxItem {
		return nil, fmt.Errorf("%w: an item has at most %d bytes", clip.ErrTooLarge, clip.MaxItem)
	}
	// Many editors end the last line, whether it was ended or not.
	if n := len(edited); n > 0 && edited[n-1] == '\n' && (len(text) == 0 || text[len(text)-1] != '\n') {
		edited = edited[:n-1]
	}
	if string(edited) == string(text) {
		return nil, nil
	}
	return edited, nil
}

// editor is its program and arguments.
func editor() ([]string, error) {
	for _, variable := range []string{"VISUAL", "EDITOR"} {
		words, err := shellquote.Split(os.Getenv(variable))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", variable, err)
		}
		if len(words) > 0 {
			return words, nil
		}
	}
	for _, name := range editors {
		if path, err := exec.LookPath(name); err == nil {
			return []string{path}, nil
		}
	}
	return nil, errors.New("there is no editor (set EDITOR)")
}
