package testenv

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// EtcdSettings say how a server is started; all may be empty.
type EtcdSettings struct {
	Data      string     // its data's folder, which must not be there; empty: one of its own
	Authority *Authority // whose certificate the server has, and clients have to have
	Args      []string
}

// Etcd starts an etcd server for one test and returns its URL.
func Etcd(tb testing.TB) string {
	tb.Helper()
	return StartEtcd(tb, EtcdSettings{})
}

// StartEtcd starts one with settings.
func StartEtcd(tb testing.TB, s EtcdSettings) string {
	tb.Helper()
	path := Need(tb, "etcd", "apt-get install etcd-server")
	dir, err := os.MkdirTemp(fastFolder(), "orrery-etcd-") //nolint:usetesting // the server removes it when it has ended
	if err != nil {
		tb.Fatal(err)
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", FreePort(tb)), fmt.Sprintf("http://127.0.0.1:%d", FreePort(tb))
	if s.Data == "" {
		s.Data = dir + "/data"
	}
	if s.Authority != nil {
		certificate, key := s.Authority.Issue(tb, "etcd")
		client = "https" + strings.TrimPrefix(client, "http")
		s.Args = append(s.Args, "--cert-file", certificate, "--key-file", key, "--client-cert-auth", "--trusted-ca-file", s.Authority.File)
	}
	alive := Start(tb, Daemon{
		Folder: dir, Path: path,
		Args: append([]string{
			"--data-dir", s.Data, "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
			"--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
		}, s.Args...),
		Ready: func(log []byte) bool { return bytes.Contains(log, []byte("ready to serve client requests")) },
	})
	tb.Cleanup(func() { _ = alive.Close() })
	return client
}
