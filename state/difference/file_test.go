package difference

import (
	"os"
	"path/filepath"
	"testing"
)

func newFile(tb testing.TB) (Scratch, error) {
	tb.Helper()
	return os.Create(filepath.Join(tb.TempDir(), "scratch"))
}
