package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/rpc"
	"orrery/session"
	"orrery/session/overlay"
	"orrery/state"
)

// Client is the command line's connection to a node.
type Client struct {
	to    target
	near  bool // through the socket of this machine
	close func()
}

// login is what a machine that is no node knows of its cluster.
type login struct {
	Peers []fabric.Beacon `json:"peers"`
}

// Connect reaches the node in dir by its socket, or with a login in dir any node of the cluster.
func Connect(ctx context.Context, dir string) (*Client, error) {
	if _, err := os.Stat(filepath.Join(dir, loginFile)); err == nil {
		return connectLogin(ctx, dir)
	}
	socket := filepath.Join(dir, socketFile)
	peer := rpc.Unix(socket, sentinels())
	c := &Client{to: target{peer: peer}, near: true, close: peer.Close}
	if _, err := os.Stat(socket); err != nil {
		peer.Close()
		return nil, fmt.Errorf("no node runs in %s (start it with orrery node run --dir %s, or name another folder with --dir)", dir, dir)
	}
	return c, nil
}

// connectLogin takes the first node that answers.
func connectLogin(ctx context.Context, dir string) (*Client, error) {
	var known login
	if err := loadJSON(filepath.Join(dir, loginFile), &known); err != nil {
		return nil, err
	}
	a, err := authority.Open(filepath.Join(dir, "identity"))
	if err != nil {
		return nil, err
	}
	// By id, not by address: a machine that once was a node could answer there with a certificate that it signed itself.
	client := rpc.NewClient(rpc.ClientConfig{Authority: a, Errors: sentinels(), Lookup: func(_ context.Context, id fabric.NodeID) (string, error) {
		for _, b := range known.Peers {
			if b.ID == id {
				return b.RPC, nil
			}
		}
		return "", fmt.Errorf("node %s: %w", id, fabric.ErrNotFound)
	}})
	var errs []error
	for _, b := range known.Peers {
		c := &Client{to: target{peer: client.Node(b.ID)}, close: client.Close}
		attempt, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := c.Members(attempt)
		cancel()
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("node %s at %s: %w", b.Name, b.RPC, err))
	}
	client.Close()
	return nil, fmt.Errorf("no node of the cluster answers: %w", errors.Join(errs...))
}

// Close ends the connection.
func (c *Client) Close() { c.close() }

// Members lists the nodes as the node sees them.
func (c *Client) Members(ctx context.Context) ([]fabric.Member, error) {
	all, err := ask[List[fabric.Member]](ctx, c.to, procMembers, &Empty{})
	return all.Items, err
}

// Token issues a join token.
func (c *Client) Token(ctx context.Context, role fabric.Role, ttl time.Duration) (string, error) {
	token, err := ask[Text](ctx, c.to, procToken, &TokenRequest{Role: role, TTL: ttl})
	return token.Value, err
}

// Leave takes the node out of the cluster.
func (c *Client) Leave(ctx context.Context) error { return tell(ctx, c.to, procLeave, &Empty{}) }

// DashboardLink makes a link that opens the node's dashboard, once.
func (c *Client) DashboardLink(ctx context.Context) (string, error) {
	link, err := ask[Text](ctx, c.to, procLink, &Empty{})
	return link.Value, err
}

// Machine is the node's machine, or that of another node by its name.
func (c *Client) Machine(on string) Machine {
	to := target{peer: c.to.peer, on: on}
	return Machine{
		Keeper:  remoteKeeper{to},
		Care:    remoteKeeper{to},
		Library: remoteKeeper{to},
		Near:    c.near && on == "",
		Store:   remoteStore{to},
		Modules: func(ctx context.Context) ([]state.Description, error) {
			all, err := ask[List[state.Description]](ctx, to, procModules, &Empty{})
			return all.Items, err
		},
		Provide: func(ctx context.Context, path string) (string, error) {
			sum, err := sumFile(path)
			if err != nil {
				return "", err
			}
			return sum, sendArtifact(ctx, to, sum, path)
		},
	}
}

// Plan finds what is wrong with a manifest on the cluster, or what applying it would do.
func (c *Client) Plan(ctx context.Context, m deploy.Manifest) (PlanAnswer, error) {
	return ask[PlanAnswer](ctx, c.to, procPlan, &ManifestRequest{m})
}

// Apply sends the manifest's files that the node lacks, and has the manifest applied.
func (c *Client) Apply(ctx context.Context, m deploy.Manifest, progress func(deploy.Event)) (deploy.Outcome, error) {
	if err := c.upload(ctx, m.Artifacts); err != nil {
		return deploy.Outcome{}, err
	}
	last, err := follow(ctx, c.to.peer, procApply, &ManifestRequest{m}, progress)
	switch {
	case err != nil:
		return deploy.Outcome{}, err
	case len(last.Problems) > 0:
		return deploy.Outcome{}, last.Problems
	case last.Outcome == nil:
		return deploy.Outcome{}, errors.New("the node ended the apply without saying how")
	}
	return *last.Outcome, nil
}

