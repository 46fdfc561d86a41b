package manifest

import (
	"path/filepath"
	"strings"
	"testing"

	yaml3 "gopkg.in/yaml.v3"

	"orrery/deploy"
)

func yamlUnmarshal(b []byte, into any) error { return yaml3.Unmarshal(b, into) }

func TestShapeProblems(t *testing.T) {
	got := message(t, "m.yaml", `name: 3
nodes: [one, two]
servces: {}
services:
  notes:
    componets: []
    components:
      - name: a
        modul: x
        properties: {a: 1, b: {c: [1]}}
      - name: 2
    public: {node: one}
    dependsOn: catalog
distribution: [a]
`, nil)
	check(t, got,
		`m.yaml:1:1: name: is a number, not a string`,
		`m.yaml:3:1: servces: unknown field (did you mean "services"?)`,
		`m.yaml:6:5: services.notes.componets: unknown field (did you mean "components"?)`,
		`m.yaml:8:9: services.notes.components[0]: field "module" is missing`,
		`m.yaml:9:9: services.notes.components[0].modul: unknown field (did you mean "module"?)`,
		`m.yaml:11:9: services.notes.components[1].name: is a number, not a string`,
		`m.yaml:11:9: services.notes.components[1]: field "module" is missing`,
		`m.yaml:12:5: services.notes.public: field "address" is missing`,
		`m.yaml:12:5: services.notes.public: service is public but has no endpoint (name the component that answers with endpoint)`,
		`m.yaml:13:5: services.notes.dependsOn: is a string, not a list`,
		`m.yaml:14:1: distribution: is a list, not a set of fields`,
	)
}

func TestMeaningProblems(t *testing.T) {
	got := message(t, "m.yaml", `name: observatory
nodes: [one, two]
services:
  catalog:
    dependsOn: [sky]
    components:
      - {name: db, module: sqlite-database, properties: {x: "${component.web.address} ${file.schma} ${service.notes.url} ${nothing} ${component.zz.path}"}, files: {schema: notes/schema.sql}}
      - {name: web, module: process, files: {program: bin/missing}}
    endpoint: wob
    public: {node: one, address: "127.0.0.1:80"}
  Notes:
    components: []
  sky:
    dependsOn: [catalog, ntes]
    components:
      - {name: db, module: "a b"}
    endpoint: db
    public: {node: one, address: "127.0.0.1:80"}
distribution: {catalog: tow, skyy: one, sky: two}
`, nil)
	check(t, got,
		`m.yaml:7:58: services.catalog.components[0].properties.x: ${component.web.address} refers to component "web", which comes later (move that component before this one)`,
		`m.yaml:7:58: services.catalog.components[0].properties.x: ${file.schma} refers to unknown file "schma" (did you mean "schema"?)`,
		`m.yaml:7:58: services.catalog.components[0].properties.x: ${service.notes.url} refers to service "notes", which is not in dependsOn (add "notes" to dependsOn)`,
		`m.yaml:7:58: services.catalog.components[0].properties.x: ${nothing} refers to something unknown (write ${self.port}, ${self.address}, ${file.NAME}, ${component.NAME.EXPORT} or ${service.NAME.url})`,
		`m.yaml:7:58: services.catalog.components[0].properties.x: ${component.zz.path} refers to unknown component "zz" (it must be an earlier component of the same service)`,
		`m.yaml:8:46: services.catalog.components[1].files.program: file bin/missing is missing (build it first, or correct the path, which is relative to the manifest)`,
		`m.yaml:9:5: services.catalog.endpoint: endpoint "wob" is not a component of the service (did you mean "web"?)`,
		`m.yaml:11:3: services.Notes: bad name "Notes" (a service is a DNS label: lower-case letters, digits and '-', at most 63)`,
		`m.yaml:11:3: services.Notes: service has no components (give it at least one)`,
		`m.yaml:11:3: services.Notes: no node is given for the service (add Notes: NODE to distribution)`,
		`m.yaml:14:17: services.sky.dependsOn[0]: dependency cycle: catalog -> sky -> catalog (remove one of these dependencies)`,
		`m.yaml:14:26: services.sky.dependsOn[1]: depends on unknown service "ntes" (did you mean "Notes"?)`,
		`m.yaml:16:10: services.sky.components[0].name: second component named "db", the first is at line 7 (services.catalog.components[0].name) (rename one of them)`,
		`m.yaml:16:20: services.sky.components[0].module: bad name "a b" (lower-case letters, digits, '-', '_' and '.', at most 63)`,
		`m.yaml:18:25: services.sky.public.address: 127.0.0.1:80 on node "one" is already the address of service "catalog" (choose another port)`,
		`m.yaml:19:16: distribution.catalog: unknown node "tow" (did you mean "two"?)`,
		`m.yaml:19:30: distribution.skyy: unknown service "skyy" (did you mean "sky"?)`,
	)
}

