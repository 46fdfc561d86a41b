package process

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"orrery/state"
	"orrery/state/account"
)

// Properties configure a process component.
type Properties struct {
	Command      []string          `json:"command"`
	Environment  map[string]string `json:"environment"`
	Directory    string            `json:"directory"`
	Port         Port              `json:"port"`
	Ready        string            `json:"ready"`
	ReadyTimeout Duration          `json:"readyTimeout"`
	StopSignal   string            `json:"stopSignal"`
	StopTimeout  Duration          `json:"stopTimeout"`
	User         string            `json:"user"`
	Restart      string            `json:"restart"`
	account.Properties
}

// Duration is a time.Duration that is written as a string such as "15s".
type Duration time.Duration

// UnmarshalText reads a positive duration.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	if parsed <= 0 {
		return fmt.Errorf("duration %q is not positive", text)
	}
	*d = Duration(parsed)
	return nil
}

// Port is how a process gets its port: AutoPort, NoPort, or a fixed number.
type Port int

// The special ports.
const (
	AutoPort Port = -1 // a free one is chosen once and kept
	NoPort   Port = 0
)

// UnmarshalJSON reads "auto", "none" or a number.
func (p *Port) UnmarshalJSON(data []byte) error {
	var word string
	if json.Unmarshal(data, &word) == nil {
		switch word {
		case "auto":
			*p = AutoPort
			return nil
		case "none":
			*p = NoPort
			return nil
		}
		data = []byte(word)
	}
	number, err := strconv.Atoi(string(data))
	if err != nil || number < 0 || number > 65535 {
		return fmt.Errorf("port %s is neither auto, none nor a number up to 65535", data)
	}
	*p = Port(number)
	return nil
}

// When a process that ended is started again.
const (
	restartAlways    = "always"
	restartOnFailure = "on-failure"
	restartNever     = "never"
)

// How readiness is found out.
const (
	readyTCP        = "tcp"
	readyNone       = "none"
	readyHTTPPrefix = "http:"
)

// decode reads a component's properties, fills in the defaults and checks what can be checked
// without touching the machine.
func decode(c state.Component) (Properties, error) {
	p := Properties{
		Port:         AutoPort,
		ReadyTimeout: Duration(15 * time.Second),
		StopSignal:   "TERM",
		StopTimeout:  Duration(10 * time.Second),
		Restart:      restartAlways,
	}
	if err := c.Properties.Decode(&p); err != nil {
		return p, err
	}
	if p.Ready == "" {
		p.Ready = readyTCP
		if p.Port == NoPort {
			p.Ready = readyNone
		}
	}
	return p, p.check()
}

func (p Properties) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{state.ErrBadProperty}, args...)...)
	}
	switch {
	case len(p.Command) == 0 || p.Command[0] == "":
		return bad("command is missing (give the absolute path of a program, or ${file.NAME}, and its arguments)")
	case !filepath.IsAbs(p.Command[0]) && !strings.HasPrefix(p.Command[0], "${"):
		return bad("command %q is not an absolute path", p.Command[0])
	case p.Directory != "" && !filepath.IsAbs(p.Directory) && !strings.HasPrefix(p.Directory, "${"):
		return bad("directory %q is not an absolute path", p.Directory)
	case !slices.Contains([]string{restartAlways, restartOnFailure, restartNever}, p.Restart):
		return bad("restart %q is none of always, on-failure, never", p.Restart)
	case p.Ready != readyTCP && p.Ready != readyNone && !strings.HasPrefix(p.Ready, readyHTTPPrefix+"/"):
		return bad("ready %q is none of tcp, http:/PATH, none", p.Ready)
	case p.Ready != readyNone && p.Port == NoPort:
		return bad("ready %q needs a port", p.Ready)
	}
	if _, err := p.signal(); err != nil {
		return bad("stopSignal %q is not a signal such as TERM, INT or QUIT", p.StopSignal)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Environment)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(p.Environment[name], "\x00") {
			return bad("environment has a malformed variable %q", name)
		}
	}
	if err := p.Check(); err != nil {
		return err
	}
	for _, text := range p.texts() {
		if _, err := expand(text, p.Port != NoPort, ""); err != nil {
			return err
		}
	}
	return nil
}

// texts are the values in which references to self are resolved.
func (p Properties) texts() []string {
	all := slices.Clone(p.Command)
	for _, name := range slices.Sorted(maps.Keys(p.Environment)) {
		all = append(all, p.Environment[name])
	}
	return all
}

func (p Properties) signal() (syscall.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(p.StopSignal), "SIG")
	if s := unix.SignalNum("SIG" + name); s != 0 {
		return s, nil
	}
	return 0, fmt.Errorf("%w: unknown signal %q", state.ErrBadProperty, p.StopSignal)
}

// expand resolves ${self.port} and ${self.address} in text. Other references
// belong to the keeper, and other uses of a dollar to the command itself.
func expand(text string, hasPort bool, port string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${self.")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		switch {
		case !closed:
			return "", fmt.Errorf("%w: reference ${self.%s has no closing brace", state.ErrBadProperty, rest)
		case name != "port" && name != "address":
			return "", fmt.Errorf("%w: ${self.%s} does not exist (there are ${self.port} and ${self.address})", state.ErrBadProperty, name)
		case !hasPort:
			return "", fmt.Errorf("%w: ${self.%s} is used, but the component has no port", state.ErrBadProperty, name)
		case name == "port":
			b.WriteString(port)
		default:
			b.WriteString(address(port))
		}
		text = after
	}
}
