package server_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/matrix/server"
)

const transportsPath = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"

// TestTransports: clients are told by which servers they hold calls, in the order of the configuration (MSC4143), and older ones with where the server is.
func TestTransports(t *testing.T) {
	s := newWebSite(t, "rtc_transports: []", `rtc_transports: [{type: livekit, livekit_service_url: "https://rtc.example.org"}, {type: org.example.mesh, depth: {most: 3}}]`)
	anne := s.register("anne")
	const want = "[map[livekit_service_url:https://rtc.example.org type:livekit] map[depth:map[most:3] type:org.example.mesh]]"
	if got := anne.do("GET", transportsPath, nil)["rtc_transports"]; fmt.Sprint(got) != want {
		t.Error(got)
	}
	if got := anne.do("GET", "/.well-known/matrix/client", nil)["org.matrix.msc4143.rtc_foci"]; fmt.Sprint(got) != want {
		t.Error(got)
	}
	if f, _ := anne.do("GET", "/_matrix/client/versions", nil)["unstable_features"].(object); f["org.matrix.msc4143"] != true {
		t.Error(f)
	}
	(&client{site: s}).refused(http.StatusUnauthorized, "M_MISSING_TOKEN", "GET", transportsPath, nil)

	none := newWebSite(t)
	bob := none.register("bob")
	bob.refused(http.StatusNotFound, "M_UNRECOGNIZED", "GET", transportsPath, nil)
	if got := bob.do("GET", "/.well-known/matrix/client", nil); len(got) != 1 {
		t.Error(got)
	}
	if f, _ := bob.do("GET", "/_matrix/client/versions", nil)["unstable_features"].(object); f["org.matrix.msc4143"] != nil {
		t.Error(f)
	}
}

// TestWrongTransports: what clients could not use is refused before the server serves.
func TestWrongTransports(t *testing.T) {
	path, err := server.Init("orrery.test", filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for wrong, why := range map[string]string{
		"[{livekit_service_url: https://x.example}]": "has a type",
		"[{type: 5}]":       "has a type",
		"[{type: livekit}]": "livekit_service_url",
		"[{type: livekit, livekit_service_url: rtc.example.org}]":           "livekit_service_url",
		"[{type: org.example, bound: .inf}]":                                "rtc_transports",
		"[livekit]":                                                         "homeserver.yaml",
		"{type: livekit, livekit_service_url: \"https://rtc.example.org\"}": "homeserver.yaml",
	} {
		if err := os.WriteFile(path, []byte(strings.Replace(string(text), "rtc_transports: []", "rtc_transports: "+wrong, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := server.ReadConfig(path); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
