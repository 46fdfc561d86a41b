package dysnomia

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// maxSettings is how large a container file may be.
const maxSettings = 1 << 20

// Setting is one line of a container file.
type Setting struct {
	Name   string
	Values []string // one, unless it is an array
	Array  bool
	Line   int
}

// Text is the value for an environment variable: an array is a JSON array of strings.
func (s Setting) Text() string {
	if !s.Array {
		return s.Values[0]
	}
	encoded, err := json.Marshal(s.Values)
	if err != nil {
		panic(err) // strings can be encoded
	}
	return string(encoded)
}

// Settings are what a container file says, in its order. Of a name that is there twice the last one counts.
type Settings []Setting

// Get is the value of a name.
func (s Settings) Get(name string) (string, bool) {
	for _, one := range slices.Backward(s) {
		if one.Name == name {
			return one.Text(), true
		}
	}
	return "", false
}

// text is the value of a setting; empty if there is none.
func (s Settings) text(name string) string {
	value, _ := s.Get(name)
	return value
}

// Environment are the settings as NAME=VALUE, without the container's type.
func (s Settings) Environment() []string {
	var all []string
	for _, one := range s {
		if one.Name != "type" {
			all = append(all, one.Name+"="+one.Text())
		}
	}
	return all
}

// ReadSettings reads a container file.
func ReadSettings(path string) (Settings, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	settings, err := ParseSettings(content, host)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return settings, nil
}

// ParseSettings reads lines NAME=VALUE, with the quotes of a shell: 'as it is', "with \" and \\", $'with \n', and
// NAME=("an" "array"). Nothing is carried out and nothing is expanded but $(hostname), which is host; whatever
// else a shell would expand is an ErrSettings that names the line.
func ParseSettings(content []byte, host string) (Settings, error) {
	if len(content) > maxSettings {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrSettings, maxSettings)
	}
	if before, _, zero := bytes.Cut(content, []byte{0}); zero {
		return nil, fmt.Errorf("%w: line %d: a zero byte", ErrSettings, 1+bytes.Count(before, []byte("\n")))
	}
	s := &scanner{rest: string(content), line: 1, host: host}
	var all Settings
	for s.nextLine() {
		one, err := s.setting()
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// scanner reads settings from rest, whose first byte is on line.
type scanner struct {
	rest string
	line int
	host string
}

func (s *scanner) take(n int) string {
	taken := s.rest[:n]
	s.line += strings.Count(taken, "\n")
	s.rest = s.rest[n:]
	return taken
}

func (s *scanner) bad(format string, args ...any) error {
	return fmt.Errorf("%w: line %d: "+format, append([]any{ErrSettings, s.line}, args...)...)
}

// blank skips white space, line ends only if told so, and comments.
func (s *scanner) blank(lines bool) {
	space := " \t\r"
	if lines {
		space += "\n"
	}
	for {
		s.take(len(s.rest) - len(strings.TrimLeft(s.rest, space)))
		if !strings.HasPrefix(s.rest, "#") {
			return
		}
		end := strings.IndexByte(s.rest, '\n')
		if end < 0 {
			end = len(s.rest)
		}
		s.take(end)
	}
}

func (s *scanner) nextLine() bool {
	s.blank(true)
	return s.rest != ""
}

func (s *scanner) setting() (Setting, error) {
	line := s.line
	name := variable.FindString(s.rest)
	if name == "" {
		first, _, _ := strings.Cut(s.rest, "\n")
		if len(first) > 40 {
			first = first[:40] + "..."
		}
		return Setting{}, s.bad("%q is not NAME=VALUE", first)
	}
	s.take(len(name))
	one := Setting{Name: strings.TrimSuffix(name, "="), Line: line}
	var err error
	if strings.HasPrefix(s.rest, "(") {
		one.Array = true
		one.Values, err = s.array()
	} else {
		var value string
		value, err = s.word()
		one.Values = []string{value}
	}
	if err != nil {
		return one, fmt.Errorf("%w (property %s)", err, one.Name)
	}
	before := len(s.rest)
	s.blank(false)
	if s.rest != "" && s.rest[0] != '\n' {
		if before == len(s.rest) {
			return one, s.bad("%q ends the value of %s (quote the value)", s.rest[:1], one.Name)
		}
		return one, s.bad("%s has more than one word (quote the value)", one.Name)
	}
	return one, nil
}

func (s *scanner) array() ([]string, error) {
	s.take(1)
	values := []string{}
	for {
		s.blank(true)
		switch {
		case s.rest == "":
			return nil, s.bad("an array without )")
		case s.rest[0] == ')':
			s.take(1)
			return values, nil
		}
		before := len(s.rest)
		value, err := s.word()
		if err != nil {
			return nil, err
		}
		if len(s.rest) == before {
			return nil, s.bad("%q in an array (quote the value)", s.rest[:1])
		}
		values = append(values, value)
	}
}
