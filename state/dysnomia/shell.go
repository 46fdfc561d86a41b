package dysnomia

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// shellScript prepares a session. Values come by the environment, so that nothing in them is carried out; the module
// is sourced as Dysnomia does it, where it is a shell's script.
const shellScript = `if [ -n "$PS1" ]; then
	[ -e ~/.bashrc ] && source ~/.bashrc
	PS1='\n\[\033[1;32m\][dysnomia-shell:\w]\$\[\033[0m\] '
fi
if [ -n "$ORRERY_SHELL_SOURCE" ]; then
	source "$ORRERY_SHELL_SOURCE" shell "$this_component" "$this_container"
	set +e
fi
unset ORRERY_SHELL_SOURCE
{
	echo
	echo "this_dysnomia_module     the module"
	echo "this_component           path of the component"
	echo "this_container           the container"
} >&2
if [ -n "${ORRERY_SHELL_COMMAND+x}" ]; then
	eval "unset ORRERY_SHELL_COMMAND; $ORRERY_SHELL_COMMAND"
	exit
fi
`

// Shell gives a person a shell for a component: the container's properties and where things are as environment
// variables. With a command that is not empty the shell carries it out and ends with its status. The component is
// not locked.
func (r Runner) Shell(ctx context.Context, request Request, command string, in io.Reader) error {
	request.Operation = "shell"
	job, err := r.Resolve(request)
	if err != nil && (!r.AnyName || !errors.Is(err, ErrUnquotable)) {
		return err
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		return fmt.Errorf("cannot open a shell: %w", err)
	}
	folder, err := os.MkdirTemp("", "orrery-shell-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	script := filepath.Join(folder, "rc")
	if err := os.WriteFile(script, []byte(shellScript), 0o600); err != nil {
		return err
	}
	module := job.Module
	if module == "" {
		module = job.Type
	}
	env := append(job.Properties, "PATH="+r.Path, "DYSNOMIA_STATEDIR="+r.Directory.Path(),
		"this_dysnomia_module="+module, "this_component="+job.Path, "this_container="+job.Container)
	for _, name := range []string{"HOME", "TERM", "USER", "LANG"} {
		if value, ok := os.LookupEnv(name); ok && !request.FromEnvironment {
			env = append(env, name+"="+value)
		}
	}
	if isScript(job.Module) {
		env = append(env, "ORRERY_SHELL_SOURCE="+job.Module)
	}
	args := []string{"--rcfile", script}
	if command != "" {
		env = append(env, "ORRERY_SHELL_COMMAND="+command)
		args = []string{script}
	}
	return session(exec.CommandContext(ctx, bash, args...), env, in, r.Out, r.Err)
}

// session runs a shell in the caller's own process group, so that it may use the terminal.
func session(cmd *exec.Cmd, env []string, in io.Reader, out, complaints io.Writer) error {
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, in, out, complaints
	err := cmd.Run()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return &ShellStatus{failed.ExitCode()}
	}
	return err
}

// ShellStatus is a shell that ended with another status than 0.
type ShellStatus struct{ Code int }

// Error implements error.
func (s *ShellStatus) Error() string { return fmt.Sprintf("the shell ended with status %d", s.Code) }

// isScript says whether a module can be sourced by bash.
func isScript(path string) bool {
	if path == "" {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 64)
	n, _ := io.ReadFull(f, head)
	line, _, _ := bytes.Cut(head[:n], []byte("\n"))
	return bytes.HasPrefix(line, []byte("#!")) && bytes.Contains(line, []byte("sh"))
}
