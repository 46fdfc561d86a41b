package server_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// raw makes a request with a body that is not JSON, and is its answer.
func (c *client) raw(method, path, kind string, body []byte) (int, http.Header, []byte) {
	c.t.Helper()
	q, err := http.NewRequestWithContext(c.t.Context(), method, c.http.URL+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	q.Header.Set("Content-Type", kind)
	q.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, text
}

func (c *client) upload(kind, name string, body []byte) string {
	c.t.Helper()
	status, _, text := c.raw("POST", "/_matrix/media/v3/upload?filename="+name, kind, body)
	var out struct {
		URI string `json:"content_uri"`
	}
	if err := json.Unmarshal(text, &out); err != nil || status != http.StatusOK {
		c.t.Fatalf("%d %s", status, text)
	}
	return strings.TrimPrefix(out.URI, "mxc://")
}

func picture(t *testing.T, width, height int, asJPEG bool) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for x := range width {
		for y := range height {
			m.Set(x, y, color.RGBA{uint8(x), uint8(y), 100, 255})
		}
	}
	var b bytes.Buffer
	err := png.Encode(&b, m)
	if asJPEG {
		b.Reset()
		err = jpeg.Encode(&b, m, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestMedia(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		page := []byte("<script>alert(1)</script>")
		id := anne.upload("text/html", "page.html", page)
		status, h, got := bob.raw("GET", "/_matrix/client/v1/media/download/"+id, "", nil)
		if status != http.StatusOK || !bytes.Equal(got, page) || h.Get("Content-Disposition") != `attachment; filename=page.html` || !strings.HasPrefix(h.Get("Content-Security-Policy"), "sandbox") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%d %v %s", status, h, got)
		}
		if _, h, _ := bob.raw("GET", "/_matrix/client/v1/media/download/"+anne.upload("image/png", "", picture(t, 4, 4, false))+"/a%2F%22.png", "", nil); h.Get("Content-Disposition") != `inline; filename="a/\".png"` {
			t.Error(h.Get("Content-Disposition"))
		}
		nobody := &client{site: s}
		nobody.refused(http.StatusUnauthorized, "M_MISSING_TOKEN", "GET", "/_matrix/client/v1/media/download/"+id, nil)
		bob.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "/_matrix/client/v1/media/download/orrery.test/nothing", nil)
		bob.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "/_matrix/client/v1/media/download/other.test/"+id, nil)

		made := anne.do("POST", "/_matrix/media/v1/create", object{})
		uri, _ := made["content_uri"].(string)
		id = strings.TrimPrefix(uri, "mxc://")
		bob.refused(http.StatusGatewayTimeout, "M_NOT_YET_UPLOADED", "GET", "/_matrix/client/v1/media/download/"+id+"?timeout_ms=0", nil)
		bob.refused(http.StatusBadRequest, "M_INVALID_PARAM", "GET", "/_matrix/client/v1/media/download/"+id+"?timeout_ms=soon", nil)
		early := make(chan string, 1)
		go func() { // it may ask before the content is there
			defer close(early)
			_, _, got := bob.raw("GET", "/_matrix/client/v1/media/download/"+id+"?timeout_ms=60000", "", nil)
			early <- string(got)
		}()
		bob.refused(http.StatusNotFound, "M_NOT_FOUND", "PUT", "/_matrix/media/v3/upload/"+id, "x")
		if status, _, text := anne.raw("PUT", "/_matrix/media/v3/upload/"+id, "text/plain", []byte("late")); status != http.StatusOK {
			t.Errorf("%d %s", status, text)
		}
		anne.refused(http.StatusConflict, "M_CANNOT_OVERWRITE_MEDIA", "PUT", "/_matrix/media/v3/upload/"+id, "x")
		if _, _, got := bob.raw("GET", "/_matrix/client/v1/media/download/"+id, "", nil); string(got) != "late" {
			t.Errorf("%s", got)
		}
		if got := <-early; got != "late" {
			t.Errorf("who waited got %s", got)
		}
	})
}

func TestThumbnails(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	for _, asJPEG := range []bool{false, true} {
		id := anne.upload("image/whatever", "", picture(t, 900, 600, asJPEG))
		for query, want := range map[string][2]int{
			"width=20&height=20&method=crop": {32, 32}, "width=300&height=200": {320, 213}, "width=640&height=480&method=scale": {640, 426}, "width=5000&height=5000": {900, 600},
		} {
			for range 2 { // made, and kept
				status, h, got := anne.raw("GET", "/_matrix/client/v1/media/thumbnail/"+id+"?"+query, "", nil)
				m, kind, err := image.DecodeConfig(bytes.NewReader(got))
				if status != http.StatusOK || err != nil || [2]int{m.Width, m.Height} != want || h.Get("Content-Type") != "image/"+kind || (kind == "jpeg") != asJPEG {
					t.Errorf("%s: %d, %s %dx%d, %v", query, status, kind, m.Width, m.Height, err)
				}
			}
		}
	}
	anne.refused(http.StatusBadRequest, "M_UNKNOWN", "GET", "/_matrix/client/v1/media/thumbnail/"+anne.upload("image/png", "", []byte("no picture"))+"?width=9&height=9", nil)
	for _, edge := range []uint32{10_000, 60_000} {
		huge := picture(t, 1, 1, false) // says that it is so many pixels wide and high
		binary.BigEndian.PutUint32(huge[16:], edge)
		binary.BigEndian.PutUint32(huge[20:], edge)
		binary.BigEndian.PutUint32(huge[29:], crc32.ChecksumIEEE(huge[12:29]))
		anne.refused(http.StatusRequestEntityTooLarge, "M_TOO_LARGE", "GET", "/_matrix/client/v1/media/thumbnail/"+anne.upload("image/png", "", huge)+"?width=9&height=9", nil)
	}
	anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "GET", "/_matrix/client/v1/media/thumbnail/x/y?width=0&height=9", nil)
}

// TestLargeUploads: what is too large is refused, and nothing of it stays.
func TestLargeUploads(t *testing.T) {
	s := newSite(t, "memory")
	s.stop()
	s.config.MaxUpload = 1
	s.start()
	anne := s.register("anne")
	if c := anne.do("GET", "/_matrix/client/v1/media/config", nil); c["m.upload.size"] != float64(1<<20) {
		t.Error(c)
	}
	id := anne.upload("application/octet-stream", "", make([]byte, 1<<20))
	if _, _, got := anne.raw("GET", "/_matrix/client/v1/media/download/"+id, "", nil); len(got) != 1<<20 {
		t.Error(len(got))
	}
	if status, _, text := anne.raw("POST", "/_matrix/media/v3/upload", "x/y", make([]byte, 1<<20+1)); status != http.StatusRequestEntityTooLarge || !strings.Contains(string(text), "M_TOO_LARGE") {
		t.Errorf("%d %s", status, text)
	}
	left, err := filepath.Glob(filepath.Join(s.dir, "media", "incoming", "*"))
	if err != nil || len(left) != 0 {
		t.Error(left, err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "media", "content")); err != nil {
		t.Error(err)
	}
}
