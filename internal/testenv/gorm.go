package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// GORM returns the path of a program that works on a PostgreSQL database as programs with GORM do: the module gorm beside this file.
func GORM(tb testing.TB) string {
	tb.Helper()
	_, here, _, _ := runtime.Caller(0)
	program := filepath.Join(tb.TempDir(), "gorm")
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(filepath.Dir(here), "gorm"), "-o", program, ".")
	build.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		Missing(tb, fmt.Sprintf("the program of internal/testenv/gorm (%v: %s)", err, out), "go mod download -C internal/testenv/gorm")
	}
	return program
}
