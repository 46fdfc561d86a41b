package testenv

import "testing"

// Git returns the path of git.
func Git(tb testing.TB) string {
	tb.Helper()
	return Need(tb, "git", "apt-get install git")
}
