package remote

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"orrery/matrix/appservice"
)

// asked makes a client and a service that answers by a function.
func asked(t *testing.T, answer http.HandlerFunc) (*Client, *appservice.Service) {
	t.Helper()
	server := httptest.NewServer(answer)
	c := New(time.Now)
	t.Cleanup(func() {
		c.Close()
		server.Close()
	})
	return c, &appservice.Service{Registration: appservice.Registration{ID: "irc", URL: server.URL, ServerToken: "secret-of-the-server"}}
}

// TestTimeouts: a service that does not answer in time, or not to its end, is an error that says so and has no token in it.
func TestTimeouts(t *testing.T) {
	for name, begins := range map[string]func(http.ResponseWriter){
		"no answer": func(http.ResponseWriter) {},
		"an answer without end": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"a":`)
			_ = http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			end := make(chan struct{})
			c, s := asked(t, func(w http.ResponseWriter, q *http.Request) {
				begins(w)
				select {
				case <-end:
				case <-q.Context().Done():
				}
			})
			t.Cleanup(func() { close(end) })
			c.transactionTimeout, c.queryTimeout = 50*time.Millisecond, 50*time.Millisecond
			_, known := c.HasUser(t.Context(), s, "@irc_x:orrery.test")
			_, ping := c.Ping(t.Context(), s, "")
			_, party := c.ThirdParty(t.Context(), s, "protocol/irc", nil)
			for what, err := range map[string]error{"transaction": c.Transaction(t.Context(), s, "1", []byte("{}")), "user": known, "ping": ping, "third party": party} {
				if !errors.Is(err, ErrTimeout) || strings.Contains(err.Error(), "secret-of-the-server") {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// TestAnswers: which answers count, and what is said of those that do not.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   string // of the error; "": none
	}{
		{200, "{}", ""},
		{200, "", ""},
		{204, "", ""},
		{200, " {\"x\": 1}\n", ""},
		{200, "<html>", "no JSON object"},
		{200, "[]", "no JSON object"},
		{200, "{", "no JSON object"},
		{302, "", "status 302"},
		{401, "{}", "status 401"},
		{404, "{}", "status 404"},
		{500, "oh", "status 500"},
	} {
		client, s := asked(t, func(w http.ResponseWriter, q *http.Request) {
			if q.Header.Get("Authorization") != "Bearer secret-of-the-server" {
				t.Error(q.Header)
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		err := client.Transaction(t.Context(), s, "1", []byte("{}"))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d %q: %v", c.status, c.body, err)
		}
	}
	gone, s := asked(t, func(http.ResponseWriter, *http.Request) {})
	s.URL = "http://127.0.0.1:1"
	if err := gone.Transaction(t.Context(), s, "1", []byte("{}")); !errors.Is(err, ErrConnection) || strings.Contains(err.Error(), "secret-of-the-server") {
		t.Error(err)
	}
}
