package account

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"orrery/state"
)

// maxFile bounds the files that describe accounts.
const maxFile = 64 << 10

// Read reads the accounts that a component has as Dysnomia has them: dysnomia-support/groups/GROUP and
// dysnomia-support/users/USER, files of NAME=VALUE lines in a shell's quoting, of which nothing is evaluated. No such folder: none.
func Read(component string) (p Properties, err error) {
	if p.Groups, err = ReadGroups(component); err != nil {
		return Properties{}, err
	}
	if p.Users, err = ReadUsers(component); err != nil {
		return Properties{}, err
	}
	return p, p.Check()
}

// ReadGroups reads the groups of a component, or the one that a file describes.
func ReadGroups(path string) ([]Group, error) {
	return describe(path, "groups", ParseGroup, Group.check)
}

// ReadUsers reads the users of a component, or the one that a file describes.
func ReadUsers(path string) ([]User, error) { return describe(path, "users", ParseUser, User.check) }

func describe[A any](path, kind string, parse func(name, text string) (A, error), check func(A) error) ([]A, error) {
	var all []A
	visit := func(name, text string) error {
		one, err := parse(name, text)
		if err == nil {
			err = check(one)
		}
		all = append(all, one)
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return all, readFile(path, visit)
	}
	return all, each(filepath.Join(path, "dysnomia-support", kind), visit)
}

func each(folder string, visit func(name, text string) error) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := readFile(filepath.Join(folder, e.Name()), visit); err != nil {
			return err
		}
	}
	return nil
}

func readFile(path string, visit func(name, text string) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return fmt.Errorf("%w: %s is not a small file", state.ErrBadProperty, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := visit(filepath.Base(path), string(text)); err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	return nil
}

// ParseGroup reads a file that describes a group: gid.
func ParseGroup(name, text string) (Group, error) {
	values, err := Assignments(text)
	if err != nil {
		return Group{}, err
	}
	g := Group{Name: name}
	g.GID, err = numeric("gid", values["gid"])
	return g, err
}

// ParseUser reads a file that describes a user: uid, password (a hash), group, groups, description, homeDir,
// createHomeDir, createHomeDirOnly, shell.
func ParseUser(name, text string) (User, error) {
	values, err := Assignments(text)
	if err != nil {
		return User{}, err
	}
	u := User{
		Name: name, Group: values["group"], Description: values["description"], Home: values["homeDir"], Shell: values["shell"],
		CreateHome: values["createHomeDir"] == "1", CreateHomeOnly: values["createHomeDirOnly"] == "1", Hash: values["password"],
	}
	if values["groups"] != "" {
		u.Groups = strings.FieldsFunc(values["groups"], func(r rune) bool { return r == ',' || r == ' ' })
	}
	u.UID, err = numeric("uid", values["uid"])
	return u, err
}

func numeric(what, text string) (*int, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // nil means that the system chooses
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %q is not a number", state.ErrBadProperty, what, text)
	}
	value := int(n)
	return &value, nil
}

// Assignments reads lines NAME=VALUE with the quoting of a shell. Nothing is evaluated: a command substitution, a
// variable, or a line that is no assignment is refused (state.ErrBadProperty). Empty lines and comments are skipped.
func Assignments(text string) (map[string]string, error) {
	values := map[string]string{}
	for line := 1; text != ""; {
		rest := strings.TrimLeft(text, " \t")
		if rest == "" {
			break
		}
		if rest[0] == '\n' || rest[0] == '#' {
			_, text, _ = strings.Cut(rest, "\n")
			line++
			continue
		}
		rest = strings.TrimPrefix(rest, "export ")
		name, after, found := strings.Cut(rest, "=")
		if !found || !isName(name) {
			return nil, fmt.Errorf("%w: line %d is not NAME=VALUE", state.ErrBadProperty, line)
		}
		value, left, err := word(after)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d, value of %s: %w", state.ErrBadProperty, line, name, err)
		}
		line += strings.Count(after[:len(after)-len(left)], "\n")
		values[name] = value
		text = left
	}
	return values, nil
}

func isName(s string) bool {
	for i, r := range s {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

var (
	errEvaluates = errors.New("it would have to be evaluated ($, ` and operators are not allowed outside of single quotes)")
	errQuote     = errors.New("a quote is not closed")
	errExtra     = errors.New("there is more after it")
)

// word reads one word of a shell up to the end of its line.
func word(text string) (value, rest string, err error) {
	var b strings.Builder
	for text != "" {
		c := text[0]
		text = text[1:]
		switch c {
		case '\n':
			return b.String(), text, nil
		case ' ', '\t', ';', '\r':
			rest, err = onlyBlank(text)
			return b.String(), rest, err
		case '\'':
			quoted, after, closed := strings.Cut(text, "'")
			if !closed {
				return "", "", errQuote
			}
			b.WriteString(quoted)
			text = after
		case '"':
			if text, err = double(&b, text); err != nil {
				return "", "", err
			}
		case '\\':
			if text == "" {
				return "", "", errQuote
			}
			if text[0] != '\n' { // a line that goes on
				b.WriteByte(text[0])
			}
			text = text[1:]
		case '$', '`', '|', '&', '<', '>', '(', ')', 0:
			return "", "", errEvaluates
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", nil
}

// double reads the rest of a word in double quotes.
func double(b *strings.Builder, text string) (string, error) {
	for text != "" {
		c := text[0]
		text = text[1:]
		switch c {
		case '"':
			return text, nil
		case '$', '`', 0:
			return "", errEvaluates
		case '\\':
			if text == "" {
				return "", errQuote
			}
			if strings.IndexByte("$`\"\\\n", text[0]) < 0 {
				b.WriteByte('\\')
			}
			if text[0] != '\n' {
				b.WriteByte(text[0])
			}
			text = text[1:]
		default:
			b.WriteByte(c)
		}
	}
	return "", errQuote
}

// onlyBlank returns what comes after the line, which has nothing but blanks, separators or a comment left.
func onlyBlank(text string) (string, error) {
	left, after, _ := strings.Cut(text, "\n")
	left = strings.TrimLeft(left, " \t;\r")
	if left != "" && left[0] != '#' {
		return "", errExtra
	}
	return after, nil
}
