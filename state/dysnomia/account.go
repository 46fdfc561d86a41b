package dysnomia

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"

	"orrery/internal/command"
)

// Accounts creates and deletes the users and groups that a component describes, one file each.
type Accounts struct {
	Err io.Writer
}

var accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}\$?$`)

// each visits the descriptions of a kind (users, groups): a file itself, or those of a component's folder.
func (a Accounts) each(path, kind string, visit func(name string, s Settings) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return notFound("ERROR: The path: " + path + " is not valid!")
	}
	files := []string{path}
	if info.IsDir() {
		folder := filepath.Join(path, "dysnomia-support", kind)
		found, err := names(folder)
		if err != nil {
			return err
		}
		files = nil
		for _, name := range found {
			files = append(files, filepath.Join(folder, name))
		}
	}
	for _, file := range files {
		name := filepath.Base(file)
		if !accountName.MatchString(name) {
			return fmt.Errorf("%s: %w: %q cannot name an account", file, ErrName, name)
		}
		settings, err := ReadSettings(file)
		if err != nil {
			return err
		}
		if err := visit(name, settings); err != nil {
			return err
		}
	}
	return nil
}

func (s Settings) text(name string) string {
	value, _ := s.Get(name)
	return value
}

func (a Accounts) run(ctx context.Context, in, program string, args ...string) error {
	p := command.Program{Path: program, Args: args}
	if in != "" {
		p.In = strings.NewReader(in)
	}
	return p.Run(ctx)
}

// AddGroups creates groups that are not there.
func (a Accounts) AddGroups(ctx context.Context, path string) error {
	return a.each(path, "groups", func(name string, s Settings) error {
		gid := s.text("gid")
		found, err := user.LookupGroup(name)
		if err == nil {
			fmt.Fprintf(a.Err, "Group: %s already exists!\n", name)
			if gid != "" && gid != found.Gid {
				fmt.Fprintf(a.Err, "%s already has gid: %s, while: %s was requested! Old gid will be retained!\n", name, found.Gid, gid)
			}
			return nil
		}
		if !errors.As(err, new(user.UnknownGroupError)) {
			return err
		}
		var args []string
		if gid != "" {
			args = []string{"-g", gid}
		}
		return a.run(ctx, "", "groupadd", append(args, name)...)
	})
}

// AddUsers creates users that are not there.
func (a Accounts) AddUsers(ctx context.Context, path string) error {
	return a.each(path, "users", func(name string, s Settings) error {
		if s.text("createHomeDirOnly") == "1" {
			return makeHome(s)
		}
		found, err := user.Lookup(name)
		if err == nil {
			fmt.Fprintf(a.Err, "User: %s already exists!\n", name)
			if uid := s.text("uid"); uid != "" && uid != found.Uid {
				fmt.Fprintf(a.Err, "%s already has uid: %s, while: %s was requested! Old uid will be retained!\n", name, found.Uid, uid)
			}
			return nil
		}
		if !errors.As(err, new(user.UnknownUserError)) {
			return err
		}
		return a.addUser(ctx, name, s)
	})
}

func makeHome(s Settings) error {
	home := s.text("homeDir")
	if home == "" || s.text("createHomeDir") != "1" {
		return nil
	}
	return os.MkdirAll(home, 0o755)
}

func (a Accounts) addUser(ctx context.Context, name string, s Settings) error {
	home := s.text("homeDir")
	if home == "" {
		home = "/dev/null"
	}
	args := []string{"-d", home}
	for property, option := range map[string]string{"uid": "-u", "group": "-g", "description": "-c", "shell": "-s"} {
		if value := s.text(property); value != "" {
			args = append(args, option, value)
		}
	}
	if s.text("createHomeDir") == "1" {
		args = append(args, "-m")
	}
	if err := a.run(ctx, "", "useradd", append(args, name)...); err != nil {
		return err
	}
	password := s.text("password")
	if password == "" {
		return nil
	}
	if strings.ContainsAny(password, ":\n") {
		return errors.Join(fmt.Errorf("%w: the password of %s has a colon or more than one line", ErrSettings, name), a.run(ctx, "", "userdel", name))
	}
	if err := a.run(ctx, name+":"+password+"\n", "chpasswd", "-e"); err != nil { // not an argument: others would see it
		return errors.Join(err, a.run(ctx, "", "userdel", name))
	}
	return nil
}

// DeleteUsers deletes users that are there.
func (a Accounts) DeleteUsers(ctx context.Context, path string) error {
	return a.each(path, "users", func(name string, s Settings) error {
		_, err := user.Lookup(name)
		if errors.As(err, new(user.UnknownUserError)) || s.text("createHomeDirOnly") == "1" {
			return nil
		}
		return errors.Join(err, a.run(ctx, "", "userdel", name))
	})
}

// DeleteGroups deletes groups that are there.
func (a Accounts) DeleteGroups(ctx context.Context, path string) error {
	return a.each(path, "groups", func(name string, _ Settings) error {
		_, err := user.LookupGroup(name)
		if errors.As(err, new(user.UnknownGroupError)) {
			return nil
		}
		return errors.Join(err, a.run(ctx, "", "groupdel", name))
	})
}
