package keyring_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/clip/history"
	"orrery/clip/keyring"
)

// TestFile: a key file is made once, for its user alone, and one that others can read is refused.
func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	made, fresh, err := keyring.NewFile(path)
	if err != nil || !fresh || len(made.Text) < 32 {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	again, fresh, err := keyring.NewFile(path)
	if err != nil || fresh || !bytes.Equal(again.Text, made.Text) {
		t.Error(err)
	}
	way := history.Way{Kind: history.KeyFile, Hint: path}
	found, err := keyring.Find(t.Context(), []history.Way{{Kind: history.Passphrase}, way})
	if err != nil || len(found) != 1 || !bytes.Equal(found[0].Text, made.Text) || found[0].Hint != path {
		t.Errorf("%v, %v", found, err)
	}
	for what, spoil := range map[string]func() error{
		"can be read by others": func() error { return os.Chmod(path, 0o640) }, //nolint:gosec // on purpose
		"a key has 16":          func() error { return os.WriteFile(path, []byte("short\n"), 0o600) },
		"no such file":          func() error { return os.Remove(path) },
		"is no file":            func() error { return os.Mkdir(path, 0o700) },
	} {
		_ = os.RemoveAll(path)
		if _, _, err := keyring.NewFile(path); err != nil {
			t.Fatal(err)
		}
		if what == "is no file" {
			_ = os.Remove(path)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if found, err := keyring.Find(t.Context(), []history.Way{way}); len(found) != 0 || err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v, %v", what, found, err)
		}
	}
}

// TestNoBus: where there is no session bus none is started.
func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if _, err := keyring.NewService(t.Context()); err == nil || !strings.Contains(err.Error(), "no session bus") {
		t.Error(err)
	}
}
