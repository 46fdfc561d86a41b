package main

import (
	"fmt"
	"regexp"
	"time"

	"orrery/clip/action"
)

// configured is an action in the file of settings.
type configured struct {
	Name    string   `toml:"name"`
	Off     bool     `toml:"off"`     // takes the one with this name away
	Text    string   `toml:"text"`    // a regular expression
	Types   []string `toml:"types"`   // patterns
	Builtin string   `toml:"builtin"` // or
	Run     []string `toml:"run"`     // or
	Shell   string   `toml:"shell"`
	Output  string   `toml:"output"`
	Timeout string   `toml:"timeout"`
}

// actions are those that are offered: those of the settings, and then those that are there by default.
func (s *settings) actions() (action.Set, error) {
	var own action.Set
	var off []string
	for _, c := range s.Actions {
		if c.Off {
			off = append(off, c.Name)
			continue
		}
		a := action.Action{Name: c.Name, Types: c.Types, Builtin: action.Builtin(c.Builtin), Run: c.Run, Shell: c.Shell, Output: action.Output(c.Output)}
		var err error
		if c.Text != "" {
			if a.Text, err = regexp.Compile(c.Text); err != nil {
				return nil, fmt.Errorf("settings: action %q: text: %w", c.Name, err)
			}
		}
		if c.Timeout != "" {
			if a.Timeout, err = time.ParseDuration(c.Timeout); err != nil {
				return nil, fmt.Errorf("settings: action %q: timeout %q is no duration such as 10s", c.Name, c.Timeout)
			}
		}
		if err := a.Check(); err != nil {
			return nil, fmt.Errorf("settings: %w", err)
		}
		own = append(own, a)
	}
	return action.Defaults().With(own...).Without(off...), nil
}
