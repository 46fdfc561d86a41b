package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// shape is what a client that reads strictly cannot do without in an answer: paths, and what is there. A path's parts are between spaces; * is each member of
// an object or each element of a list. What is there is the name of a kind; one with ? in front may be missing or null, one with ~ may be missing but not null.
type shape map[string]string

// valueKinds are kinds of values, as strict clients know them. A uint has no fraction and at most 53 bits.
var valueKinds = map[string]func(v any) bool{
	"any":    func(v any) bool { return v != nil },
	"string": func(v any) bool { _, ok := v.(string); return ok },
	"bool":   func(v any) bool { _, ok := v.(bool); return ok },
	"list":   func(v any) bool { _, ok := v.([]any); return ok },
	"object": func(v any) bool { _, ok := v.(object); return ok },
	"uint": func(v any) bool {
		n, ok := v.(json.Number)
		u, err := strconv.ParseUint(string(n), 10, 53)
		return ok && err == nil && u < 1<<53
	},
	"user":  identifier('@', true),
	"room":  identifier('!', false),
	"event": identifier('$', false),
	"alias": identifier('#', true),
	"mxc":   address("mxc"),
	"url":   address("https", "http"),
}

func identifier(sigil byte, server bool) func(any) bool {
	return func(v any) bool {
		s, _ := v.(string)
		return len(s) > 1 && len(s) <= 255 && s[0] == sigil && (!server || strings.Contains(s, ":"))
	}
}

func address(schemes ...string) func(any) bool {
	return func(v any) bool {
		s, _ := v.(string)
		u, err := url.Parse(s)
		return err == nil && slices.Contains(schemes, u.Scheme) && u.Host != ""
	}
}

// lacks is what an answer lacks of a shape, and what is of another kind.
func (s shape) lacks(text []byte) (found []string) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return []string{"it is no JSON: " + err.Error()}
	}
	for path, kind := range s {
		need := kind[0]
		kind = strings.TrimLeft(kind, "?~")
		for where, there := range reach(v, strings.Fields(path), "") {
			switch there := there.(type) {
			case gone:
				if need != '?' && need != '~' {
					found = append(found, where+" is missing")
				}
			default:
				if !valueKinds[kind](there) && (need != '?' || there != nil) {
					found = append(found, fmt.Sprintf("%s is no %s but %v", where, kind, there))
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// gone is what is where there is nothing.
type gone struct{}

// reach is what is at a path, by where it is.
func reach(v any, path []string, where string) map[string]any {
	if len(path) == 0 {
		return map[string]any{strings.TrimSpace(where): v}
	}
	found := map[string]any{}
	more := func(name string, v any) {
		maps.Copy(found, reach(v, path[1:], where+" "+name))
	}
	switch v := v.(type) {
	case object:
		if path[0] == "*" {
			for name, one := range v {
				more(name, one)
			}
		} else if one, ok := v[path[0]]; ok {
			more(path[0], one)
		} else if len(path) == 1 { // what is in something that is missing, its own line asks for
			found[strings.TrimSpace(where+" "+path[0])] = gone{}
		}
	case []any:
		if path[0] == "*" {
			for n, one := range v {
				more(strconv.Itoa(n), one)
			}
		}
	}
	return found
}

// TestShape: what is missing in an answer, null or of another kind is found.
func TestShape(t *testing.T) {
	s := shape{
		"a": "string", "n": "uint", "o": "object", "o * id": "user", "o * name": "?string", "o * many": "~list", "l": "list", "l *": "bool",
	}
	for text, want := range map[string]int{
		`{"a": "", "n": 0, "o": {"x": {"id": "@a:b"}, "y": {"id": "@a:b", "name": null, "many": []}}, "l": [true, false]}`: 0,
		`{"n": 9007199254740991, "o": {}, "l": []}`:                                                     1,
		`{"a": null, "n": 9007199254740992, "o": [], "l": null}`:                                        4,
		`{"a": 1, "n": 1.0, "o": {"x": {"id": "a", "name": 1, "many": null}, "y": {}}, "l": [1, null]}`: 8,
		`{"a": "", "n": -1, "o": {}, "l": {}}`:                                                          2,
		`[`:                                                                                             1,
	} {
		if got := s.lacks([]byte(text)); len(got) != want {
			t.Errorf("%s lacks %q", text, got)
		}
	}
}
