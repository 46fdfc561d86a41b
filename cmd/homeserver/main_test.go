package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"orrery/internal/testenv"
	"orrery/internal/testenv/script"
)

// The scripts in testdata run the command line as a process of its own: homeserver is the real main.
func TestMain(m *testing.M) {
	if os.Getenv(asHomeserver) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"homeserver": main})
}

func TestScripts(t *testing.T) {
	testenv.Need(t, "curl", "apt-get install curl")
	authority := testenv.NewAuthority(t)
	cert, key := authority.Issue(t, "hs1")
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { // an application service that knows one token
		if q.Header.Get("Authorization") != "Bearer hs" {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = w.Write([]byte("{}"))
	}))
	t.Cleanup(service.Close)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("CA", authority.File)
			env.Setenv("CERT", cert)
			env.Setenv("KEY", key)
			env.Setenv("SERVICE", service.URL)
			env.Setenv("CLIENTS", net.JoinHostPort("127.0.0.1", strconv.Itoa(testenv.FreePort(t))))
			env.Setenv("SERVERS", net.JoinHostPort("127.0.0.1", strconv.Itoa(testenv.FreePort(t))))
			return nil
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": script.Exits, "await": script.Await},
	})
}
