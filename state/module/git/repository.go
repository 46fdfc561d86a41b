package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"orrery/internal/command"
	"orrery/internal/folder"
	"orrery/state"
	"orrery/state/module/place"
)

// configuration is what of it configures a repository.
var configuration = place.Files{
	Roots: []string{"config", "description", "hooks", "info"},
	Skip: func(name string) bool {
		return strings.HasSuffix(name, ".sample") || name == "info/refs" || name == "info/grafts"
	},
}

// repository is one component's repository during one operation.
type repository struct {
	place.Place
	url   string
	props properties
}

// environment makes Git look at the repository alone: no system's or person's configuration, no hooks, no objects
// fetched from or put in place by others. Whose the repository is does not matter, since Git runs as its owner.
func environment() []string {
	return []string{
		"GIT_DIR=.", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ALLOW_PROTOCOL=none",
		"GIT_NO_REPLACE_OBJECTS=1", "GIT_GRAFT_FILE=/dev/null", "GIT_NO_LAZY_FETCH=1", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0",
		"GIT_CONFIG_COUNT=3", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_CONFIG_KEY_1=core.hooksPath", "GIT_CONFIG_VALUE_1=/dev/null", "GIT_CONFIG_KEY_2=gc.auto", "GIT_CONFIG_VALUE_2=0",
	}
}

// program is a run of git in a repository.
func program(at string, args ...string) (command.Program, error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return command.Program{}, fmt.Errorf("git is not installed: %w (apt-get install git)", state.ErrNotFound)
	}
	owner, err := folder.OwnerOf(at)
	return command.Program{Path: path, Args: args, Env: environment(), Dir: at, Credential: owner.Credential()}, err
}

func run(ctx context.Context, at string, args ...string) error {
	p, err := program(at, args...)
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// ask returns what git writes, which must be short, without its last line's end.
func ask(ctx context.Context, at string, args ...string) (string, error) {
	p, err := program(at, args...)
	if err != nil {
		return "", err
	}
	out, err := p.Output(ctx, 64<<10)
	return strings.TrimSuffix(string(out), "\n"), err
}

// feed and drain are command.Program's.
func feed(ctx context.Context, at string, fill func(io.Writer) error, args ...string) error {
	p, err := program(at, args...)
	if err != nil {
		return err
	}
	return p.Feed(ctx, fill)
}

func drain(ctx context.Context, at string, in io.Reader, read func(io.Reader) error, args ...string) error {
	p, err := program(at, args...)
	if err != nil {
		return err
	}
	p.In = in
	return p.Drain(ctx, read)
}

// bare says whether there is a bare repository without work trees and with the whole of its history.
func (r *repository) bare(ctx context.Context, at string) error {
	out, err := ask(ctx, at, "rev-parse", "--is-bare-repository", "--is-shallow-repository")
	if failure, ok := errors.AsType[*command.Failure](err); ok {
		return fmt.Errorf("%s is no bare repository: %w drive it: %w", at, state.ErrNotAble, failure)
	}
	if err != nil {
		return err
	}
	if out != "true\nfalse" {
		return fmt.Errorf("%s is not a bare repository with whole history: %w (clone it with --bare and without --depth)", at, state.ErrNotAble)
	}
	trees, err := filepath.Glob(escape(at) + "/worktrees/*")
	if err == nil && len(trees) > 0 {
		err = fmt.Errorf("%s has work trees: %w (remove them with git worktree remove)", at, state.ErrNotAble)
	}
	return err
}

// escape takes from a path what filepath.Glob would interpret.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// found makes an empty repository that belongs to owner.
func (r *repository) found(ctx context.Context, side, format string, owner folder.Owner) error {
	if err := os.Mkdir(side, 0o750); err != nil {
		return err
	}
	if err := os.Chmod(side, 0o755); err != nil { // #nosec G302 -- as git makes it
		return err
	}
	if owner.Credential() != nil {
		if err := os.Lchown(side, owner.UID, owner.GID); err != nil {
			return err
		}
	}
	args := []string{"init", "--quiet", "--bare", "--template=", "--object-format=" + format, "--initial-branch=" + r.props.Branch}
	if owner.Shared {
		args = append(args, "--shared=group")
	}
	return run(ctx, side, append(args, ".")...)
}

// create makes a repository with the refs that the properties name.
func (r *repository) create(ctx context.Context, side string) error {
	owner, err := r.Belongs("")
	if err != nil {
		return err
	}
	if err := r.found(ctx, side, "sha1", owner); err != nil {
		return err
	}
	if r.props.Bundle != "" {
		if err := unbundle(ctx, side, r.props.Bundle); err != nil {
			return fmt.Errorf("cannot load %s: %w", r.props.Bundle, err)
		}
	}
	return owner.Give(side)
}

// maxHeads bounds how much a bundle may say about its refs.
const maxHeads = 64 << 20

// unbundle takes all refs out of a bundle.
func unbundle(ctx context.Context, at, bundle string) error {
	p, err := program(at, "fetch", "--quiet", "--no-write-fetch-head", "--", bundle, "+refs/*:refs/*")
	if err != nil {
		return err
	}
	p.Env = append(p.Env, "GIT_ALLOW_PROTOCOL=file")
	if err := p.Run(ctx); err != nil {
		return err
	}
	p.Args = []string{"bundle", "list-heads", bundle}
	heads, err := p.Output(ctx, maxHeads)
	if err != nil {
		return err
	}
	if branch := headOf(string(heads)); branch != "" {
		return run(ctx, at, "symbolic-ref", "HEAD", branch)
	}
	return nil
}

// headOf finds the branch that HEAD most probably names, in lines of ids and refs: a bundle only says which commit it is.
func headOf(lines string) string {
	var id, branch string
	for line := range strings.Lines(lines) {
		at, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case name == "HEAD":
			id = at
		case id == at && strings.HasPrefix(name, "refs/heads/") && (branch == "" || name == "refs/heads/main" || name == "refs/heads/master"):
			branch = name
		}
	}
	return branch
}

// validRef says whether a name can be a ref's, by the rules of git check-ref-format.
func validRef(name string) bool {
	if !strings.HasPrefix(name, "refs/") || strings.Contains(name, "..") || strings.Contains(name, "@{") || strings.HasSuffix(name, ".") {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return !strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f || strings.ContainsRune(`~^:?*[\`, c) })
}
