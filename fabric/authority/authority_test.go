package authority_test

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
)

func TestCreateAndOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "identity")
	a, err := authority.Create(dir, "alpha")
	if err != nil {
		t.Fatal(err)
	}
	b, err := authority.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a.Identity() != b.Identity() || !reflect.DeepEqual(a.GossipKeys(), b.GossipKeys()) {
		t.Errorf("opened %+v, created %+v", b.Identity(), a.Identity())
	}
	if id := a.Identity(); len(id.ID) != 16 || len(id.Cluster) != 16 || id.Role != fabric.RoleNode || id.Name != "alpha" {
		t.Errorf("identity %+v", id)
	}
	for _, name := range []string{"ca.key", "node.key", "gossip.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if _, err := authority.Create(dir, "beta"); !errors.Is(err, authority.ErrExists) {
		t.Errorf("second create: %v", err)
	}
	if _, err := authority.Create(t.TempDir(), "No Name"); !errors.Is(err, authority.ErrBadName) {
		t.Errorf("bad name: %v", err)
	}
	if _, err := authority.Open(t.TempDir()); !errors.Is(err, authority.ErrNoIdentity) {
		t.Errorf("open nothing: %v", err)
	}
}

// TestInterruptedCreate leaves out identity.json, as a crash before its write does.
func TestInterruptedCreate(t *testing.T) {
	dir := t.TempDir()
	if _, err := authority.Create(dir, "alpha"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "identity.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Open(dir); !errors.Is(err, authority.ErrNoIdentity) {
		t.Errorf("open: %v", err)
	}
	if _, err := authority.Create(dir, "alpha"); err != nil {
		t.Errorf("create again: %v", err)
	}
	if _, err := authority.Open(dir); err != nil {
		t.Errorf("open again: %v", err)
	}
}

func TestDamagedFiles(t *testing.T) {
	other := t.TempDir()
	if _, err := authority.Create(other, "alpha"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.crt", "ca.key", "node.crt", "node.key", "gossip.key", "identity.json"} {
		dir := t.TempDir()
		if _, err := authority.Create(dir, "alpha"); err != nil {
			t.Fatal(err)
		}
		foreign, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		for what, content := range map[string][]byte{"garbage": []byte("\x00garbage"), "empty": nil, "foreign": foreign} {
			if what == "foreign" && name == "gossip.key" {
				continue // any key is a good one
			}
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := authority.Open(dir); err == nil {
				t.Errorf("%s %s was accepted", what, name)
			}
		}
	}
}

func TestVerify(t *testing.T) {
	c, d := authoritytest.NewCluster(t, "alpha"), authoritytest.NewCluster(t, "alpha")
	for _, a := range []*authority.Authority{c.First, c.Admit(t, "beta", fabric.RoleNode), c.Admit(t, "ada", fabric.RoleDeveloper)} {
		chain := chainOf(t, a)
		if id, err := c.First.Verify(chain); err != nil || id != a.Identity() {
			t.Errorf("%v: %v, %v", a.Identity(), id, err)
		}
		if _, err := d.First.Verify(chain); !errors.Is(err, fabric.ErrOtherCluster) || !strings.Contains(err.Error(), fabric.ErrOtherCluster.Error()) {
			t.Errorf("other cluster: %v", err)
		}
	}
	if _, err := c.First.Verify(nil); err == nil {
		t.Error("no certificate was accepted")
	}
}

func TestPersonHoldsNoKeys(t *testing.T) {
	a := authoritytest.NewCluster(t, "alpha").Admit(t, "ada", fabric.RoleOperator)
	if len(a.GossipKeys()) != 0 {
		t.Error("a person has gossip keys")
	}
	if _, err := authority.NewRegistrar(a, &authoritytest.Table{}); !errors.Is(err, authority.ErrNotNode) {
		t.Errorf("a person may admit others: %v", err)
	}
	if err := a.SetGossipKeys([][]byte{make([]byte, 32)}); !errors.Is(err, authority.ErrNotNode) {
		t.Errorf("a person may set gossip keys: %v", err)
	}
}

func TestGossipRotation(t *testing.T) {
	dir := t.TempDir()
	a, err := authority.Create(dir, "alpha")
	if err != nil {
		t.Fatal(err)
	}
	keys := append([][]byte{make([]byte, 32)}, a.GossipKeys()...)
	if err := a.SetGossipKeys(keys); err != nil {
		t.Fatal(err)
	}
	if a, err = authority.Open(dir); err != nil || !reflect.DeepEqual(a.GossipKeys(), keys) {
		t.Errorf("after rotation: %v", err)
	}
	for _, bad := range [][][]byte{nil, {make([]byte, 31)}} {
		if a.SetGossipKeys(bad) == nil {
			t.Errorf("gossip keys %v were accepted", bad)
		}
	}
}

func chainOf(t *testing.T, a *authority.Authority) []*x509.Certificate {
	t.Helper()
	pair, err := a.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain
}
