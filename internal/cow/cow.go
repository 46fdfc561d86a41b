// Package cow makes copies of folders that share their storage with what they were copied from.
//
// A base is a folder that nobody changes any more. A copy of it is a folder tree whose files are clones of the base's (XFS,
// btrfs: reflinks), or an overlay mount over the base where the file system cannot clone and the caller is root. Servers run on
// such copies; see thin forks in docs/forks.md.
package cow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNotShared says that a folder's file system cannot share storage between files, nor can an overlay be mounted.
var ErrNotShared = errors.New("cannot share storage")

const (
	// unmountLimit is how long an overlay may be in use by processes that are ending.
	unmountLimit = 5 * time.Second
	unmountTick  = 10 * time.Millisecond

	dataName  = "data"
	lowerName = "lower" // holds the base's path, of an overlay
)

// Copy is a copy of a base, in a folder of its own.
type Copy struct {
	Folder string
	// Owner is whom the files belong to; nil: the caller.
	Owner *syscall.Credential
}

// Account is whom a service's programs run as, where the caller is root: as root they do not run. Nil: the caller.
func Account(name string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // no credential means the caller's own
	}
	account, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("a server does not run as root: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// Data is the folder that the base was copied to.
func (c Copy) Data() string { return filepath.Join(c.Folder, dataName) }

// Make makes the copy and says how: "reflink" or "overlay".
func (c Copy) Make(ctx context.Context, base string) (string, error) {
	if err := c.Mkdir(c.Folder); err != nil {
		return "", err
	}
	err := c.clone(ctx, base)
	if err == nil {
		return "reflink", nil
	}
	if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.ENOTTY) && !errors.Is(err, syscall.EXDEV) && !errors.Is(err, syscall.EINVAL) {
		return "", err
	}
	if err := os.RemoveAll(c.Data()); err != nil {
		return "", err
	}
	if strings.ContainsAny(base+c.Folder, ",:\\") {
		return "", fmt.Errorf("%w: the path %s has a comma, colon or backslash, which a mount cannot take", ErrNotShared, c.Folder)
	}
	if err := os.WriteFile(filepath.Join(c.Folder, lowerName), []byte(base), 0o600); err != nil {
		return "", err
	}
	for _, name := range []string{dataName, "upper", "work"} {
		if err := c.Mkdir(filepath.Join(c.Folder, name)); err != nil {
			return "", err
		}
	}
	if err := c.Mount(); err != nil {
		return "", fmt.Errorf("%w: %s is on a file system without reflinks (XFS and btrfs have them), and an overlay cannot be mounted: %w", ErrNotShared, c.Folder, err)
	}
	return "overlay", nil
}

// Mkdir makes a folder of the copy's owner, unless it is there.
func (c Copy) Mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return c.own(path)
}

func (c Copy) own(path string) error {
	if c.Owner == nil {
		return nil
	}
	return os.Lchown(path, int(c.Owner.Uid), int(c.Owner.Gid))
}

// clone makes the tree anew with clones of the files.
func (c Copy) clone(ctx context.Context, base string) error {
	return filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		relative, err := filepath.Rel(base, path)
		if err != nil {
			return err
		}
		into := filepath.Join(c.Data(), relative)
		switch {
		case entry.IsDir():
			return c.Mkdir(into)
		case entry.Type().IsRegular():
			return c.cloneFile(into, path)
		}
		return fmt.Errorf("%s is neither file nor folder (a tablespace?): %w", path, ErrNotShared)
	})
}

func (c Copy) cloneFile(into, path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // read only
	to, err := os.OpenFile(into, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = ioctlClone(to, from)
	if closeErr := to.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return c.own(into)
}

// Lower is the base that a copy's overlay lies over; empty if it has none.
func (c Copy) Lower() (string, error) {
	content, err := os.ReadFile(filepath.Join(c.Folder, lowerName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(content), err
}

// Mount mounts the overlay of a copy that has one, if it is not mounted.
func (c Copy) Mount() error {
	lower, err := c.Lower()
	if err != nil || lower == "" {
		return err
	}
	if there, err := os.ReadDir(c.Data()); err != nil || len(there) > 0 { // a base is never empty
		return err
	}
	return mountOverlay(c.Data(), lower, filepath.Join(c.Folder, "upper"), filepath.Join(c.Folder, "work"))
}

// Remove removes a copy that nobody uses.
func (c Copy) Remove() error {
	lower, err := c.Lower()
	if err != nil {
		return err
	}
	if lower != "" {
		err := unmount(c.Data())
		tick := time.NewTicker(unmountTick)
		defer tick.Stop()
		for end := time.Now().Add(unmountLimit); errors.Is(err, syscall.EBUSY) && time.Now().Before(end); err = unmount(c.Data()) {
			<-tick.C // a process that has ended may hold files for a moment
		}
		if err != nil {
			return fmt.Errorf("cannot unmount %s: %w", c.Data(), err)
		}
	}
	return os.RemoveAll(c.Folder)
}

// Sync has the system write what it holds of the copy.
func (c Copy) Sync() error {
	data, err := os.Open(c.Data())
	if err != nil {
		return err
	}
	defer func() { _ = data.Close() }() // read only
	return syncFS(data)
}

// Write writes a file of the copy.
func (c Copy) Write(name, content string) error {
	path := filepath.Join(c.Data(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return c.own(path)
}

// Read reads a file of the copy.
func (c Copy) Read(name string) (string, error) {
	content, err := os.ReadFile(filepath.Join(c.Data(), name))
	return string(content), err
}
