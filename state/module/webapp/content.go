package webapp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"orrery/state"
)

// current returns the name of the content that visitors see; empty if there is none, state.ErrInUse if what is there is not ours.
func (s site) current() (string, error) {
	target, err := os.Readlink(s.link())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil || filepath.Base(target) != target || !strings.HasPrefix(target, s.prefix()):
		return "", fmt.Errorf("%s exists and is not of this component: %w (remove it, or set path)", s.link(), state.ErrInUse)
	}
	return target, nil
}

// prepare puts the content beside the one in use and returns its name.
func (s site) prepare(ctx context.Context) (string, error) {
	if info, err := os.Stat(s.server.DocumentRoot); err != nil || !info.IsDir() {
		return "", fmt.Errorf("document root %s: %w (is the server installed?)", s.server.DocumentRoot, state.ErrUnreachable)
	}
	info, err := os.Stat(s.Content)
	if err != nil {
		return "", fmt.Errorf("content: %w", err)
	}
	digest, err := s.digest(ctx, info.IsDir())
	if err != nil {
		return "", fmt.Errorf("cannot read the content: %w", err)
	}
	name := s.prefix() + digest
	folder := filepath.Join(s.server.DocumentRoot, name)
	if info.IsDir() {
		if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
			if _, err := s.files.Fork(ctx, s.as(s.Content, ""), s.as(folder, "")); err != nil {
				return "", err
			}
		}
	} else if err := s.files.Activate(ctx, s.as(folder, s.Content)); err != nil {
		return "", err
	}
	return name, s.shareState(ctx, folder)
}

// digest tells one content, and one set of mutable folders, from another.
func (s site) digest(ctx context.Context, isFolder bool) (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "%q\n", s.Mutable)
	if isFolder {
		if err := s.files.Snapshot(ctx, s.as(s.Content, ""), sum); err != nil {
			return "", err
		}
	} else {
		f, err := os.Open(s.Content)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(sum, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:24], nil
}

// shareState makes the content's mutable folders links to those that are state. Those that are missing there begin as in the content.
func (s site) shareState(ctx context.Context, folder string) error {
	if err := s.files.Activate(ctx, s.as(s.state(), "")); err != nil {
		return err
	}
	for _, mutable := range s.Mutable {
		own, kept := filepath.Join(folder, mutable), filepath.Join(s.state(), mutable)
		for _, path := range []string{own, kept} {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
		}
		info, err := os.Lstat(own)
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			if err := s.make(kept); err != nil {
				return err
			}
			continue
		}
		if err == nil && !info.IsDir() {
			return bad("mutable folder %q is a file in the content", mutable)
		}
		if _, missing := os.Lstat(kept); errors.Is(missing, fs.ErrNotExist) && err == nil {
			if err := errors.Join(os.Rename(own, kept), s.give(kept)); err != nil {
				return err
			}
		}
		if err := errors.Join(s.make(kept), os.RemoveAll(own)); err != nil {
			return err
		}
		relative, err := filepath.Rel(filepath.Dir(own), kept)
		if err != nil {
			return err
		}
		if err := os.Symlink(relative, own); err != nil {
			return err
		}
	}
	return nil
}

// make makes a mutable folder if it is missing.
func (s site) make(kept string) error {
	err := os.Mkdir(kept, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.give(kept)
}

// give gives a new mutable folder to the owner that the container names.
func (s site) give(folder string) error {
	if s.server.FilesetOwner == "" {
		return nil
	}
	uid, gid, err := owner(s.server.FilesetOwner)
	if err != nil {
		return err
	}
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, gid))
	})
}

// owner resolves USER or USER:GROUP.
func owner(text string) (uid, gid int, err error) {
	name, group, hasGroup := strings.Cut(text, ":")
	account, err := user.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("filesetOwner: %w: user %q does not exist", state.ErrBadProperty, name)
	}
	id := account.Gid
	if hasGroup {
		g, err := user.LookupGroup(group)
		if err != nil {
			return 0, 0, fmt.Errorf("filesetOwner: %w: group %q does not exist", state.ErrBadProperty, group)
		}
		id = g.Gid
	}
	uid, err = strconv.Atoi(account.Uid)
	gid, errGroup := strconv.Atoi(id)
	return uid, gid, errors.Join(err, errGroup)
}

// point makes visitors see a content; none for an empty name.
func (s site) point(name string) error {
	if name == "" {
		err := os.Remove(s.link())
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	side := filepath.Join(s.server.DocumentRoot, s.prefix()+"link")
	if err := os.Remove(side); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(name, side); err != nil {
		return err
	}
	return os.Rename(side, s.link())
}

// sweep removes all contents but one, and what an interruption left of others.
func (s site) sweep(keep string) error {
	entries, err := os.ReadDir(s.server.DocumentRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	stateName := filepath.Base(s.state())
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, s.prefix()) || name == keep || name == stateName || strings.HasPrefix(name, stateName+".") {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.server.DocumentRoot, name)); err != nil {
			return err
		}
	}
	return nil
}
