package manifest

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The example of the repository means the same in CUE and in YAML.
func TestObservatoryInBothLanguages(t *testing.T) {
	example := os.DirFS("../../examples/observatory")
	files := map[string]string{"bin/catalog": "1", "bin/notes": "2", "bin/sky": "3"}
	for _, pattern := range []string{"*.cue", "*.yaml", "*/*.sql"} {
		names, err := fs.Glob(example, pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("the example has no %s: %v", pattern, err)
		}
		for _, name := range names {
			content, err := fs.ReadFile(example, name)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(content)
		}
	}
	dir := write(t, files)
	fromCUE, err := Load(filepath.Join(dir, "observatory.cue"))
	if err != nil {
		t.Fatal(err)
	}
	fromYAML, err := Load(filepath.Join(dir, "observatory.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromCUE, fromYAML); diff != "" {
		t.Errorf("observatory.cue and observatory.yaml differ:\n%s", diff)
	}
	if len(fromCUE.Services) != 3 || fromCUE.Distribution["notes"] != "two" {
		t.Errorf("the observatory is %+v", fromCUE)
	}
}
