package api

import (
	"bytes"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// minCompressed is how large an answer must be to be worth compressing.
const minCompressed = 1024

var compressors = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return w
}}

// compressed is an answer's body as its client takes it: in gzip, if it says so and that makes it smaller.
func compressed(h http.Header, r *http.Request, body []byte) []byte {
	h.Add("Vary", "Accept-Encoding")
	if len(body) < minCompressed || !takesGzip(r.Header.Get("Accept-Encoding")) {
		return body
	}
	var out bytes.Buffer
	w, _ := compressors.Get().(*gzip.Writer)
	defer compressors.Put(w)
	w.Reset(&out)
	if _, err := w.Write(body); err != nil || w.Close() != nil || out.Len() >= len(body) {
		return body
	}
	h.Set("Content-Encoding", "gzip")
	return out.Bytes()
}

// takesGzip reads a header Accept-Encoding (RFC 9110, 12.5.3).
func takesGzip(accept string) bool {
	takes := false
	for one := range strings.SplitSeq(accept, ",") {
		name, q, _ := strings.Cut(strings.ReplaceAll(one, " ", ""), ";")
		ok := q == "" || strings.HasPrefix(q, "q=") && strings.Trim(q[2:], "0.") != ""
		if strings.EqualFold(name, "gzip") {
			return ok
		}
		takes = takes || name == "*" && ok
	}
	return takes
}
