package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"orrery/clip"
	"orrery/clip/history"
	"orrery/clip/paste"
	"orrery/clip/policy"
)

// settings are what the file of settings may have. docs/clip.md explains them.
type settings struct {
	Primary bool `toml:"primary"` // record the primary selection, too
	Keep    bool `toml:"keep"`    // offer again what an owner leaves behind
	Paste   bool `toml:"paste"`   // the picker also pastes
	Limits  struct {
		Items   int    `toml:"items"`
		Bytes   int64  `toml:"bytes"`
		Age     string `toml:"age"` // a duration, such as 720h
		Item    int64  `toml:"item"`
		MinText int    `toml:"min_text"`
	} `toml:"limits"`
	Exclude struct {
		Applications []string `toml:"applications"`
		Types        []string `toml:"types"`
		Text         []string `toml:"text"` // regular expressions
	} `toml:"exclude"`
	// PasteKeys are how applications paste, by patterns of their names.
	PasteKeys map[string]string `toml:"paste_keys"`
	Sync      syncSettings      `toml:"sync"`
	Actions   []configured      `toml:"actions"`
	Window    struct {
		Theme string `toml:"theme"` // auto, light or dark
	} `toml:"window"`
}

// The limits unless the file says otherwise.
const (
	defaultItems = 10_000
	defaultBytes = 1 << 30
	defaultItem  = 64 << 20
)

// load reads the file of settings; without one all are as they are by default.
func load(path string) (*settings, error) {
	s := &settings{Keep: true, Sync: defaultSync()}
	s.Limits.Items, s.Limits.Bytes, s.Limits.Item = defaultItems, defaultBytes, defaultItem
	meta, err := toml.DecodeFile(path, s)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("settings %s: %s is unknown", path, unknown[0])
	}
	return s, nil
}

func (s *settings) rules() (policy.Rules, error) {
	r := policy.Rules{Applications: s.Exclude.Applications, Types: s.Exclude.Types, MaxItem: s.Limits.Item, MinText: s.Limits.MinText}
	for _, text := range s.Exclude.Text {
		e, err := regexp.Compile(text)
		if err != nil {
			return r, fmt.Errorf("settings: exclude.text %q: %w", text, err)
		}
		r.Ignore = append(r.Ignore, e)
	}
	if err := r.Check(); err != nil {
		return r, fmt.Errorf("settings: exclude: %w", err)
	}
	return r, nil
}

func (s *settings) limits() (history.Limits, error) {
	l := history.Limits{Items: s.Limits.Items, Bytes: s.Limits.Bytes}
	if s.Limits.Age != "" {
		d, err := time.ParseDuration(s.Limits.Age)
		if err != nil || d < 0 {
			return l, fmt.Errorf("settings: limits.age %q is no duration such as 720h", s.Limits.Age)
		}
		l.Age = d
	}
	if l.Items < 0 || l.Bytes < 0 || s.Limits.Item < 0 || s.Limits.MinText < 0 {
		return l, errors.New("settings: a limit is not negative; 0 means none")
	}
	return l, nil
}

// pasting are the rules about how applications paste, those first that say more.
func (s *settings) pasting() ([]paste.Rule, error) {
	var rules []paste.Rule
	for app, keys := range s.PasteKeys {
		r, err := paste.ParseRule(app, keys)
		if err != nil {
			return nil, fmt.Errorf("settings: paste_keys: %w", err)
		}
		rules = append(rules, r)
	}
	slices.SortFunc(rules, func(a, b paste.Rule) int {
		return cmp.Or(len(b.Application)-len(a.Application), strings.Compare(a.Application, b.Application))
	})
	return rules, nil
}

// selections are those that are watched.
func (s *settings) selections() []clip.Selection {
	if s.Primary {
		return []clip.Selection{clip.Clipboard, clip.Primary}
	}
	return []clip.Selection{clip.Clipboard}
}

// kept are those that are offered again. Not the primary one: programs take back what is marked in them when another owns it.
func (s *settings) kept() []clip.Selection {
	if s.Keep {
		return []clip.Selection{clip.Clipboard}
	}
	return nil
}
