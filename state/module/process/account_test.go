package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/account"
)

// A component's users are made before it starts and removed after it stopped, where that is asked.
func TestAccounts(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	testenv.Need(t, "useradd", "apt-get install passwd", "/usr/sbin/useradd")
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"passwd", "group", "shadow", "gshadow"} {
		if err := os.WriteFile(filepath.Join(root, "etc", file), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	has := func() bool {
		text, err := os.ReadFile(filepath.Join(root, "etc", "passwd"))
		return err == nil && strings.Contains(string(text), "\nplanet:x:4000:")
	}
	m := New(Config{Accounts: account.New(account.Config{Directory: filepath.Join(root, "accounts"), Root: root})})
	t.Cleanup(func() { _ = m.Close(t.Context()) })
	at := target(t, state.Properties{
		"command": command("serve"), "users": []any{map[string]any{"name": "planet", "uid": 4000}}, "removeAccounts": true,
	})
	if err := m.Activate(t.Context(), at); err != nil || !has() {
		t.Fatalf("%v, made: %v", err, has())
	}
	if err := m.Deactivate(t.Context(), at); err != nil || has() {
		t.Errorf("%v, left: %v", err, has())
	}
	at.Component.Properties["command"] = command("fail")
	if err := m.Activate(t.Context(), at); err == nil || has() {
		t.Errorf("%v, left: %v", err, has())
	}
	if err := newModule(t).Activate(t.Context(), at); err == nil || !strings.Contains(err.Error(), "users and groups") {
		t.Error(err)
	}
}
