package account

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"orrery/internal/command"
	"orrery/state"
)

// The kinds of accounts.
const (
	KindUser  = "user"
	KindGroup = "group"
)

// System is the accounts of one machine, whoever made them. It remembers nothing; see Manager.
type System struct {
	root     string
	platform Platform
}

// NewSystem returns the accounts in the system's files below root; empty: the machine's own. A nil platform is this machine's.
func NewSystem(root string, p *Platform) System {
	s := System{root: root, platform: Linux}
	switch {
	case p != nil:
		s.platform = *p
	case runtime.GOOS == "freebsd":
		s.platform = FreeBSD
	case runtime.GOOS == "darwin":
		s.platform = Darwin
	}
	return s
}

// Find looks an account up and returns its number.
func (s System) Find(ctx context.Context, kind, name string) (number int, exists bool, err error) {
	a, exists, err := s.find(ctx, kind, name)
	return a.number, exists, err
}

// AddGroup makes a group that is not there.
func (s System) AddGroup(ctx context.Context, g Group) error {
	if g.GID == nil && s.platform.needsNumber {
		return bad("gid of group %s is needed on this system", g.Name)
	}
	return s.run(ctx, s.platform.AddGroup(s.root, g), "")
}

// AddUser makes a user that is not there, and sets its password's hash. After an error the user may be there.
func (s System) AddUser(ctx context.Context, u User) error {
	if u.UID == nil && s.platform.needsNumber {
		return bad("uid of user %s is needed on this system", u.Name)
	}
	hash, err := u.hash()
	if err != nil {
		return err
	}
	lines, input := s.platform.SetPassword(s.root, u.Name, hash)
	if hash != "" && len(lines) == 0 {
		return fmt.Errorf("%w set the hash of a password on this system", state.ErrNotAble)
	}
	first, exists, err := s.find(ctx, KindGroup, cmp.Or(u.Group, u.Name))
	if err != nil {
		return err
	}
	if u.Group == "" && exists {
		u.Group = u.Name // or the system would want to make it
	}
	gid := ""
	if exists {
		gid = strconv.Itoa(first.number)
	}
	if err := s.run(ctx, s.platform.AddUser(s.root, u, gid), ""); err != nil || hash == "" {
		return err
	}
	return s.run(ctx, lines, input, hash)
}

// Remove removes an account if it is there.
func (s System) Remove(ctx context.Context, kind, name string) error {
	_, exists, err := s.find(ctx, kind, name)
	if err != nil || !exists {
		return err
	}
	if kind == KindGroup {
		return s.run(ctx, s.platform.DeleteGroup(s.root, name), "")
	}
	return s.run(ctx, s.platform.DeleteUser(s.root, name), "")
}

func (s System) run(ctx context.Context, lines [][]string, input string, secrets ...string) error {
	for i, argv := range lines {
		path, err := program(argv[0])
		if err != nil {
			return err
		}
		p := command.Program{Path: path, Args: argv[1:], Secrets: secrets}
		if input != "" && i == len(lines)-1 {
			p.In = strings.NewReader(input)
		}
		if err := p.Run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// program finds a program of the administrator, which PATH of others may lack.
func program(name string) (string, error) {
	for _, folder := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("program %s: %w (it makes accounts on this system)", name, state.ErrNotFound)
}
