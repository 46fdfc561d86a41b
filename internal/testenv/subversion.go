package testenv

import "testing"

// Subversion returns the path of svn, beside which svnadmin and svnlook are.
func Subversion(tb testing.TB) string {
	tb.Helper()
	return Need(tb, "svn", "apt-get install subversion")
}
