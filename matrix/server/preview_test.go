package server_test

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"testing"
	"time"

	"orrery/matrix/media"
	"orrery/matrix/store"
	"orrery/matrix/table/pebbledb"
)

// TestPreview: a page is shown by what it says of itself; nothing private is reached unless the configuration says so.
func TestPreview(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		var picture bytes.Buffer
		if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 30, 20))); err != nil {
			t.Fatal(err)
		}
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			switch q.URL.Path {
			case "/page":
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				_, _ = fmt.Fprint(w, `<title>T</title><meta property="og:title" content="A page"><meta property="og:image" content="picture.png">`)
			case "/picture.png":
				w.Header().Set("Content-Type", "image/png")
				_, _ = w.Write(picture.Bytes())
			case "/text":
				_, _ = fmt.Fprint(w, "only text")
			default:
				http.NotFound(w, q)
			}
		}))
		defer web.Close()
		anne := s.register("anne")
		ask := func(page string) string { return "/_matrix/client/v1/media/preview_url?url=" + url.QueryEscape(page) }
		anne.refused(http.StatusNotFound, "M_UNRECOGNIZED", "GET", ask(web.URL+"/page"), nil)
		s.stop()
		s.config.Previews = true
		s.start()
		if s.config.Database == "memory" {
			anne = s.register("anne")
		}
		anne.refused(http.StatusBadGateway, "M_UNKNOWN", "GET", ask(web.URL+"/page"), nil)
		s.reach("127.0.0.1")
		if s.config.Database == "memory" {
			anne = s.register("anne")
		}
		got := anne.do("GET", ask(web.URL+"/page#part"), nil)
		uri, _ := got["og:image"].(string)
		if got["og:title"] != "A page" || got["og:image:type"] != "image/png" || got["og:image:width"] != 30.0 || got["og:image:height"] != 20.0 || got["matrix:image:size"] != float64(picture.Len()) {
			t.Error(got)
		}
		if status, content := anne.request(t.Context(), "GET", "/_matrix/client/v1/media/download/orrery.test/"+path.Base(uri), nil); status != http.StatusOK || !bytes.Equal(content, picture.Bytes()) {
			t.Errorf("%s: %d", uri, status)
		}
		if again := anne.do("GET", ask(web.URL+"/page"), nil); again["og:image"] != uri {
			t.Error(again)
		}
		if got := anne.do("GET", ask(web.URL+"/picture.png"), nil); got["og:image:width"] != 30.0 {
			t.Error(got)
		}
		if got := anne.do("GET", ask(web.URL+"/text"), nil); len(got) != 0 {
			t.Error(got)
		}
		anne.refused(http.StatusBadGateway, "M_UNKNOWN", "GET", ask(web.URL+"/nothing"), nil)
		for _, page := range []string{"", "ftp://example.org", "file:///etc/passwd", "http://a:b@example.org", "http://"} {
			anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "GET", ask(page), nil)
		}
	})
}

// TestSweep: what is too old is removed, with its content unless others have the same; what is quarantined is shown to nobody.
func TestSweep(t *testing.T) {
	db, err := pebbledb.Open(pebbledb.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := store.Open(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(-time.Hour)
	m, err := media.Open(media.Config{DB: db, Folder: t.TempDir(), MaxSize: 1000, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	put := func(content string) store.Media {
		t.Helper()
		row, err := m.Upload(t.Context(), "@a:x", "text/plain", "", bytes.NewReader([]byte(content)))
		if err != nil {
			t.Fatal(err)
		}
		return row
	}
	old, shared := put("old"), put("shared")
	now = time.Now()
	same := put("shared")
	if n, err := m.Sweep(t.Context(), now.Add(-time.Minute)); n != 2 || err != nil {
		t.Error(n, err)
	}
	for _, row := range []store.Media{old, shared} {
		if _, err := m.Find(t.Context(), row.ID); err == nil {
			t.Errorf("%s is there", row.ID)
		}
	}
	if _, err := m.Content(old); err == nil {
		t.Error("its content is there")
	}
	f, err := m.Content(same)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	for _, hidden := range []bool{true, false} {
		if err := m.Quarantine(t.Context(), same.ID, hidden); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Find(t.Context(), same.ID); (err != nil) != hidden {
			t.Error(err)
		}
	}
}
