package difference

import (
	"os"
	"path/filepath"
	"testing"

	"orrery/internal/extsort"
)

func newFile(tb testing.TB) (extsort.Scratch, error) {
	tb.Helper()
	return os.Create(filepath.Join(tb.TempDir(), "scratch"))
}