// upload sends files by SHA-256 that the node lacks.
func (c *Client) upload(ctx context.Context, files map[string]string) error {
	var sums []string
	for sum := range files {
		sums = append(sums, sum)
	}
	missing, err := ask[List[string]](ctx, c.to, procHas, &List[string]{sums})
	if err != nil {
		return err
	}
	for _, sum := range missing.Items {
		if err := sendArtifact(ctx, c.to, sum, files[sum]); err != nil {
			return err
		}
	}
	return nil
}

// follow runs a long operation and returns its last message.
func follow[Req any](ctx context.Context, peer *rpc.Peer, procedure string, request *Req, progress func(deploy.Event)) (Progress, error) {
	var last Progress
	for message, err := range rpc.CallStream[Req, Progress](ctx, peer, procedure, request) {
		if err != nil {
			return last, err
		}
		if message.Event != nil {
			progress(*message.Event)
			continue
		}
		last = *message
	}
	return last, nil
}

// Services lists the deployed services.
func (c *Client) Services(ctx context.Context) ([]ServiceStatus, error) {
	all, err := ask[List[ServiceStatus]](ctx, c.to, procDeployStatus, &Empty{})
	return all.Items, err
}

// Backup takes a backup of a manifest's state.
func (c *Client) Backup(ctx context.Context, name string, progress func(deploy.Event)) (deploy.Backup, error) {
	last, err := follow(ctx, c.to.peer, procBackup, &NameRequest{Name: name}, progress)
	if err != nil {
		return deploy.Backup{}, err
	}
	if last.Backup == nil {
		return deploy.Backup{}, errors.New("the node ended the backup without saying how")
	}
	return *last.Backup, nil
}

// Backups lists a manifest's backups.
func (c *Client) Backups(ctx context.Context, name string) ([]deploy.Backup, error) {
	all, err := ask[List[deploy.Backup]](ctx, c.to, procBackups, &NameRequest{Name: name})
	return all.Items, err
}

// BringBack restores services from a backup.
func (c *Client) BringBack(ctx context.Context, name, backup string, services []string, progress func(deploy.Event)) error {
	_, err := follow(ctx, c.to.peer, procBringBack, &NameRequest{Name: name, Backup: backup, Services: services}, progress)
	return err
}

// Remove takes all services of a manifest out of service.
func (c *Client) Remove(ctx context.Context, name string, progress func(deploy.Event)) error {
	_, err := follow(ctx, c.to.peer, procRemove, &NameRequest{Name: name}, progress)
	return err
}

// ListSessions lists the sessions.
func (c *Client) ListSessions(ctx context.Context) ([]session.Session, error) {
	all, err := ask[Sessions](ctx, c.to, procSessionList, &Empty{})
	return all.Items, err
}

// DeleteSession ends a session.
func (c *Client) DeleteSession(ctx context.Context, name string) error {
	return tell(ctx, c.to, procSessionDelete, &Text{name})
}

// CreateSession makes a session that lasts without the command line. exec has a local program by service.
func (c *Client) CreateSession(ctx context.Context, name string, forks []string, exec map[string]string, ttl time.Duration) (session.Session, error) {
	request := overlay.Request{Name: name, Forks: forks, TTL: ttl}
	for service, program := range exec {
		variant, err := c.variant(ctx, service, program)
		if err != nil {
			return session.Session{}, err
		}
		request.Exec = append(request.Exec, overlay.Exec{Service: service, Component: variant})
	}
	return ask[session.Session](ctx, c.to, procSessionCreate, &request)
}

// variant is a service's endpoint with another program.
func (c *Client) variant(ctx context.Context, service, program string) (state.Component, error) {
	endpoint, _, err := c.endpoint(ctx, service)
	if err != nil {
		return state.Component{}, err
	}
	name, ok := programFile(endpoint)
	if !ok {
		return state.Component{}, fmt.Errorf("cannot run %s in place of service %s: the service's command does not begin with a file of its manifest", program, service)
	}
	sum, err := sumFile(program)
	if err != nil {
		return state.Component{}, err
	}
	if err := c.upload(ctx, map[string]string{sum: program}); err != nil {
		return state.Component{}, err
	}
	files := maps.Clone(endpoint.Files)
	files[name] = sum
	return state.Component{Name: endpoint.Name, Files: files}, nil
}

// endpoint finds the component of a service that answers requests.
func (c *Client) endpoint(ctx context.Context, service string) (state.Component, session.Placed, error) {
	placed, err := ask[session.Placed](ctx, c.to, procSessionPlaced, &Text{service})
	if err != nil {
		return state.Component{}, placed, err
	}
	for _, component := range placed.Components {
		if component.Name == placed.Endpoint {
			return component, placed, nil
		}
	}
	return state.Component{}, placed, fmt.Errorf("service %s has no component that answers requests", service)
}

// programFile is the name of the file that a process component's command begins with.
func programFile(c state.Component) (string, bool) {
	command, ok := c.Properties["command"].([]any)
	if !ok || len(command) == 0 {
		return "", false
	}
	text, ok := command[0].(string)
	if !ok || len(text) < 9 || text[:7] != "${file." || text[len(text)-1] != '}' {
		return "", false
	}
	return text[7 : len(text)-1], true
}
