package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"syscall"
	"time"

	"orrery/state"
)

// spec is all that is needed to start a process: properties, resolved for one target.
type spec struct {
	properties Properties
	home       string
	directory  string // of the component
	session    string // that owns the component; empty for production
	command    []string
	env        []string
	workDir    string
	port       int // 0: none
	signal     syscall.Signal
	credential *syscall.Credential
}

// from says whether a process with these properties would be the same.
func (s spec) from(p Properties, t state.Target) bool {
	return s.directory == t.Directory && reflect.DeepEqual(s.properties, p)
}

func (s spec) stopTimeout() time.Duration { return time.Duration(s.properties.StopTimeout) }

// prepare resolves properties: it finds the program, the user and a port.
func (m *Module) prepare(ctx context.Context, p Properties, t state.Target) (spec, error) {
	s := spec{properties: p, home: t.Directory, directory: t.Directory, session: t.Component.Session}
	if err := checkProgram(p.Command[0]); err != nil {
		return s, err
	}
	var err error
	if s.signal, err = p.signal(); err != nil {
		return s, err
	}
	if p.User != "" {
		if err := s.become(p.User); err != nil {
			return s, err
		}
	}
	if s.workDir = p.Directory; s.workDir == "" {
		s.workDir = s.home
	} else if info, err := os.Stat(s.workDir); err != nil || !info.IsDir() {
		return s, fmt.Errorf("%w: directory %s does not exist", state.ErrBadProperty, s.workDir)
	}
	if s.port, err = m.ports.take(ctx, p.Port, t); err != nil {
		return s, err
	}
	return s, s.resolve()
}

// checkProgram says what is wrong with the path of a program, in words.
func checkProgram(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("program %s %w (build or install it, or correct the command)", path, state.ErrNotFound)
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%w: program %s is a directory", state.ErrBadProperty, path)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%w: program %s is not executable (chmod +x it)", state.ErrBadProperty, path)
	}
	return nil
}

// become prepares running as another user, whose home is a folder of its own: the component's directory
// stays the node's, because what is written in its run file decides what a later node kills.
func (s *spec) become(name string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: user %q needs a node that runs as root", state.ErrBadProperty, name)
	}
	account, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("%w: user %q does not exist on this machine", state.ErrBadProperty, name)
	}
	ids, err := account.GroupIds()
	if err != nil {
		return fmt.Errorf("cannot find the groups of user %q: %w", name, err)
	}
	s.credential = &syscall.Credential{Uid: number(account.Uid), Gid: number(account.Gid)}
	for _, id := range ids {
		s.credential.Groups = append(s.credential.Groups, number(id))
	}
	s.home = filepath.Join(s.directory, "home")
	if err := os.MkdirAll(s.home, 0o700); err != nil {
		return err
	}
	return os.Lchown(s.home, int(s.credential.Uid), int(s.credential.Gid))
}

// number reads an id that the system's user database holds in decimal.
func number(id string) uint32 {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return ^uint32(0) // nobody has it: starting the process fails rather than runs as root
	}
	return uint32(n)
}

// resolve fills in what depends on the port.
func (s *spec) resolve() error {
	port := strconv.Itoa(s.port)
	for _, argument := range s.properties.Command {
		text, err := expand(argument, s.port != 0, port)
		if err != nil {
			return err
		}
		s.command = append(s.command, text)
	}
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	env := map[string]string{"PATH": path, "HOME": s.home}
	if s.port != 0 {
		env["PORT"], env["ADDRESS"] = port, address(port)
	}
	if s.session != "" {
		env["ORRERY_SESSION"] = s.session
	}
	for name, value := range s.properties.Environment {
		text, err := expand(value, s.port != 0, port)
		if err != nil {
			return err
		}
		env[name] = text
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		s.env = append(s.env, name+"="+env[name])
	}
	return nil
}
