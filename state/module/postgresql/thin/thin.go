// Package thin makes copies of a folder that share its storage, and runs a PostgreSQL server on each.
//
// A base is a base backup of a server. A copy of it is a folder tree whose files are clones of the base's (XFS, btrfs:
// reflinks), or an overlay mount over the base where the file system cannot clone and the caller is root. A copy's server listens on
// the loopback address, runs as the owner of the data, and outlives the process that started it.
package thin

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

	"orrery/internal/command"
)

// ErrNotShared says that a folder's file system cannot share storage between files, nor can an overlay be mounted.
var ErrNotShared = errors.New("cannot share storage")

const (
	dataName  = "data"
	logName   = "log"
	lowerName = "lower" // holds the base's path, of an overlay
)

// Copy is a copy of a base, in a folder of its own.
type Copy struct {
	Folder string
	Bin    string // of the server's programs
	// Owner is whom the server runs as; nil: the caller.
	Owner *syscall.Credential
}

// Owner is whom a server's programs run as: root cannot run them.
func Owner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // no credential means the caller's own
	}
	account, err := user.Lookup("postgres")
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

// Data is the folder of the server's data.
func (c Copy) Data() string { return filepath.Join(c.Folder, dataName) }

// Make makes the copy and says how: "reflink" or "overlay".
func (c Copy) Make(ctx context.Context, base string) (string, error) {
	if err := c.mkdir(c.Folder); err != nil {
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
		if err := c.mkdir(filepath.Join(c.Folder, name)); err != nil {
			return "", err
		}
	}
	if err := c.Mount(); err != nil {
		return "", fmt.Errorf("%w: %s is on a file system without reflinks (XFS and btrfs have them), and an overlay cannot be mounted: %w", ErrNotShared, c.Folder, err)
	}
	return "overlay", nil
}

func (c Copy) mkdir(path string) error {
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
			return c.mkdir(into)
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
	if _, err := os.Stat(filepath.Join(c.Data(), "PG_VERSION")); err == nil {
		return nil
	}
	return mountOverlay(c.Data(), lower, filepath.Join(c.Folder, "upper"), filepath.Join(c.Folder, "work"))
}

// Remove removes a copy whose server does not run.
func (c Copy) Remove() error {
	lower, err := c.Lower()
	if err != nil {
		return err
	}
	if lower != "" {
		if err := unmount(c.Data()); err != nil {
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

// Running says whether the copy's server runs.
func (c Copy) Running() bool {
	content, err := os.ReadFile(filepath.Join(c.Data(), "postmaster.pid"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return false
	}
	// Another process may have the number after a restart of the machine.
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && !strings.Contains(string(name), "postgres") {
		return false
	}
	return syscall.Kill(pid, 0) == nil
}

// Start starts the server and returns once it answers; nothing happens if it runs.
func (c Copy) Start(ctx context.Context) error {
	if err := c.Mount(); err != nil {
		return err
	}
	if c.Running() {
		return nil
	}
	// A pg_ctl that is ended leaves a server behind that nobody knows of yet.
	err := c.control(context.WithoutCancel(ctx), "start", "-w", "-t", "120", "-l", filepath.Join(c.Data(), logName), "-o", "-c config_file="+ConfigName+" -c hba_file="+HBAName+" -c ident_file=")
	if err != nil {
		return fmt.Errorf("%w: %s", err, c.LastWords())
	}
	return ctx.Err()
}

// LastWords is the end of the server's own log.
func (c Copy) LastWords() string {
	content, err := os.ReadFile(filepath.Join(c.Data(), logName))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(content[max(0, len(content)-1000):]))
}

// Stop ends the server; nothing happens if it does not run.
func (c Copy) Stop(ctx context.Context) error {
	if !c.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	return c.control(ctx, "stop", "-w", "-m", "fast")
}

func (c Copy) control(ctx context.Context, args ...string) error {
	return command.Program{Path: filepath.Join(c.Bin, "pg_ctl"), Args: append(args, "-s", "-D", c.Data()), Credential: c.Owner, Dir: c.Data()}.Run(ctx)
}

// The files of settings, in the folder of the data.
const (
	ConfigName = "orrery.conf"
	HBAName    = "orrery_hba.conf"
)

// Write writes a file of the server's.
func (c Copy) Write(name, content string) error {
	path := filepath.Join(c.Data(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return c.own(path)
}
