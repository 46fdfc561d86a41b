// Package scheme asks the desktop whether it is to be dark or light: its portal's setting org.freedesktop.appearance color-scheme, on the session's D-Bus. GNOME, KDE, and
// others with xdg-desktop-portal have it.
package scheme

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
)

// patience is how long the desktop may take to answer.
const patience = time.Second

// Scheme is what the desktop prefers.
type Scheme byte

// The schemes. The numbers are the portal's.
const (
	Any Scheme = iota // or nobody says
	Dark
	Light
)

const (
	portal    = "org.freedesktop.portal.Desktop"
	object    = "/org/freedesktop/portal/desktop"
	settings  = "org.freedesktop.portal.Settings"
	namespace = "org.freedesktop.appearance"
	key       = "color-scheme"
)

// Read asks the desktop. Where nobody answers it is Any.
func Read(ctx context.Context) Scheme {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer := make(chan Scheme, 1) // connecting takes no context
	go func() { answer <- read(ctx) }()
	select {
	case s := <-answer:
		return s
	case <-ctx.Done():
		return Any
	}
}

// address is the session bus's. One that is not there is not started.
func address() string {
	if a := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); a != "" {
		return a
	}
	path := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus")
	if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeSocket != 0 && filepath.IsAbs(path) {
		return "unix:path=" + path
	}
	return ""
}

func read(ctx context.Context) Scheme {
	a := address()
	if a == "" {
		return Any
	}
	bus, err := dbus.Connect(a, dbus.WithContext(ctx))
	if err != nil {
		return Any
	}
	defer func() { _ = bus.Close() }()
	for _, method := range []string{"ReadOne", "Read"} { // the second is of portals before 2023
		var value dbus.Variant
		err := bus.Object(portal, object).CallWithContext(ctx, settings+"."+method, 0, namespace, key).Store(&value)
		if unknown := new(dbus.Error); errors.As(err, unknown) && unknown.Name == "org.freedesktop.DBus.Error.UnknownMethod" {
			continue
		}
		if err != nil {
			return Any
		}
		return of(value)
	}
	return Any
}

// of reads a value, which may be a variant in a variant.
func of(value dbus.Variant) Scheme {
	inner, ok := value.Value().(dbus.Variant)
	if ok {
		value = inner
	}
	if n, ok := value.Value().(uint32); ok && n <= uint32(Light) {
		return Scheme(n)
	}
	return Any
}
