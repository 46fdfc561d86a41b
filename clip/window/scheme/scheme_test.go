package scheme_test

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/godbus/dbus/v5"

	"orrery/clip/window/scheme"
	"orrery/internal/testenv"
)

// portal is a desktop's.
type portal struct{ value any }

// Read is the method of old portals, which answer with a variant in a variant.
func (p portal) Read(string, string) (dbus.Variant, *dbus.Error) {
	return dbus.MakeVariant(dbus.MakeVariant(p.value)), nil
}

// one is a portal that has the newer method, too.
type one struct{ portal }

// ReadOne is the method of newer portals.
func (p one) ReadOne(namespace, key string) (dbus.Variant, *dbus.Error) {
	if namespace != "org.freedesktop.appearance" || key != "color-scheme" {
		return dbus.Variant{}, dbus.MakeFailedError(context.Canceled)
	}
	return dbus.MakeVariant(p.value), nil
}

// silent is one that answers when the test has ended.
type silent struct{ end <-chan struct{} }

// ReadOne is the method of newer portals.
func (p silent) ReadOne(string, string) (dbus.Variant, *dbus.Error) {
	<-p.end
	return dbus.MakeVariant(uint32(1)), nil
}

// bus starts a session's bus.
func bus(t *testing.T) {
	t.Helper()
	path := testenv.Need(t, "dbus-daemon", "apt-get install dbus-daemon")
	folder := t.TempDir()
	address := "unix:path=" + filepath.Join(folder, "bus")
	d := testenv.Start(t, testenv.Daemon{Folder: folder, Path: path, Args: []string{"--session", "--nofork", "--nopidfile", "--print-address=1", "--address=" + address}, Ready: func(log []byte) bool { return bytes.Contains(log, []byte("unix:")) }})
	t.Cleanup(func() { _ = d.Close() })
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
}

// export puts a portal onto the bus.
func export(t *testing.T, p any) {
	t.Helper()
	c, err := dbus.ConnectSessionBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Export(p, "/org/freedesktop/portal/desktop", "org.freedesktop.portal.Settings"); err != nil {
		t.Fatal(err)
	}
	if reply, err := c.RequestName("org.freedesktop.portal.Desktop", dbus.NameFlagReplaceExisting|dbus.NameFlagAllowReplacement); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
}

func TestRead(t *testing.T) {
	bus(t)
	if got := scheme.Read(t.Context()); got != scheme.Any {
		t.Errorf("%d without a portal", got)
	}
	for _, c := range []struct {
		portal any
		want   scheme.Scheme
	}{
		{one{portal{uint32(1)}}, scheme.Dark},
		{one{portal{uint32(2)}}, scheme.Light},
		{portal{uint32(1)}, scheme.Dark},
		{one{portal{uint32(0)}}, scheme.Any},
		{one{portal{uint32(99)}}, scheme.Any},
		{one{portal{"dark"}}, scheme.Any},
	} {
		export(t, c.portal)
		if got := scheme.Read(t.Context()); got != c.want {
			t.Errorf("%v: %d", c.portal, got)
		}
	}
	end := make(chan struct{})
	defer close(end)
	export(t, silent{end})
	if got := scheme.Read(t.Context()); got != scheme.Any {
		t.Errorf("%d of one that is silent", got)
	}
}

func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if got := scheme.Read(t.Context()); got != scheme.Any {
		t.Error(got)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")
	if got := scheme.Read(t.Context()); got != scheme.Any {
		t.Error(got)
	}
}
