//go:build unix

package rpc

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
)

// listenPrivate makes the socket in a folder that nobody else can enter and moves it to its path once its mode is
// 0600, so that there is no moment at which others could connect.
func listenPrivate(ctx context.Context, path string) (net.Listener, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", filepath.Join(dir, "s"))
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false)
	err = os.Chmod(filepath.Join(dir, "s"), 0o600)
	if err == nil {
		err = os.Rename(filepath.Join(dir, "s"), path)
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &unlinking{UnixListener: u, path: path}, nil
}

// unlinking removes the socket's file when it is closed.
type unlinking struct {
	*net.UnixListener
	path string
}

// Close closes the listener and removes its file.
func (u *unlinking) Close() error {
	err := u.UnixListener.Close()
	if err == nil {
		err = os.Remove(u.path)
	}
	return err
}
