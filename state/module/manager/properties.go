package manager

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/state"
	"orrery/state/account"
	"orrery/state/module/process"
)

// Properties configure a component of any of the modules.
type Properties struct {
	Command      []string          `json:"command"`
	Definition   string            `json:"definition"`
	Name         string            `json:"name"`
	Environment  map[string]string `json:"environment"`
	Directory    string            `json:"directory"`
	User         string            `json:"user"`
	Restart      string            `json:"restart"`
	Port         int               `json:"port"`
	Ready        string            `json:"ready"`
	ReadyTimeout process.Duration  `json:"readyTimeout"`
	StopTimeout  process.Duration  `json:"stopTimeout"`
	account.Properties
}

func describe() []state.Property {
	return append([]state.Property{
		{Name: "command", Type: "[]string", Doc: "Absolute path of the program, or ${file.NAME}, and its arguments; ${self.port} and ${self.address} are resolved. Either this or definition."},
		{Name: "definition", Type: "string", Doc: "A finished definition in the process manager's own format: an absolute path, usually ${file.NAME}. The properties command, environment, directory, user and restart are not used then."},
		{Name: "name", Type: "string", Doc: "What the process manager calls the program; by default the component's name, with -- for @. A finished definition must use the same."},
		{Name: "environment", Type: "map[string]string", Doc: "Variables of the program beside PATH, and PORT and ADDRESS where it has a port; ${self.port} and ${self.address} are resolved."},
		{Name: "directory", Type: "string", Default: "/", Doc: "Working directory."},
		{Name: "user", Type: "string", Doc: "The user to run as; by default that of the process manager."},
		{Name: "restart", Type: "string", Default: "always", Doc: "When a program that ended is started again: always, on-failure or never. Of no meaning to xinetd and sysvinit."},
		{Name: "port", Type: "int", Default: "0", Doc: "The port that the program listens on, on 127.0.0.1; 0: none."},
		{Name: "ready", Type: "string", Doc: "When the program counts as ready: running (the process manager says so), tcp (the port accepts; the default with a port) or http:/PATH (a GET there succeeds)."},
		{Name: "readyTimeout", Type: "duration", Default: "30s", Doc: "How long it may take to become ready."},
		{Name: "stopTimeout", Type: "duration", Default: "10s", Doc: "How long it may take to stop before it is killed."},
	}, account.Describe()...)
}

const (
	restartAlways    = "always"
	restartOnFailure = "on-failure"
	restartNever     = "never"

	readyRunning = "running"
	readyTCP     = "tcp"
	readyHTTP    = "http:"
)

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{state.ErrBadProperty}, args...)...)
}

// decode reads a component's properties and checks what can be checked without touching the machine.
func decode(c state.Component) (Properties, error) {
	p := Properties{
		Name: strings.ReplaceAll(c.Name, "@", "--"), Directory: "/", Restart: restartAlways,
		ReadyTimeout: process.Duration(30 * time.Second), StopTimeout: process.Duration(10 * time.Second),
	}
	if err := c.Properties.Decode(&p); err != nil {
		return p, err
	}
	if p.Ready == "" {
		p.Ready = readyRunning
		if p.Port != 0 {
			p.Ready = readyTCP
		}
	}
	return p, p.check()
}

