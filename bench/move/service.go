package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"orrery/bench/internal/nodes"
	"orrery/deploy"
)

const serviceName = "notes"

// service is the observatory's notes with a database that filler makes large.
type service struct {
	cluster *nodes.Cluster
	dir     string
	notes   string // the binary
	address string // where the router answers
	out     io.Writer
}

// schema is that of the notes, and rows of random bytes for as many MB as it is given.
const schema = `
CREATE TABLE notes (
  id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL, author TEXT NOT NULL,
  text TEXT NOT NULL, created TEXT NOT NULL, key TEXT UNIQUE
) STRICT;
CREATE INDEX notes_by_body ON notes (body, id);
CREATE TABLE filler (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d)
INSERT INTO filler SELECT i, randomblob(8000) FROM n;
`

// rowsPerMB is how many rows of the filler, each on two pages, make a million bytes.
const rowsPerMB = 122

// deploy makes the database on node two and starts the service there.
func (s *service) deploy(ctx context.Context, size int) error {
	script := fmt.Sprintf(schema, size*rowsPerMB)
	if err := os.WriteFile(filepath.Join(s.dir, "schema.sql"), []byte(script), 0o600); err != nil {
		return err
	}
	if _, _, err := s.move(ctx, "two", false); err != nil {
		return err
	}
	var services []struct{ Service, Public string }
	if err := s.cluster.Ask(ctx, s.cluster.Nodes[0], &services, "deploy", "status"); err != nil {
		return err
	}
	for _, found := range services {
		if found.Service == serviceName {
			s.address = found.Public
		}
	}
	if s.address == "" {
		return errors.New("the service has no public address")
	}
	return nil
}

// manifest is what should run, with the service on a node.
func (s *service) manifest(node string) map[string]any {
	database := map[string]any{
		"name": "notes-db", "module": "sqlite-database",
		"files": map[string]string{"schema": "schema.sql"}, "properties": map[string]string{"schema": "${file.schema}"},
	}
	process := map[string]any{
		"name": "notes", "module": "process", "files": map[string]string{"program": s.notes},
		"properties": map[string]any{
			"command":     []string{"${file.program}"},
			"environment": map[string]string{"DATABASE": "${component.notes-db.path}", "ADDRESS": "${self.address}"},
			"ready":       "http:/healthz",
		},
	}
	return map[string]any{
		"name": "bench", "nodes": []string{"one", "two", "three"}, "distribution": map[string]string{serviceName: node},
		"services": map[string]any{serviceName: map[string]any{
			"components": []any{database, process}, "endpoint": "notes",
			"public": map[string]string{"node": "one", "address": "127.0.0.1:0"},
		}},
	}
}

// move applies the manifest with the service on a node. With steps it prints what was done, and
// the outcome is empty, for the command line has either the one or the other.
func (s *service) move(ctx context.Context, to string, steps bool) (outcome deploy.Outcome, took time.Duration, err error) {
	text, err := json.Marshal(s.manifest(to))
	if err != nil {
		return outcome, 0, err
	}
	path := filepath.Join(s.dir, "manifest.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return outcome, 0, err
	}
	began := time.Now()
	if steps {
		err = s.show(ctx, path)
		return outcome, time.Since(began), err
	}
	err = s.cluster.Ask(ctx, s.cluster.Nodes[0], &outcome, "deploy", "apply", path)
	return outcome, time.Since(began), err
}

// show applies a manifest and prints each action with its duration.
func (s *service) show(ctx context.Context, path string) error {
	cmd := s.cluster.Command(ctx, s.cluster.Nodes[0], "deploy", "apply", path)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return nil
}
