// Command s3server serves the S3 protocol on loopback, for tests: github.com/johannesboyne/gofakes3, which keeps
// objects in memory and knows multipart uploads and conditional writes, behind a check of each request's signature.
package main

import (
	"crypto/subtle"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	bucket := flag.String("bucket", "", "the bucket that there is")
	flag.Parse()
	if err := serve(*listen, *bucket); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(listen, bucket string) error {
	backend := s3mem.New()
	if err := backend.CreateBucket(bucket); err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	fmt.Println("serving on", l.Addr())
	signed := signatures{id: os.Getenv("S3_KEY"), secret: os.Getenv("S3_SECRET"), next: gofakes3.New(backend).Server()}
	server := http.Server{Handler: signed, ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(l)
}

// signatures lets requests pass that are signed with a key, as Signature Version 4 has it.
type signatures struct {
	id, secret string
	next       http.Handler
}

func (s signatures) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if code := s.wrong(r); code != "" {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>refused</Message></Error>", code)
		return
	}
	s.next.ServeHTTP(w, r)
}

// wrong says what is wrong with a request's signature, by signing the same anew.
func (s signatures) wrong(r *http.Request) string {
	given := map[string]string{}
	for field := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		given[name] = value
	}
	scope := strings.Split(given["Credential"], "/")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || len(scope) != 5 || scope[0] != s.id {
		return "InvalidAccessKeyId"
	}
	again := r.Clone(r.Context())
	again.Header = http.Header{}
	again.URL.Scheme, again.URL.Host = "http", r.Host
	again.ContentLength = 0
	for name := range strings.SplitSeq(given["SignedHeaders"], ";") {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = r.ContentLength
		default:
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	err = v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).SignHTTP(r.Context(),
		aws.Credentials{AccessKeyID: s.id, SecretAccessKey: s.secret}, again, r.Header.Get("X-Amz-Content-Sha256"), scope[3], scope[2], at)
	_, signature, _ := strings.Cut(again.Header.Get("Authorization"), "Signature=")
	if err != nil || subtle.ConstantTimeCompare([]byte(signature), []byte(given["Signature"])) != 1 {
		return "SignatureDoesNotMatch"
	}
	return ""
}