func TestSyntaxProblems(t *testing.T) {
	for _, c := range []struct{ name, content, want string }{
		{"open.cue", "a: 1\nb: {\n c: [1,\n", `open.cue:3:9: expected ']', found 'EOF'`},
		{"unknown.cue", "b: c\n", `unknown.cue:1:4: b: reference "c" not found`},
		{"conflict.cue", "name: \"a\"\nname: \"b\"\n", `conflict.cue:1:7: name: conflicting values "b" and "a"`},
		{"empty.cue", "", "empty.cue:1:1: field \"name\" is missing\nempty.cue:1:1: field \"nodes\" is missing\n" +
			"empty.cue:1:1: field \"services\" is missing\nempty.cue:1:1: field \"distribution\" is missing"},
		{"open.cue", "name: string\nnodes: []\nservices: {}\ndistribution: {}", `open.cue:1:1: name: has no value (give it one)`},
		{"open.yaml", "a: 1\nb: [\n", `open.yaml:2:1: syntax: did not find expected node content`},
		{"colons.yaml", "a: b: c\n", `colons.yaml:1:1: syntax: mapping values are not allowed in this context`},
		{"empty.yaml", "", `empty.yaml:1:1: is null, not a set of fields`},
		{"twice.yaml", "name: a\nname: b\n", `twice.yaml:2:1: name: defined twice, first at line 1 (rename or remove one of them)`},
		{"open.json", "{\"a\": 1,\n  \"b\" }", `open.json:2:7: syntax: invalid character '}' after object key`},
		{"list.json", "[1]", `list.json:1:1: is a list, not a set of fields`},
		{"twice.json", "{\"name\": \"a\",\n \"name\": \"b\"}", `twice.json:2:3: name: defined twice, first at line 1 (rename or remove one of them)`},
		{"manifest.toml", "", `manifest.toml:1:1: unknown kind of file ".toml" (name it .cue, .yaml, .yml or .json)`},
	} {
		check(t, message(t, c.name, c.content, nil), c.want)
	}
}

// TestLocate merges what the reader finds with what a cluster finds.
func TestLocate(t *testing.T) {
	dir := write(t, map[string]string{"m.yaml": `name: m
nodes: [one, seven]
services:
  web:
    components:
      - name: web
        module: weaver
        files: {program: bin/web}
        properties: {a: {b: [x, y]}}
    endpoint: web
distribution: {web: one}
`})
	path := filepath.Join(dir, "m.yaml")
	m, err := Load(path)
	local, ok := IsProblems(err)
	if !ok || len(m.Services) != 1 || m.Services[0].Components[0].Module != "weaver" {
		t.Fatalf("got %+v, %v", m, err)
	}
	all := Locate(path, append(local, deploy.Problems{
		{Path: "services.web.components[0].module", Message: "no such module"},
		{Path: "services.web.components[0].properties.a.b[1]", Message: "no such thing"},
		{Path: "services.web.components[0].properties.c", Message: "missing"},
		{Path: "nodes[1]", Message: "no such node"},
	}...))
	check(t, strings.ReplaceAll(all.Error(), dir+string(filepath.Separator), ""),
		`m.yaml:2:14: nodes[1]: no such node`,
		`m.yaml:7:9: services.web.components[0].module: no such module`,
		`m.yaml:8:17: services.web.components[0].files.program: file `+"bin/web"+` is missing (build it first, or correct the path, which is relative to the manifest)`,
		`m.yaml:9:9: services.web.components[0].properties.c: missing`,
		`m.yaml:9:33: services.web.components[0].properties.a.b[1]: no such thing`)
}

func FuzzRead(f *testing.F) {
	f.Add("m.cue", []byte(goodCUE))
	f.Add("m.yaml", []byte(goodYAML))
	f.Add("m.json", []byte(`{"name": "m", "nodes": [], "services": {"a": {"components": [{"name": "x", "properties": {"a": "${self.port}"}}]}}}`))
	f.Add("m.yaml", []byte("services: {1: {components: [null]}}\n"))
	f.Fuzz(func(t *testing.T, name string, source []byte) {
		switch name {
		case "m.cue", "m.yaml", "m.json":
		default:
			return
		}
		m, err := read(filepath.Join(t.TempDir(), name), source)
		if err != nil {
			if all, ok := IsProblems(err); ok {
				for _, p := range all {
					if p.Line < 1 || p.Column < 1 || p.Message == "" {
						t.Errorf("problem without a place: %#v", p)
					}
				}
			}
			return
		}
		if m.Name == "" {
			t.Error("a manifest without a name")
		}
	})
}
