package postgresql

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"orrery/internal/command"
	"orrery/state"
)

// tools are the client programs that fit the server.
type tools struct {
	pgDump string
	psql   string
}

var toolVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// tools finds pg_dump and psql of the server's major version, or else of the nearest newer one.
func (d *database) tools(ctx context.Context) (tools, error) {
	best, bestMajor := "", 0
	for _, folder := range d.toolFolders() {
		major := toolMajor(ctx, filepath.Join(folder, "pg_dump"))
		if major >= d.major && (best == "" || major < bestMajor) && executable(filepath.Join(folder, "psql")) {
			best, bestMajor = folder, major
		}
		if bestMajor == d.major {
			break // none fits better, and asking each takes time
		}
	}
	if best == "" {
		return tools{}, fmt.Errorf("pg_dump and psql of PostgreSQL %d or newer: %w (apt-get install postgresql-client-%d, or set the container's tools)",
			d.major, state.ErrNotFound, d.major)
	}
	found := tools{pgDump: filepath.Join(best, "pg_dump"), psql: filepath.Join(best, "psql")}
	return found, checkRestricts(ctx, found.pgDump)
}

func (d *database) toolFolders() []string {
	if d.server.Tools != "" {
		return []string{d.server.Tools}
	}
	var folders []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		matches, err := filepath.Glob(pattern)
		if err == nil { // the patterns are well-formed
			folders = append(folders, matches...)
		}
	}
	for _, folder := range filepath.SplitList(os.Getenv("PATH")) {
		if filepath.IsAbs(folder) && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	return folders
}

func executable(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}

// toolMajor asks a program for its major version; 0 if it is not there or says none.
func toolMajor(ctx context.Context, path string) int {
	if !executable(path) {
		return 0
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return 0
	}
	match := toolVersion.FindSubmatch(out)
	if match == nil {
		return 0
	}
	major, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return 0
	}
	return major
}

// checkRestricts refuses tools from before psql had \restrict: with them, a snapshot that somebody tampered with
// could run programs on this machine.
func checkRestricts(ctx context.Context, pgDump string) error {
	help, err := exec.CommandContext(ctx, pgDump, "--help").Output()
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", pgDump, err)
	}
	if !bytes.Contains(help, []byte("--restrict-key")) {
		return fmt.Errorf("%s is too old to restore safely: %w do it before the minor releases of August 2025 (upgrade it)", pgDump, state.ErrNotAble)
	}
	return nil
}

// run carries out a tool on a database of the server. A role, if given, is what it acts as.
func (d *database) run(ctx context.Context, name, role string, in io.Reader, out io.Writer, program string, args ...string) error {
	return command.Program{
		Path: program, Args: args, Env: d.toolEnvironment(name, role), In: in, Out: out, Secrets: []string{d.secret},
	}.Run(ctx)
}

// toolEnvironment says by variables, which other users of the machine cannot see, what a tool connects to. What
// would change the text of values is fixed.
func (d *database) toolEnvironment(name, role string) []string {
	options := "-c bytea_output=hex -c lc_monetary=C -c client_min_messages=warning"
	if role != "" {
		options += " -c role=" + strings.NewReplacer(`\`, `\\`, " ", `\ `, "\t", "\\\t", "\n", "\\\n").Replace(role)
	}
	env := []string{
		"PGTZ=UTC", "PGCLIENTENCODING=UTF8", "PGPASSFILE=/dev/null",
		"PGHOST=" + d.server.Host, "PGPORT=" + strconv.Itoa(d.server.Port), "PGUSER=" + d.server.User,
		"PGDATABASE=" + name, "PGSSLMODE=" + d.server.SSLMode, "PGAPPNAME=orrery", "PGOPTIONS=" + options,
		"PGCONNECT_TIMEOUT=" + strconv.Itoa(int(connectTimeout.Seconds())),
	}
	if d.secret != "" {
		env = append(env, "PGPASSWORD="+d.secret)
	}
	return env
}
