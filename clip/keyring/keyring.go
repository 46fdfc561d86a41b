// Package keyring knows where the secrets are that open an encrypted history without asking anybody: the Secret Service of the desktop (GNOME's keyring, KWallet, KeePassXC),
// and files that only their user can read.
//
// A secret that it makes is random. Each has a name of its own, so that an older one is there until a history has no use for it.
package keyring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/zalando/go-keyring"

	"orrery/clip/history"
)

// service is the name under which the Secret Service has them.
const service = "orrery-clip"

// maxFile bounds what is read of a key file.
const maxFile = 4 << 10

// Find gets the secrets that are at hand of those that open a history; err says what is the matter with others. A keyring that is locked asks its user, and Find waits for
// the answer until ctx ends.
func Find(ctx context.Context, ways []history.Way) (secrets []history.Secret, err error) {
	for _, w := range ways {
		var text []byte
		var failed error
		switch w.Kind {
		case history.KeyFile:
			text, failed = readFile(w.Hint)
		case history.SecretService:
			text, failed = get(ctx, w.Hint)
		default:
			continue
		}
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		secrets = append(secrets, history.Secret{Kind: w.Kind, Hint: w.Hint, Text: text})
	}
	return secrets, err
}

func get(ctx context.Context, name string) ([]byte, error) {
	var text string
	err := call(ctx, func() (err error) {
		text, err = keyring.Get(service, name)
		return err
	})
	if errors.Is(err, keyring.ErrNotFound) {
		return nil, fmt.Errorf("the Secret Service does not have the history's key %s", name)
	}
	if err != nil {
		return nil, fmt.Errorf("the Secret Service does not give the history's key: %w", err)
	}
	return []byte(text), nil
}

var errNoBus = errors.New("there is no session bus")

// call calls the Secret Service. Go-keyring takes no context, and a question to the user may never be answered: then this returns when ctx ends, and the call goes on
// until the process does.
func call(ctx context.Context, do func() error) error {
	if !hasBus() { // else one would be started, with a keyring of its own that nobody has opened
		return errNoBus
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("it has not answered: %w", ctx.Err())
	}
}

func hasBus() bool {
	if address := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); address != "" {
		return !strings.HasPrefix(address, "autolaunch:")
	}
	_, err := os.Stat(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus"))
	return os.Getenv("XDG_RUNTIME_DIR") != "" && err == nil
}

// NewService makes a secret in the Secret Service.
func NewService(ctx context.Context) (history.Secret, error) {
	s := history.Secret{Kind: history.SecretService, Hint: "history-" + rand.Text()[:12], Text: []byte(rand.Text() + rand.Text())}
	if err := call(ctx, func() error { return keyring.Set(service, s.Hint, string(s.Text)) }); err != nil {
		return s, fmt.Errorf("the Secret Service does not take a key: %w (is a keyring running? else use --key passphrase or --key file)", err)
	}
	return s, nil
}

// NewFile reads a secret from a file, and makes it with mode 0600 if it is not there.
func NewFile(path string) (s history.Secret, fresh bool, err error) {
	s = history.Secret{Kind: history.KeyFile, Hint: path}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		s.Text, err = readFile(path)
		return s, false, err
	}
	if err != nil {
		return s, false, err
	}
	s.Text = []byte(rand.Text() + rand.Text())
	_, err = f.Write(append(s.Text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close(), syncFolder(filepath.Dir(path))); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return s, true, err
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile reads a secret from a file that nobody else can read.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("key file %s is no file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("key file %s can be read by others (chmod 600 %s)", path, path)
	case ok && int(owner.Uid) != os.Geteuid():
		return nil, fmt.Errorf("key file %s belongs to another user", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	trimmed := strings.TrimSpace(string(text))
	if len(trimmed) < 16 || len(text) > maxFile {
		return nil, fmt.Errorf("key file %s has %d bytes: a key has 16 to %d", path, len(trimmed), maxFile)
	}
	return []byte(trimmed), nil
}

// Forget deletes a secret that is of no use any more from the Secret Service. Files stay: something else may use them.
func Forget(ctx context.Context, w history.Way) error {
	if w.Kind != history.SecretService {
		return nil
	}
	if err := call(ctx, func() error { return keyring.Delete(service, w.Hint) }); err != nil && !errors.Is(err, keyring.ErrNotFound) {
		return fmt.Errorf("cannot delete the old key %s from the Secret Service: %w", w.Hint, err)
	}
	return nil
}
