package vault

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"orrery/state"
)

func TestNames(t *testing.T) {
	c, other := NewKey().Cipher(), NewKey().Cipher()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9@_.-]{1,127}`).Draw(t, "name")
		hidden, err := c.SealName("folder", name)
		if err != nil || len(hidden) > 240 || strings.Trim(hidden, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Fatalf("%q: %v", hidden, err)
		}
		again, _ := c.SealName("folder", name)
		elsewhere, _ := c.SealName("other", name)
		if again != hidden || elsewhere == hidden {
			t.Fatal("a name depends on more or less than itself and its folder")
		}
		if got, err := c.OpenName("folder", hidden); err != nil || got != name {
			t.Fatalf("%q, %v", got, err)
		}
		for _, wrong := range []func() (string, error){
			func() (string, error) { return other.OpenName("folder", hidden) },
			func() (string, error) { return c.OpenName("other", hidden) },
			func() (string, error) { return c.OpenName("folder", hidden[1:]+"a") },
		} {
			if got, err := wrong(); !errors.Is(err, state.ErrCorrupt) {
				t.Fatalf("%q, %v", got, err)
			}
		}
	})
	if _, err := c.SealName("f", strings.Repeat("x", 128)); !errors.Is(err, state.ErrBadProperty) {
		t.Fatal(err)
	}
}

func TestPieces(t *testing.T) {
	c, h := NewKey().Cipher(), NewHeader()
	sealed := c.Seal(nil, h, 3, false, []byte("text"))
	if got, err := c.Open(nil, h, 3, false, sealed); err != nil || string(got) != "text" {
		t.Fatalf("%q, %v", got, err)
	}
	for name, open := range map[string]func() ([]byte, error){
		"number": func() ([]byte, error) { return c.Open(nil, h, 4, false, sealed) },
		"last":   func() ([]byte, error) { return c.Open(nil, h, 3, true, sealed) },
		"file":   func() ([]byte, error) { return c.Open(nil, NewHeader(), 3, false, sealed) },
		"key":    func() ([]byte, error) { return NewKey().Cipher().Open(nil, h, 3, false, sealed) },
	} {
		if _, err := open(); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	for plain := range int64(3 * PieceSize) {
		pieces := max(1, (plain+PieceSize-1)/PieceSize)
		if got, ok := PlainSize(int64(HeaderSize) + plain + pieces*Overhead); !ok || got != plain {
			t.Fatalf("%d: %d, %v", plain, got, ok)
		}
	}
}

func TestSlots(t *testing.T) {
	k := NewKey()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sshPublic, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	slot := func(s Slot, err error) Slot {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Encode()
		if err != nil || bytes.Contains(b, k[:]) {
			t.Fatal(err)
		}
		if s, err = DecodeSlot(b); err != nil {
			t.Fatal(err)
		}
		return s
	}
	slots := []Slot{
		slot(WrapRecipient(k, identity.Recipient().String()+"\n", "", time.Now())),
		slot(WrapRecipient(k, string(ssh.MarshalAuthorizedKey(sshPublic)), "", time.Now())),
		slot(WrapPassphrase(k, "open sesame", "", 2, time.Now())),
	}
	env := func(name, value string) func(string) string {
		return func(asked string) string {
			if asked == name {
				return value
			}
			return ""
		}
	}
	for i, getenv := range []func(string) string{
		env(EnvIdentityFile, file("age", "# comment\n"+identity.String()+"\n")),
		env(EnvIdentityFile, file("ssh", string(pem.EncodeToMemory(block)))),
		env(EnvPassphraseFile, file("pass", "open sesame\r\nsecond line\n")),
		env(EnvIdentity, identity.String()),
		env(EnvPassphrase, "open sesame"),
	} {
		var r Ring
		if err := r.AddEnvironment(getenv); err != nil {
			t.Fatal(err)
		}
		got, by, err := r.Unlock(slots)
		if err != nil || got != k {
			t.Fatalf("%d: %v", i, err)
		}
		if _, _, err := r.Unlock(slices(slots, by.ID)); !errors.Is(err, state.ErrKey) {
			t.Fatalf("%d: opens another slot: %v", i, err)
		}
	}
	for _, bad := range []string{"", "age1nonsense", identity.String(), "ssh-rsa x", "-----BEGIN OPENSSH PRIVATE KEY-----"} {
		if _, err := WrapRecipient(k, bad, "", time.Now()); !errors.Is(err, state.ErrBadProperty) || strings.Contains(err.Error(), identity.String()) {
			t.Fatalf("%q: %v", bad, err)
		}
	}
	var r Ring
	if err := r.AddIdentityFile(file("bad", "AGE-SECRET-KEY-1NONSENSE\n")); !errors.Is(err, state.ErrBadProperty) || strings.Contains(err.Error(), "NONSENSE") {
		t.Fatal(err)
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); strings.Trim(shown, "(key) ") != "" {
		t.Fatalf("a key shows itself: %s", shown)
	}
}

// slices returns the slots but for one.
func slices(all []Slot, but string) []Slot {
	var rest []Slot
	for _, s := range all {
		if s.ID != but {
			rest = append(rest, s)
		}
	}
	return rest
}

func FuzzSlot(f *testing.F) {
	s, err := WrapPassphrase(NewKey(), "x", "", 1, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	b, err := s.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1}`))
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSlot(b)
		if err != nil {
			return
		}
		r := Ring{identities: []age.Identity{identity}}
		if _, _, err := r.Unlock([]Slot{s}); err == nil {
			t.Fatal("opened by a stranger's identity")
		}
	})
}

func FuzzOpenName(f *testing.F) {
	c := NewKey().Cipher()
	name, _ := c.SealName("f", "name")
	f.Add(name)
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := c.OpenName("f", s); err == nil {
			if again, err := c.SealName("f", got); err != nil || again != s {
				t.Fatalf("%q, %v", again, err)
			}
		}
	})
}

func FuzzOpenPiece(f *testing.F) {
	c := NewKey().Cipher()
	f.Add(make([]byte, HeaderSize), []byte("0123456789abcdef0"))
	f.Fuzz(func(_ *testing.T, header, b []byte) {
		if h, err := ParseHeader(header); err == nil {
			_, _ = c.Open(nil, h, 0, true, b)
		}
		_, _ = PlainSize(int64(len(b)))
	})
}
