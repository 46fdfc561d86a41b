package outside_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orrery/matrix/outside"
)

// TestExplain: what is probably wrong with an address is said, with what to do.
func TestExplain(t *testing.T) {
	plain, encrypted := httptest.NewServer(http.NotFoundHandler()), httptest.NewTLSServer(http.NotFoundHandler())
	defer plain.Close()
	defer encrypted.Close()
	for address, want := range map[string]string{
		strings.Replace(plain.URL, "http:", "https:", 1): "it speaks HTTP without TLS there",
		encrypted.URL:        "nobody signed its certificate whom this machine trusts",
		"http://127.0.0.1:1": "nothing listens there",
	} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(q)
		if err == nil {
			_ = resp.Body.Close()
			t.Fatal(address, resp.Status)
		}
		if err := outside.Explain(err); !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if outside.Explain(nil) != nil {
		t.Error("no error is one")
	}
}
