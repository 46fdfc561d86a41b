package manager

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"orrery/state"
)

// xinetd is the engine of services of xinetd.
type xinetd struct {
	TargetDir string `json:"xinetdTargetDir"`
	PidFile   string `json:"xinetdPidFile"`
}

func (xinetd) describe() state.Description {
	return state.Description{
		Name: "xinetd-service",
		Doc:  "A service that xinetd listens for on a port of 127.0.0.1, and starts once for each connection. Arguments, and values of the environment, cannot have spaces.",
		Container: []state.Property{
			{Name: "xinetdTargetDir", Type: "string", Default: "/etc/xinetd.d", Doc: "Folder of services; xinetd must include it."},
			{Name: "xinetdPidFile", Type: "string", Default: "/run/xinetd.pid", Doc: "File with xinetd's process id, to tell it of changes."},
		},
	}
}

func (xinetd) open(c state.Container) (server, error) {
	d := xinetd{TargetDir: "/etc/xinetd.d", PidFile: "/run/xinetd.pid"}
	if err := c.Properties.Decode(&d); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(d.TargetDir) || !filepath.IsAbs(d.PidFile) {
		return nil, bad("xinetdTargetDir and xinetdPidFile must be absolute paths")
	}
	return d, nil
}

func (d xinetd) fit(s spec) error {
	switch {
	case s.Port == 0:
		return bad("port is missing: xinetd starts a service when somebody connects")
	case strings.Contains(s.Name, "."):
		return bad("name %q has a dot, and xinetd does not read such files (set name)", s.Name)
	}
	for _, word := range append(append([]string{s.Directory}, s.env...), s.Command...) {
		if strings.ContainsAny(word, " \t\n\r") {
			return bad("%q has a space, which xinetd cannot pass on", word)
		}
	}
	return folder("xinetdTargetDir", d.TargetDir)
}

func (d xinetd) item(s spec) (item, error) {
	return item{files: []file{{filepath.Join(d.TargetDir, s.Name), d.definition(s), 0o600}}}, nil
}

func (d xinetd) definition(s spec) []byte {
	if s.content != nil {
		return s.content
	}
	user := s.User
	if user == "" {
		user = "root"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s, placed by Orrery\nservice %s\n{\n\ttype = UNLISTED\n\tdisable = no\n\tsocket_type = stream\n\tprotocol = tcp\n\twait = no\n\tbind = 127.0.0.1\n\tport = %d\n\tuser = %s\n\tserver = %s\n",
		s.target.Component.Ref(), s.Name, s.Port, user, s.Command[0])
	if len(s.Command) > 1 {
		fmt.Fprintf(&b, "\tserver_args = %s\n", strings.Join(s.Command[1:], " "))
	}
	fmt.Fprintf(&b, "\tpassenv =\n\tenv = %s\n}\n", strings.Join(s.env, " "))
	return []byte(b.String())
}

// reload tells xinetd to read its files.
func (d xinetd) reload() error {
	content, err := os.ReadFile(d.PidFile)
	if err != nil {
		return fmt.Errorf("xinetd: %w: %w", state.ErrUnreachable, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("xinetd: %w: %s holds no process id", state.ErrUnreachable, d.PidFile)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return fmt.Errorf("xinetd: %w: process %d: %w", state.ErrUnreachable, pid, err)
	}
	return nil
}

func (d xinetd) start(ctx context.Context, s spec) error {
	if d.status(ctx, s) == nil {
		return fmt.Errorf("port %d: %w: somebody listens there", s.Port, state.ErrInUse)
	}
	return d.reload()
}

// stop does nothing: xinetd closes the port of a definition that is gone.
func (d xinetd) stop(context.Context, spec) error { return nil }

func (d xinetd) removed(ctx context.Context, s spec) error {
	if err := d.reload(); err != nil {
		return err
	}
	return until(ctx, time.Duration(s.StopTimeout), func(ctx context.Context) (bool, error) {
		return d.status(ctx, s) != nil, nil
	})
}

func (d xinetd) status(ctx context.Context, s spec) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", s.address())
	if err != nil {
		return fmt.Errorf("xinetd does not listen for it: %w", err)
	}
	return conn.Close()
}
