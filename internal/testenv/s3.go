package testenv

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// S3Server is object storage with the S3 protocol: gofakes3 behind a check of signatures, from the module s3server beside
// this file. It has one bucket.
type S3Server struct {
	Address string // host:port
	Bucket  string
	Key     string
	Secret  string

	alive io.Closer // kept, because the server ends when this is closed
}

// URL is the address of a prefix of its bucket. Host is the server's address, or that of something in front of it.
func (s *S3Server) URL(host, prefix string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=http://%s", s.Bucket, prefix, host)
}

var sharedS3 struct {
	once   sync.Once
	server *S3Server
	err    error
}

// S3 returns the server of this test binary, started by the first test that asks.
func S3(tb testing.TB) *S3Server {
	tb.Helper()
	port := FreePort(tb)
	sharedS3.once.Do(func() { sharedS3.server, sharedS3.err = startS3(port) })
	if sharedS3.err != nil {
		Missing(tb, fmt.Sprintf("the S3 server of internal/testenv/s3server (%v)", sharedS3.err), "go mod download -C internal/testenv/s3server")
	}
	return sharedS3.server
}

func startS3(port int) (*S3Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) //nolint:forbidigo // shared by all tests, so that no test's context fits
	defer cancel()
	dir, err := os.MkdirTemp("", "orrery-s3-")
	if err != nil {
		return nil, err
	}
	_, here, _, _ := runtime.Caller(0)
	program := filepath.Join(dir, "s3server")
	build := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(filepath.Dir(here), "s3server"), "-o", program, ".")
	build.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot build it: %w: %s", err, out)
	}
	s := &S3Server{Address: fmt.Sprintf("127.0.0.1:%d", port), Bucket: "snapshots", Key: "testing", Secret: "sesame's \"secret\""}
	s.alive, err = daemon(ctx, Daemon{
		Folder: dir, Path: program, Args: []string{"-listen", s.Address, "-bucket", s.Bucket},
		Env:   []string{"S3_KEY=" + s.Key, "S3_SECRET=" + s.Secret},
		Ready: func(log []byte) bool { return bytes.Contains(log, []byte("serving on")) },
	})
	return s, err
}
