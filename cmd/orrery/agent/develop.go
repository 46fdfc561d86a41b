package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/kballard/go-shellquote"
	"golang.org/x/sync/errgroup"

	"orrery/fabric"
	"orrery/session"
	"orrery/session/overlay"
	"orrery/session/tunnel"
	"orrery/state"
)

// DevelopOptions say what a developer runs in place of a service.
type DevelopOptions struct {
	Service string
	Session string // empty: made from the user's name
	Run     string // command line
	Forks   []string
	Stdout  io.Writer
	Stderr  io.Writer
	// Ready is told once the session's requests reach the process, with the public addresses by service.
	Ready func(s session.Session, publics map[string]string)
}

// errProcessEnded says that the developer's own process ended.
var errProcessEnded = errors.New("the process ended")

// Develop runs a process of this machine in place of a service for a session's requests. It
// returns when ctx ends, when the process does or when the session was ended elsewhere; the session is gone then.
func (c *Client) Develop(ctx context.Context, o DevelopOptions) (err error) {
	command, err := shellquote.Split(o.Run)
	if err != nil || len(command) == 0 {
		return fmt.Errorf("cannot understand the command %q: %w", o.Run, err)
	}
	if o.Session == "" {
		o.Session = userName()
	}
	endpoint, placed, err := c.endpoint(ctx, o.Service)
	if err != nil {
		return err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(o.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	client, err := tunnel.NewClient(ctx, tunnel.ClientConfig{Allow: []string{address}, Services: placed.DependsOn, Logger: log})
	if err != nil {
		return err
	}
	defer client.Close()
	environment, left := localEnvironment(endpoint, o.Session, address, client.Addresses())
	for _, name := range left {
		log.WarnContext(ctx, "variable is left out: its value exists only where the service lives", "variable", name)
	}
	parts, running := errgroup.WithContext(ctx)
	parts.Go(func() error { return runLocal(running, command, environment, o) })
	parts.Go(func() error { return c.overlay(running, client, address, o) })
	err = parts.Wait()
	if ctx.Err() != nil {
		return nil // Ctrl-C is how it ends
	}
	return err
}

// overlay makes the session once the process answers, keeps the tunnel up and ends the session.
func (c *Client) overlay(ctx context.Context, client *tunnel.Client, address string, o DevelopOptions) (err error) {
	if err := awaitListener(ctx, address); err != nil {
		return err
	}
	made, err := ask[session.Session](ctx, c.to, procSessionCreate, &overlay.Request{
		Name: o.Session, Forks: o.Forks, Tunnels: []overlay.Tunnelled{{Service: o.Service, Address: address}},
	})
	if err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
		defer cancel()
		if gone := c.DeleteSession(ending, made.Name); gone != nil && !errors.Is(gone, session.ErrNotFound) {
			err = errors.Join(err, gone)
		}
	}()
	id := tunnelID(made, o.Service)
	announced := false
	return client.Run(ctx, func(ctx context.Context) (net.Conn, error) {
		conn, err := c.to.peer.Stream(ctx, streamTunnel, TunnelHeader{ID: id})
		if errors.Is(err, session.ErrNotFound) || errors.Is(err, fabric.ErrForbidden) {
			return nil, &tunnel.Permanent{Err: fmt.Errorf("session %s has ended: %w", made.Name, err)}
		}
		if err == nil && !announced {
			announced = true
			o.Ready(made, c.publics(ctx))
		}
		return conn, err
	})
}

// publics are the public addresses of the cluster's services.
func (c *Client) publics(ctx context.Context) map[string]string {
	all := map[string]string{}
	services, err := c.Services(ctx)
	if err != nil {
		return all // a hint for people; the session works without
	}
	for _, s := range services {
		if s.Public != "" {
			all[s.Service] = s.Public
		}
	}
	return all
}

func tunnelID(s session.Session, service string) string {
	for _, o := range s.Overrides {
		if o.Service == service {
			return o.Instance.Tunnel
		}
	}
	return ""
}

// runLocal runs the developer's process until ctx ends.
func runLocal(ctx context.Context, command, environment []string, o DevelopOptions) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdout, cmd.Stderr = o.Stderr, o.Stderr // standard output is for the answer of this command
	// Whatever ends this command line ends the process, also kill -9. The signal is sent when the thread ends that
	// started the process, so that one has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil // it was told to end
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errProcessEnded, command[0], err)
	}
	return fmt.Errorf("%w: %s", errProcessEnded, command[0])
}

var reference = regexp.MustCompile(`\$\{([^}]*)\}`)

// localEnvironment is a component's environment as it is on the developer's machine. Variables whose
// values exist only on the service's node are left out and named.
func localEnvironment(c state.Component, session, address string, services map[string]string) (environment, left []string) {
	_, port, _ := strings.Cut(address, ":")
	environment = []string{"ADDRESS=" + address, "PORT=" + port, "ORRERY_SESSION=" + session}
	variables, _ := c.Properties["environment"].(map[string]any)
	for name, value := range variables {
		text, _ := value.(string)
		known := true
		text = reference.ReplaceAllStringFunc(text, func(found string) string {
			value, ok := localValue(found[2:len(found)-1], address, port, services)
			known = known && ok
			return value
		})
		if known {
			environment = append(environment, name+"="+text)
		} else {
			left = append(left, name)
		}
	}
	sort.Strings(environment)
	sort.Strings(left)
	return environment, left
}

func localValue(reference, address, port string, services map[string]string) (string, bool) {
	switch reference {
	case "self.address":
		return address, true
	case "self.port":
		return port, true
	}
	name, export, _ := strings.Cut(strings.TrimPrefix(reference, "service."), ".")
	local, ok := services[name]
	if !ok || !strings.HasPrefix(reference, "service.") {
		return "", false
	}
	if export == "url" {
		return "http://" + local, true
	}
	return local, export == "address"
}

// freeAddress is a loopback address that nobody listens at now.
func freeAddress(ctx context.Context) (string, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// awaitListener waits until something listens at address.
func awaitListener(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("the process does not listen at %s (it finds the address in ADDRESS and the port in PORT): %w", address, err)
		case <-timer.C:
		}
	}
}

var notLabel = regexp.MustCompile(`[^a-z0-9]+`)

// userName is the user's name as a session's name.
func userName() string {
	name := "session"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return label(name)
}

// label makes a DNS label of a name.
func label(name string) string {
	name = strings.Trim(notLabel.ReplaceAllString(strings.ToLower(name), "-"), "-")
	return name[:min(len(name), 30)]
}
