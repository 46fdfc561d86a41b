package dysnomia

import (
	"fmt"
	"path/filepath"
	"strings"
)

// maxName is the longest name of a file that all file systems take.
const maxName = 255

// CheckName refuses what cannot name a container or component: it would not be one folder, or not one line.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrName)
	case len(name) > maxName:
		return fmt.Errorf("%w: %q... is longer than %d bytes", ErrName, name[:40], maxName)
	case strings.HasPrefix(name, "."):
		return fmt.Errorf("%w: %q begins with a dot", ErrName, name)
	case strings.HasPrefix(name, "-"):
		return fmt.Errorf("%w: %q begins with - (programs would take it for an option)", ErrName, name)
	case strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r < ' ' || r == 0x7f }):
		return fmt.Errorf("%w: %q has a slash or a control character", ErrName, name)
	}
	return nil
}

// Plain says whether a name or path can be put into a line of a shell without quotes. Modules for Dysnomia do so.
func Plain(s string) bool {
	return !strings.HasPrefix(s, "-") && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune("\"'`$\\;&|<>(){}[]*?!#~^", r)
	})
}

// storedName is the base name of a path, without the hash of a path in the Nix store.
func storedName(path, nixStore string) string {
	name := filepath.Base(path)
	if path == "" {
		return ""
	}
	if strings.HasPrefix(path, strings.TrimSuffix(nixStore, "/")+"/") && len(name) > nixHash {
		return name[nixHash:]
	}
	return name
}

// nixHash is the length of the hash and the hyphen that begin a name in the Nix store.
const nixHash = 33