func (p Properties) check() error {
	switch {
	case len(p.Command) == 0 && p.Definition == "":
		return bad("neither command nor definition is given")
	case len(p.Command) > 0 && p.Definition != "":
		return bad("command and definition exclude each other")
	case len(p.Command) > 0 && !absolute(p.Command[0]):
		return bad("command %q is not an absolute path", p.Command[0])
	case !absolute(p.Directory):
		return bad("directory %q is not an absolute path", p.Directory)
	case p.Definition != "" && !absolute(p.Definition):
		return bad("definition %q is not an absolute path", p.Definition)
	case len(p.Name) > 128 || !validName.MatchString(p.Name):
		return bad("name %q has other characters than letters, digits, '.', '-' and '_'", p.Name)
	case p.Port < 0 || p.Port > 65535:
		return bad("port %d is not from 0 to 65535", p.Port)
	case !slices.Contains([]string{restartAlways, restartOnFailure, restartNever}, p.Restart):
		return bad("restart %q is none of always, on-failure, never", p.Restart)
	case p.Ready != readyRunning && p.Ready != readyTCP && !strings.HasPrefix(p.Ready, readyHTTP+"/"):
		return bad("ready %q is none of running, tcp, http:/PATH", p.Ready)
	case p.Ready != readyRunning && p.Port == 0:
		return bad("ready %q needs a port", p.Ready)
	case p.User != "" && (len(p.User) > 128 || !validName.MatchString(p.User)):
		return bad("user %q has other characters than letters, digits, '.', '-' and '_'", p.User)
	}
	for name, value := range p.Environment {
		if !isVariable(name) {
			return bad("environment has a malformed variable %q", name)
		}
		if strings.ContainsRune(value, 0) {
			return bad("variable %s has a zero byte", name)
		}
	}
	for _, text := range append(slices.Clone(p.Command), p.Directory) {
		if strings.ContainsRune(text, 0) {
			return bad("command or directory has a zero byte")
		}
	}
	return p.Check()
}

func absolute(path string) bool { return filepath.IsAbs(path) || strings.HasPrefix(path, "${") }

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func isVariable(name string) bool { return variable.MatchString(name) }

// spec is a program, resolved for one target.
type spec struct {
	Properties
	target  state.Target
	content []byte // of a finished definition
	env     []string
}

// prepare resolves a target's properties; with whole it also reads the definition and looks at the program.
func prepare(t state.Target, whole bool) (spec, error) {
	p, err := decode(t.Component)
	if err != nil {
		return spec{}, err
	}
	s := spec{Properties: p, target: t}
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if p.Port != 0 {
		env["PORT"], env["ADDRESS"] = strconv.Itoa(p.Port), s.address()
	}
	for name, value := range p.Environment {
		if env[name], err = s.expand(value); err != nil {
			return s, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		s.env = append(s.env, name+"="+env[name])
	}
	s.Command = slices.Clone(p.Command)
	for i, argument := range s.Command {
		if s.Command[i], err = s.expand(argument); err != nil {
			return s, err
		}
	}
	if !whole {
		return s, nil
	}
	return s, s.look()
}

// look reads a finished definition, or sees to it that there is a program.
func (s *spec) look() (err error) {
	if s.Definition != "" {
		s.content, err = os.ReadFile(s.Definition)
		return err
	}
	info, err := os.Stat(s.Command[0])
	switch {
	case err != nil:
		return fmt.Errorf("program: %w (build or install it, or correct the command)", err)
	case info.IsDir() || info.Mode()&0o111 == 0:
		return bad("program %s is not executable (chmod +x it)", s.Command[0])
	}
	return nil
}

func (s spec) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// expand resolves ${self.port} and ${self.address}.
func (s spec) expand(text string) (string, error) {
	if s.Port != 0 {
		text = strings.NewReplacer("${self.port}", strconv.Itoa(s.Port), "${self.address}", s.address()).Replace(text)
	}
	if strings.Contains(text, "${self.") {
		return "", bad("%q refers to something that the component does not have (there are ${self.port} and ${self.address}, with a port)", text)
	}
	return text, nil
}

// probe asks once whether the program runs and is ready.
func (s spec) probe(ctx context.Context, v server) error {
	if err := v.status(ctx, s); err != nil || s.Ready == readyRunning {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if s.Ready == readyTCP {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", s.address())
		if err != nil {
			return fmt.Errorf("it does not listen: %w", err)
		}
		return conn.Close()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address()+strings.TrimPrefix(s.Ready, readyHTTP), http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("it does not answer: %w", err)
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("it answers %s with %s", request.URL, response.Status)
	}
	return nil
}
