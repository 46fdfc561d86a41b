package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Owner is whom a folder belongs to.
type Owner struct {
	UID, GID int
	Shared   bool // its group may write, and what is made in it belongs to the group
}

// OwnerOf finds out whose a folder is.
func OwnerOf(path string) (Owner, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Owner{}, err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Owner{}, fmt.Errorf("cannot see whose %s is", path)
	}
	return Owner{UID: int(s.Uid), GID: int(s.Gid), Shared: info.Mode()&fs.ModeSetgid != 0 && info.Mode().Perm()&0o20 != 0}, nil
}

// LookUp finds the accounts of that name or number; empty names mean whoever runs this.
func LookUp(owner, group string) (Owner, error) {
	o := Owner{UID: os.Geteuid(), GID: os.Getegid(), Shared: group != ""}
	if owner != "" {
		account, err := user.Lookup(owner)
		if err != nil {
			account, err = user.LookupId(owner)
		}
		if err != nil {
			return o, fmt.Errorf("owner %q: %w", owner, err)
		}
		if err := numbers(&o, account.Uid, account.Gid); err != nil {
			return o, err
		}
	}
	if group != "" {
		found, err := user.LookupGroup(group)
		if err != nil {
			found, err = user.LookupGroupId(group)
		}
		if err != nil {
			return o, fmt.Errorf("group %q: %w", group, err)
		}
		return o, numbers(&o, strconv.Itoa(o.UID), found.Gid)
	}
	return o, nil
}

func numbers(o *Owner, uid, gid string) error {
	u, err := strconv.ParseUint(uid, 10, 31)
	if err != nil {
		return err
	}
	g, err := strconv.ParseUint(gid, 10, 31)
	o.UID, o.GID = int(u), int(g)
	return err
}

// Credential is how a program runs as the owner; nil, which means the caller's own, where that is who calls or where
// the caller may not change.
func (o Owner) Credential() *syscall.Credential {
	if os.Geteuid() != 0 || o.UID == 0 && o.GID == os.Getegid() {
		return nil
	}
	return &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.GID)} //nolint:gosec // both are from 0 to 2^31
}

// Give makes everything in a folder the owner's. Without root it can only give to a group that the caller is in.
func (o Owner) Give(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return o.give(root, name, d)
	})
	return errors.Join(err, root.Close())
}

func (o Owner) give(root *os.Root, name string, d fs.DirEntry) error {
	if err := root.Lchown(filepath.FromSlash(name), o.UID, o.GID); err != nil {
		return err
	}
	if d.Type()&fs.ModeSymlink != 0 || !o.Shared {
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	mode := info.Mode().Perm()
	mode |= mode & 0o600 >> 3
	if d.IsDir() {
		mode |= 0o70 | fs.ModeSetgid
	}
	return root.Chmod(name, mode)
}

// UserName is the name of an account.
func UserName(uid int) (string, error) {
	account, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return "", err
	}
	return account.Username, nil
}
