package ldap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
	"orrery/state"
)

// describe adds a value to the top.
func describe(t *testing.T, target state.Target, value string) {
	t.Helper()
	d, err := open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer d.conn.Close()
	request := ldap.NewModifyRequest(dn, nil)
	request.Add("description", []string{value})
	if err := d.conn.Modify(request); err != nil {
		t.Fatal(err)
	}
}

// Where the node's disk has no room for the state before, or for the snapshot, nothing is changed and nothing stays.
func TestFullDisk(t *testing.T) {
	m, target := New(), newTarget(t, "full")
	activate(t, target)
	change(t, target, 1)
	small := snapshot(t, target)
	describe(t, target, strings.Repeat("x", 100<<10))
	large := snapshot(t, target)
	full := target
	full.Directory = t.TempDir()
	testenv.SmallDisk(t, full.Directory, "64k")
	failed := func(what string, err error, want []byte) {
		t.Helper()
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", what, err)
		}
		if left, err := os.ReadDir(full.Directory); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", what, left, err)
		}
		if !bytes.Equal(snapshot(t, target), want) {
			t.Errorf("%s: another state", what)
		}
	}
	var b bytes.Buffer
	failed("snapshot", m.Snapshot(t.Context(), full, &b), large)
	failed("restore of what is smaller", m.Restore(t.Context(), full, bytes.NewReader(small)), large)
	if err := m.Restore(t.Context(), target, bytes.NewReader(small)); err != nil || b.Len() > 0 {
		t.Errorf("%d bytes, %v", b.Len(), err)
	}
	failed("restore of what is larger", m.Restore(t.Context(), full, bytes.NewReader(large)), small)
	if err := m.Restore(t.Context(), full, bytes.NewReader(small)); err != nil {
		t.Error(err)
	}
}

// A server whose disk is full refuses what is new: the restore ends in an error, and the state before is there.
func TestServersFullDisk(t *testing.T) {
	disk := t.TempDir()
	testenv.SmallDisk(t, disk, "2m")
	m, target, other := New(), targetOn(t, testenv.StartLDAP(t, testenv.LDAPSettings{Data: disk}), "server-full"), newTarget(t, "other")
	activate(t, target)
	change(t, target, 1)
	before := snapshot(t, target)
	if err := m.Restore(t.Context(), other, bytes.NewReader(before)); err != nil {
		t.Fatal(err)
	}
	change(t, other, 2)
	for i := range 4 {
		describe(t, other, fmt.Sprint(i, strings.Repeat("x", 100<<10)))
	}
	large := snapshot(t, other)
	full := filepath.Join(disk, "full")
	if err := os.WriteFile(full, make([]byte, 4<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(large)); err == nil || !strings.Contains(err.Error(), "cannot modify entry") {
		t.Errorf("restore: %v", err)
	}
	if !bytes.Equal(snapshot(t, target), before) {
		t.Error("another state")
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(large)); err != nil || !bytes.Equal(snapshot(t, target), large) {
		t.Errorf("once there is room: %v", err)
	}
}
