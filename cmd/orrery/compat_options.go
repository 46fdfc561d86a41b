package main

import (
	"fmt"
	"slices"
	"strings"
)

// option is one option of a command of Dysnomia.
type option struct {
	short byte // 0: none
	long  string
	value string // what its value is called; empty: it takes none
	doc   string
}

// parsed is a command line: the last value of each option by its long name, the options in their order, and the rest.
type parsed struct {
	values map[string]string
	order  []string
	rest   []string
}

func (p parsed) has(long string) bool { _, ok := p.values[long]; return ok }

// last is the last given of several options that exclude each other; empty if there is none.
func (p parsed) last(longs ...string) string {
	for _, given := range slices.Backward(p.order) {
		if slices.Contains(longs, given) {
			return given
		}
	}
	return ""
}

// parseOptions reads a command line as getopt does: options and arguments mixed, long ones shortened as far as they
// are clear, values after = or as the next argument.
func parseOptions(options []option, args []string) (parsed, error) {
	p := parsed{values: map[string]string{}}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case arg == "--":
			p.rest = append(p.rest, args...)
			return p, nil
		case strings.HasPrefix(arg, "--"):
			args, err = p.longOption(options, arg[2:], args)
		case len(arg) > 1 && arg[0] == '-':
			args, err = p.shortOptions(options, arg[1:], args)
		default:
			p.rest = append(p.rest, arg)
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *parsed) set(long, value string) {
	p.values[long] = value
	p.order = append(p.order, long)
}

func (p *parsed) longOption(options []option, arg string, args []string) ([]string, error) {
	name, value, given := strings.Cut(arg, "=")
	found, err := longNamed(options, name)
	if err != nil {
		return args, err
	}
	switch {
	case found.value == "" && given:
		return args, fmt.Errorf("option '--%s' doesn't allow an argument", found.long)
	case found.value != "" && !given && len(args) == 0:
		return args, fmt.Errorf("option '--%s' requires an argument", found.long)
	case found.value != "" && !given:
		value, args = args[0], args[1:]
	}
	p.set(found.long, value)
	return args, nil
}

func longNamed(options []option, name string) (option, error) {
	var near []option
	for _, o := range options {
		if o.long == name {
			return o, nil
		}
		if o.long != "" && strings.HasPrefix(o.long, name) {
			near = append(near, o)
		}
	}
	switch len(near) {
	case 0:
		return option{}, fmt.Errorf("unrecognized option '--%s'", name)
	case 1:
		return near[0], nil
	}
	possible := make([]string, len(near))
	for i, o := range near {
		possible[i] = "'--" + o.long + "'"
	}
	return option{}, fmt.Errorf("option '--%s' is ambiguous; possibilities: %s", name, strings.Join(possible, " "))
}

func (p *parsed) shortOptions(options []option, letters string, args []string) ([]string, error) {
	for letters != "" {
		found, ok := shortNamed(options, letters[0])
		if !ok {
			return args, fmt.Errorf("invalid option -- '%c'", letters[0])
		}
		letters = letters[1:]
		if found.value == "" {
			p.set(found.key(), "")
			continue
		}
		value := letters
		if value == "" {
			if len(args) == 0 {
				return args, fmt.Errorf("option requires an argument -- '%c'", found.short)
			}
			value, args = args[0], args[1:]
		}
		p.set(found.key(), value)
		return args, nil
	}
	return args, nil
}

func shortNamed(options []option, letter byte) (option, bool) {
	for _, o := range options {
		if o.short == letter {
			return o, true
		}
	}
	return option{}, false
}

func (o option) key() string {
	if o.long == "" {
		return string(o.short)
	}
	return o.long
}

// usage prints options as a help text does.
func usage(options []option) string {
	var b strings.Builder
	for _, o := range options {
		name := "    "
		switch {
		case o.long == "":
			name = "-" + string(o.short)
		case o.short != 0:
			name = "-" + string(o.short) + ", "
		}
		if o.long != "" {
			name += "--" + o.long
		}
		if o.value != "" {
			name += "=" + o.value
		}
		fmt.Fprintf(&b, "  %-34s %s\n", name, o.doc)
	}
	return b.String()
}
