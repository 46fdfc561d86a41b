package server_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// missing are the requests of the client-server API (v1.19) that are not served always; docs/matrix.md says why.
var missing = strings.Split(strings.TrimSpace(`
GET /_matrix/client/v3/login/sso/redirect
GET /_matrix/client/v3/login/sso/redirect/{}
GET /.well-known/matrix/policy_server
`), "\n")

// TestEndpoints: all requests of the client-server API are served, but for those that are known to be missing; docs/matrix.md lists them.
func TestEndpoints(t *testing.T) {
	text, err := os.ReadFile("testdata/endpoints.txt")
	if err != nil {
		t.Fatal(err)
	}
	routes, ok := newSite(t, "memory").server.Handler().(interface{ Routes() []string })
	if !ok {
		t.Fatal("the API does not say what it serves")
	}
	part := regexp.MustCompile(`\{[^}]*\}`)
	served := map[string]bool{}
	for _, r := range routes.Routes() {
		r = part.ReplaceAllString(strings.TrimSuffix(r, "{$}"), "{}")
		for _, version := range []string{"v3", "v1"} { // relative routes are served as both
			served[strings.Replace(r, "/client/v3/", "/client/"+version+"/", 1)] = true
		}
	}
	docs, err := os.ReadFile("../../docs/matrix.md")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, one := range all {
		known := slices.Contains(missing, one)
		switch {
		case served[one]: // some of the others are, too, by configuration
		case !known:
			t.Errorf("%s is not served", one)
		case !strings.Contains(string(docs), "| `"+one+"` |"):
			t.Errorf("docs/matrix.md does not say that %s is missing", one)
		}
	}
	for _, one := range missing {
		if !slices.Contains(all, one) {
			t.Errorf("%s is not in the specification", one)
		}
	}
}
