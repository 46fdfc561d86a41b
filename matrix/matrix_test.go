package matrix_test

import (
	"errors"
	"strings"
	"testing"

	"orrery/matrix"
)

func TestServerNames(t *testing.T) {
	for _, good := range []string{"matrix.org", "matrix.org:8888", "1.2.3.4", "1.2.3.4:1234", "[1234:5678::abcd]", "[1234:5678::abcd]:5678", "localhost", "MATRIX.org"} {
		if err := matrix.ValidServer(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ":80", "a b", "a_b", "a:", "a:123456", "a:8o", "[::1", "[::1]x", "[1.2.3.4]", "[fe80::1%eth0]", "a:1:2", "é"} {
		if err := matrix.ValidServer(bad); !errors.Is(err, matrix.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestUsers(t *testing.T) {
	for _, good := range []string{"@u:a", "@:a", "@Ünï codé:a:80", "@a/b=c:[::1]"} {
		if err := matrix.ValidUser(good); err != nil {
			t.Error(err)
		}
	}
	for bad, kind := range map[string]error{
		"": matrix.ErrMalformed, "u:a": matrix.ErrMalformed, "@u": matrix.ErrMalformed, "@u:": matrix.ErrMalformed, "@u\x00:a": matrix.ErrMalformed,
		"@\xff:a": matrix.ErrMalformed, "@" + strings.Repeat("u", 252) + ":abc": matrix.ErrTooLarge,
	} {
		if err := matrix.ValidUser(bad); !errors.Is(err, kind) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestVersions(t *testing.T) {
	v, err := matrix.FindVersion(matrix.DefaultVersion)
	if err != nil || !v.CreateIsRoom || v.Resolution != matrix.ResolutionV21 || v.CreatorField || !v.Restricted {
		t.Errorf("%+v: %v", v, err)
	}
	for _, bad := range []string{"", "0", "13", "01", "org.example.1"} {
		if _, err := matrix.FindVersion(bad); !errors.Is(err, matrix.ErrVersion) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzIdentifiers(f *testing.F) {
	f.Add("@u:[::1]:80")
	f.Fuzz(func(t *testing.T, s string) {
		if matrix.ValidUser(s) == nil && matrix.ValidServer(matrix.Domain(s)) != nil {
			t.Errorf("the server of %q", s)
		}
	})
}
