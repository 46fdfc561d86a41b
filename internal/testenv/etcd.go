package testenv

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

// Etcd starts an etcd server for one test and returns its URL.
func Etcd(tb testing.TB) string {
	tb.Helper()
	path := Need(tb, "etcd", "apt-get install etcd-server")
	dir, err := os.MkdirTemp(fastFolder(), "orrery-etcd-") //nolint:usetesting // the server removes it when it has ended
	if err != nil {
		tb.Fatal(err)
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", FreePort(tb)), fmt.Sprintf("http://127.0.0.1:%d", FreePort(tb))
	alive := Start(tb, Daemon{
		Folder: dir, Path: path,
		Args: []string{
			"--data-dir", dir + "/data", "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
			"--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
		},
		Ready: func(log []byte) bool { return bytes.Contains(log, []byte("ready to serve client requests")) },
	})
	tb.Cleanup(func() { _ = alive.Close() })
	return client
}
