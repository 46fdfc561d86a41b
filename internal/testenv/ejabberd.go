package testenv

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// EjabberdServer is an XMPP server for tests, which has the virtual host first.example and those in HostsFile.
type EjabberdServer struct {
	Node       string
	Port       int // where its Erlang node listens; there is no port mapper
	ClientPort int
	CookieFile string
	HostsFile  string
	Folder     string
	Config     string // the path of its configuration

	alive io.Closer // kept, because the server ends when this is closed, also by the garbage collector
}

var sharedEjabberd struct {
	once   sync.Once
	server *EjabberdServer
	err    error
}

// Ejabberd returns the server of this test binary, started by the first test that asks.
func Ejabberd(tb testing.TB) *EjabberdServer {
	tb.Helper()
	Need(tb, "ejabberdctl", "apt-get install ejabberd", "/usr/sbin/ejabberdctl")
	beam := Need(tb, "ejabberd_app.beam", "apt-get install ejabberd", "/usr/lib/*/ejabberd-*/ebin/ejabberd_app.beam", "/usr/lib/ejabberd-*/ebin/ejabberd_app.beam")
	erl := Need(tb, "erl", "apt-get install ejabberd")
	port, clients := FreePort(tb), FreePort(tb)
	sharedEjabberd.once.Do(func() {
		sharedEjabberd.server, sharedEjabberd.err = startEjabberd(erl, filepath.Join(beam, "../../.."), port, clients)
	})
	if sharedEjabberd.err != nil {
		tb.Fatal(sharedEjabberd.err)
	}
	return sharedEjabberd.server
}

const ejabberdConfig = `
hosts: [first.example]
include_config_file: [%q]
loglevel: warning
auth_password_format: scram
listen:
  - {port: %d, ip: 127.0.0.1, module: ejabberd_c2s}
modules:
  mod_adhoc: {}
  mod_admin_extra: {}
  mod_announce: {}
  mod_blocking: {}
  mod_caps: {}
  mod_disco: {}
  mod_last: {}
  mod_mam: {default: always}
  mod_muc: {default_room_options: {persistent: true}}
  mod_muc_admin: {}
  mod_mix: {}
  mod_mix_pam: {}
  mod_mqtt: {}
  mod_offline: {}
  mod_privacy: {}
  mod_private: {}
  mod_pubsub: {plugins: [flat, pep]}
  mod_push: {}
  mod_roster: {versioning: true}
  mod_shared_roster: {}
  mod_vcard: {}
`

func startEjabberd(erl, libraries string, port, clients int) (*EjabberdServer, error) {
	dir, err := os.MkdirTemp(fastFolder(), "orrery-ejabberd-")
	if err != nil {
		return nil, err
	}
	e := &EjabberdServer{
		Node: "orrery-" + strconv.Itoa(port) + "@localhost", Port: port, ClientPort: clients,
		CookieFile: filepath.Join(dir, ".erlang.cookie"), HostsFile: filepath.Join(dir, "hosts.yml"), Folder: dir, Config: filepath.Join(dir, "ejabberd.yml"),
	}
	credential, err := notRootAs(dir, "ejabberd")
	if err != nil {
		return nil, err
	}
	for path, content := range map[string]string{
		e.CookieFile: "SESAME" + strconv.Itoa(os.Getpid()), e.HostsFile: "", e.Config: fmt.Sprintf(ejabberdConfig, e.HostsFile, clients),
		filepath.Join(dir, "inetrc"): "{lookup,[file,native]}.\n",
	} {
		if err := os.WriteFile(path, []byte(content), 0o400); err != nil {
			return nil, err
		}
		if credential != nil {
			if err := os.Chown(path, int(credential.Uid), int(credential.Gid)); err != nil {
				return nil, err
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:forbidigo // shared by all tests, so that no test's context fits
	defer cancel()
	e.alive, err = daemon(ctx, Daemon{
		Folder: dir, Path: erl, Credential: credential,
		Args: []string{
			"-sname", e.Node, "-noinput", "-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-erl_epmd_port", strconv.Itoa(port), "-start_epmd", "false",
			"-mnesia", "dir", strconv.Quote(filepath.Join(dir, "spool")), "+S", "2:2", "-s", "ejabberd",
		},
		Env: []string{
			"HOME=" + dir, "ERL_LIBS=" + libraries, "EJABBERD_CONFIG_PATH=" + e.Config, "EJABBERD_LOG_PATH=" + filepath.Join(dir, "ejabberd.log"),
			"ERL_INETRC=" + filepath.Join(dir, "inetrc"), "ERL_CRASH_DUMP=/dev/null",
		},
		Ready: func([]byte) bool {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(clients)))
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		},
	})
	return e, err
}
