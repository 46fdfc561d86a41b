package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"

	"orrery/deploy"
	"orrery/state"
)

// reference is one ${...}, or what stands for a plain "${": "$${".
var reference = regexp.MustCompile(`\$?\$\{([^}]*)(\}|$)`)

// references checks every ${...} in the properties of o, a component of s after those that s has.
func (c *checker) references(s deploy.Service, o state.Component, path []string) {
	c.eachString(c.value.LookupPath(cuePath(path)), path, func(text string, at []string) {
		for _, m := range reference.FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(m[0], "$$") {
				continue
			}
			if m[2] == "" {
				c.add(at, fmt.Sprintf("%s has no closing brace", m[0]), "close it, or write $${ for a plain ${")
			} else if message, advice := c.reference(s, o, m[1]); message != "" {
				c.add(at, fmt.Sprintf("%s %s", m[0], message), advice)
			}
		}
	})
}

func (c *checker) eachString(v cue.Value, path []string, visit func(text string, at []string)) {
	switch v.IncompleteKind() {
	case cue.StringKind:
		if text, err := v.String(); err == nil {
			visit(text, path)
		}
	case cue.ListKind:
		i := 0
		for items, _ := v.List(); items.Next(); i++ {
			c.eachString(items.Value(), append(slices.Clip(path), strconv.Itoa(i)), visit)
		}
	case cue.StructKind:
		items, err := v.Fields()
		for err == nil && items.Next() {
			c.eachString(items.Value(), append(slices.Clip(path), items.Selector().Unquoted()), visit)
		}
	default: // holds no text
	}
}

const forms = "write ${self.port}, ${self.address}, ${file.NAME}, ${component.NAME.EXPORT} or ${service.NAME.url}"

// reference says what is wrong with the inside of one ${...}.
func (c *checker) reference(s deploy.Service, o state.Component, inside string) (message, advice string) {
	kind, rest, _ := strings.Cut(inside, ".")
	switch kind {
	case "self":
		if rest == "port" || rest == "address" {
			return "", ""
		}
	case "file":
		if _, ok := o.Files[rest]; ok {
			return "", ""
		}
		names := c.fieldNames(o)
		return fmt.Sprintf("refers to unknown file %q", rest), firstOf(suggest(rest, names), "add it to the component's files")
	case "component":
		i := strings.LastIndexByte(rest, '.')
		if i <= 0 || i == len(rest)-1 {
			break
		}
		return c.earlier(s, o, rest[:i])
	case "service":
		name, export, _ := strings.Cut(rest, ".")
		switch {
		case export != "url":
			return "refers to something unknown", "write ${service.NAME.url}"
		case slices.Contains(s.DependsOn, name):
			return "", ""
		}
		return fmt.Sprintf("refers to service %q, which is not in dependsOn", name), firstOf(suggest(name, s.DependsOn), fmt.Sprintf("add %q to dependsOn", name))
	}
	return "refers to something unknown", forms
}

func (c *checker) fieldNames(o state.Component) []string {
	var names []string
	for name := range o.Files {
		names = append(names, name)
	}
	return names
}

// earlier says what is wrong with a reference to another component of the service.
func (c *checker) earlier(s deploy.Service, o state.Component, name string) (message, advice string) {
	known := componentNames(s)
	if slices.Contains(known, name) {
		return "", ""
	}
	for i := range c.length("services", s.Name, "components") {
		if c.text("services", s.Name, "components", strconv.Itoa(i), "name") != name {
			continue
		}
		if name == o.Name {
			return "refers to the component itself", "write ${self.port} or ${self.address}"
		}
		return fmt.Sprintf("refers to component %q, which comes later", name), "move that component before this one"
	}
	return fmt.Sprintf("refers to unknown component %q", name), firstOf(suggest(name, known), "it must be an earlier component of the same service")
}

// hash is the SHA-256 of a file of the manifest; the file becomes an artifact.
func (c *checker) hash(name string, at []string) string {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.directory, path)
	}
	full, err := filepath.Abs(path)
	if err != nil {
		c.add(at, fmt.Sprintf("cannot read %s: %v", path, err), "")
		return ""
	}
	if sum, ok := c.hashes[full]; ok {
		return sum
	}
	sum, err := hashFile(full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.add(at, fmt.Sprintf("file %s is missing", path), "build it first, or correct the path, which is relative to the manifest")
	case err != nil:
		c.add(at, fmt.Sprintf("cannot read %s: %v", path, err), "a file of a component is a regular, readable file")
	default:
		c.hashes[full], c.artifacts[sum] = sum, full
	}
	return sum
}

var errNotRegular = errors.New("not a regular file")

func hashFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errNotRegular
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
