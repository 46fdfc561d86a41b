package fileset

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// extended returns the extended attributes of a file or folder, as records of a tar header; an empty map if it has none.
func extended(path string) (map[string]string, error) {
	records := map[string]string{}
	names, err := sized(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return records, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list its attributes: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if !isAttribute(attributePrefix + name) {
			continue
		}
		value, err := sized(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if err != nil {
			return nil, fmt.Errorf("cannot read its attribute %s: %w", name, err)
		}
		records[attributePrefix+name] = string(value)
	}
	return records, nil
}

// sized asks for a size and then for the content, again if that grew in between.
func sized(ask func([]byte) (int, error)) ([]byte, error) {
	for {
		size, err := ask(nil)
		if err != nil || size == 0 {
			return nil, err
		}
		b := make([]byte, size)
		if size, err = ask(b); !errors.Is(err, unix.ERANGE) {
			return b[:max(size, 0)], err
		}
	}
}

func setAttribute(f *os.File, name, value string) error {
	return unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0)
}
