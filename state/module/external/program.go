package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"

	"orrery/internal/command"
	"orrery/state"
)

// program is an executable that is a module.
type program struct {
	path, name string
	config     Config
	said       state.Description
}

// The exit statuses by which a program says what kind of failure it is.
var statuses = map[int]error{
	10: state.ErrVeto, 11: state.ErrInUse, 12: state.ErrNotFound, 13: state.ErrUnreachable, 14: state.ErrBadProperty, 15: state.ErrCorrupt,
}

func (p *program) credential() (*syscall.Credential, error) {
	if p.config.User == "" {
		return nil, nil //nolint:nilnil // nil is the caller
	}
	found, err := user.Lookup(p.config.User)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func (p *program) command(args, env []string) (command.Program, error) {
	who, err := p.credential()
	return command.Program{Path: p.path, Args: args, Env: env, Credential: who}, err
}

// run carries out one operation within its time.
func (p *program) run(ctx context.Context, args, env []string, in io.Reader, out io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.config.Limit, fmt.Errorf("module %s took longer than %s", p.name, p.config.Limit))
	defer cancel()
	c, err := p.command(args, env)
	if err != nil {
		return err
	}
	c.In, c.Out = in, out
	err = c.Run(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if failed, ok := errors.AsType[*command.Failure](err); ok && statuses[failed.Status] != nil {
		return fmt.Errorf("%w: %w", statuses[failed.Status], err)
	}
	return err
}

// own gives a folder of ours, and what is in it, to the user whom the program runs as.
func (p *program) own(folder string) error {
	who, err := p.credential()
	if err != nil || who == nil {
		return err
	}
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(who.Uid), int(who.Gid))
	})
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// reserved are variables by which a property would change how the program itself is run.
var reserved = []string{"PATH", "HOME", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "PS4", "DYSNOMIA_STATEDIR"}

// variables are properties as NAME=VALUE: text as it is, everything else as JSON.
func variables(prefix string, p state.Properties) ([]string, error) {
	var all []string
	for name, value := range p {
		if !identifier.MatchString(name) {
			continue // programs find it in the file of properties
		}
		name = prefix + name
		if slices.Contains(reserved, name) || len(name) > 3 && name[:3] == "LD_" {
			return nil, fmt.Errorf("%w: %s would change how the module is run", state.ErrBadProperty, name)
		}
		text, err := plain(value)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", state.ErrBadProperty, name, err)
		}
		all = append(all, name+"="+text)
	}
	slices.Sort(all)
	return all, nil
}

func plain(value any) (string, error) {
	if text, ok := value.(string); ok {
		if slices.Contains([]byte(text), 0) {
			return "", errors.New("it has a zero byte")
		}
		return text, nil
	}
	encoded, err := json.Marshal(value)
	return string(encoded), err
}

// check compares properties with their description.
func check(properties state.Properties, described []state.Property) error {
	for name, value := range properties {
		i := slices.IndexFunc(described, func(d state.Property) bool { return d.Name == name })
		if i < 0 {
			return fmt.Errorf("%w: %s is unknown", state.ErrBadProperty, name)
		}
		if !fits(value, described[i].Type) {
			return fmt.Errorf("%w: %s is no %s", state.ErrBadProperty, name, described[i].Type)
		}
	}
	for _, d := range described {
		if _, ok := properties[d.Name]; d.Required && !ok {
			return fmt.Errorf("%w: %s is missing", state.ErrBadProperty, d.Name)
		}
	}
	return nil
}

func fits(value any, kind string) bool {
	switch kind {
	case "bool":
		_, ok := value.(bool)
		return ok
	case "int":
		switch n := value.(type) {
		case int, int64:
			return true
		case float64:
			return n == float64(int64(n))
		}
		return false
	case "[]string":
		_, ok := value.([]any)
		_, plain := value.([]string)
		return ok || plain
	case "map[string]string":
		_, ok := value.(map[string]any)
		_, plain := value.(map[string]string)
		return ok || plain
	}
	_, ok := value.(string)
	return ok
}
