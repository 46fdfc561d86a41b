package manifest

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write puts files into a folder, by name.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const goodCUE = `package observatory

_process: {module: "process", ready: string | *"http:/healthz"}
name: "observatory"
nodes: ["one", "two", "three"]
services: {
	notes: {
		components: [
			{name: "notes-db", module: "sqlite-database", files: {schema: "notes/schema.sql"}, properties: {schema: "${file.schema}"}},
			{name: "notes", module: "process", files: {program: "bin/notes"}, properties: {
				command: ["${file.program}"]
				environment: {DATABASE: "${component.notes-db.path}", ADDRESS: "${self.address}"}
				ready: _process.ready
			}},
		]
		endpoint: "notes"
	}
	sky: {
		dependsOn: ["notes"]
		public: {node: "one", address: "127.0.0.1:0"}
		components: [{name: "sky", module: "process", files: {program: "bin/sky"}, properties: {command: ["${file.program}"], environment: NOTES: "${service.notes.url}", grace: 3}}]
		endpoint: "sky"
	}
}
distribution: {notes: "two", sky: "one"}
`

const goodYAML = `name: observatory
nodes: [one, two, three]
services:
  notes:
    components:
      - name: notes-db
        module: sqlite-database
        files: {schema: notes/schema.sql}
        properties: {schema: "${file.schema}"}
      - name: notes
        module: process
        files: {program: bin/notes}
        properties:
          command: ["${file.program}"]
          environment: {DATABASE: "${component.notes-db.path}", ADDRESS: "${self.address}"}
          ready: http:/healthz
    endpoint: notes
  sky:
    dependsOn: [notes]
    public: {node: one, address: "127.0.0.1:0"}
    components:
      - {name: sky, module: process, files: {program: bin/sky}, properties: {command: ["${file.program}"], environment: {NOTES: "${service.notes.url}"}, grace: 3}}
    endpoint: sky
distribution: {notes: two, sky: one}
`

var programs = map[string]string{"notes/schema.sql": "create table n(x)", "bin/notes": "#!notes", "bin/sky": "#!sky"}

func TestSameInAllLanguages(t *testing.T) {
	files := map[string]string{"m.cue": goodCUE, "m.yaml": goodYAML}
	maps.Copy(files, programs)
	dir := write(t, files)
	fromCUE, err := Load(filepath.Join(dir, "m.cue"))
	if err != nil {
		t.Fatal(err)
	}
	fromYAML, err := Load(filepath.Join(dir, "m.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromCUE, fromYAML); diff != "" {
		t.Errorf("CUE and YAML differ:\n%s", diff)
	}
	if n := len(fromCUE.Artifacts); n != 3 {
		t.Errorf("%d artifacts, want 3", n)
	}
	if fromCUE.Services[0].Components[0].Container != "sqlite-database" {
		t.Errorf("container is %q", fromCUE.Services[0].Components[0].Container)
	}
	for hash, path := range fromCUE.Artifacts {
		if !filepath.IsAbs(path) || len(hash) != 64 {
			t.Errorf("artifact %s: %s", hash, path)
		}
	}
	// The JSON that YAML means.
	asJSON := yamlToJSON(t, goodYAML)
	if err := os.WriteFile(filepath.Join(dir, "m.json"), asJSON, 0o644); err != nil {
		t.Fatal(err)
	}
	fromJSON, err := Load(filepath.Join(dir, "m.json"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromYAML, fromJSON); diff != "" {
		t.Errorf("YAML and JSON differ:\n%s", diff)
	}
}

func TestLocalPackage(t *testing.T) {
	dir := write(t, map[string]string{
		"cue.mod/module.cue": "module: \"example.org/m\"\nlanguage: version: \"v0.16.0\"\n",
		"lib/lib.cue":        "package lib\n#Web: {module: \"process\", name: string}\n",
		"m.cue": `package m
import "example.org/m/lib"
name: "m"
nodes: ["one"]
services: web: {components: [lib.#Web & {name: "web"}], endpoint: "web"}
distribution: web: "one"
`,
	})
	m, err := Load(filepath.Join(dir, "m.cue"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Services[0].Components[0].Module != "process" {
		t.Errorf("got %+v", m.Services)
	}
}

func TestNoRegistry(t *testing.T) {
	dir := write(t, map[string]string{
		"cue.mod/module.cue": "module: \"example.org/m\"\nlanguage: version: \"v0.16.0\"\ndeps: \"other.org/x@v0\": v: \"v0.1.0\"\n",
		"m.cue":              "package m\nimport \"other.org/x\"\nname: x.name\n",
	})
	_, err := Load(filepath.Join(dir, "m.cue"))
	if err == nil || !strings.Contains(err.Error(), "nothing is fetched") {
		t.Errorf("got %v", err)
	}
}

// message loads content and returns the problems without the folder's name.
func message(t *testing.T, name, content string, extra map[string]string) string {
	t.Helper()
	files := map[string]string{name: content}
	maps.Copy(files, programs)
	maps.Copy(files, extra)
	dir := write(t, files)
	_, err := Load(filepath.Join(dir, name))
	if err == nil {
		t.Fatal("no error")
	}
	if _, ok := IsProblems(err); !ok {
		t.Fatalf("not a list of problems: %v", err)
	}
	return strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")
}

func check(t *testing.T, got string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(strings.Join(want, "\n"), got); diff != "" {
		t.Errorf("problems (-want +got):\n%s\n%s", diff, got)
	}
}

func yamlToJSON(t *testing.T, source string) []byte {
	t.Helper()
	var v any
	if err := yamlUnmarshal([]byte(source), &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return out
}
