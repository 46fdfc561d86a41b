// Package bucket reaches object storage for snapshot stores, through gocloud.dev/blob.
//
// A bucket is named by a URL: s3://NAME/PREFIX (any service with S3's protocol, by endpoint=URL), gs://NAME/PREFIX,
// azblob://CONTAINER/PREFIX. Credentials come from where the services' own tools have them: the environment and
// files. What is asked of a service is that everybody sees at once what was written, and that an object can be written
// only where there is none; all three promise that.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"orrery/state"
	"orrery/state/store"
)

// Schemes are the beginnings of the URLs that Open knows.
var Schemes = []string{"s3", "gs", "azblob"}

// How an upload is cut: that much of it is in memory.
const (
	partSize = 8 << 20
	parts    = 2
)

// Bucket is a prefix of a bucket.
type Bucket struct {
	blobs *blob.Bucket
	name  string
}

var _ store.Bucket = (*Bucket)(nil)

// Open reaches a bucket. It asks nothing of the service yet.
func Open(ctx context.Context, address string) (*Bucket, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("address of a bucket: %w: %w", state.ErrBadProperty, err)
	}
	name := u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/")
	if !slices.Contains(Schemes, u.Scheme) || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("address of a bucket: %w: it is not like s3://bucket/prefix, gs://bucket/prefix or "+
			"azblob://container/prefix, without a user", state.ErrBadProperty)
	}
	prefix := strings.Trim(u.Path, "/")
	u.Path = ""
	if u.Scheme == "s3" {
		u.RawQuery = query(u.Query()).Encode()
	}
	if !blob.DefaultURLMux().ValidBucketScheme(u.Scheme) {
		return nil, fmt.Errorf("cannot reach %s: %w: this program was built without %s (build it with -tags clouds; "+
			"Google's storage can be reached with s3:// too, by endpoint=https://storage.googleapis.com)", name, state.ErrNotAble, u.Scheme)
	}
	blobs, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("cannot reach %s: %w", name, err)
	}
	if prefix != "" {
		blobs = blob.PrefixedBucket(blobs, prefix+"/")
	}
	return &Bucket{blobs, name}, nil
}

// query adds what services other than Amazon's need: their names are no host names, and they have no regions.
func query(q url.Values) url.Values {
	if q.Get("endpoint") == "" && os.Getenv("AWS_ENDPOINT_URL_S3") == "" && os.Getenv("AWS_ENDPOINT_URL") == "" {
		return q
	}
	if !q.Has("use_path_style") {
		q.Set("use_path_style", "true")
	}
	if !q.Has("region") && os.Getenv("AWS_REGION") == "" {
		q.Set("region", "us-east-1")
	}
	return q
}

// Close ends it.
func (b *Bucket) Close() error { return b.blobs.Close() }

// String is the address without its query.
func (b *Bucket) String() string { return b.name }

var refused = []string{"SignatureDoesNotMatch", "InvalidAccessKeyId", "AccessDenied", "ExpiredToken", "InvalidToken"}

// wrong makes an error of the storage one that says where.
func (b *Bucket) wrong(what, name string, err error) error {
	hint := ""
	var said interface{ ErrorCode() string } // what S3 says, which gocloud.dev does not know all of
	switch code := gcerrors.Code(err); {
	case code == gcerrors.NotFound:
		hint = " (is there such a bucket?)"
	case code == gcerrors.PermissionDenied, errors.As(err, &said) && slices.Contains(refused, said.ErrorCode()):
		hint = " (are the credentials right?)"
	}
	return fmt.Errorf("%s: cannot %s %s: %w%s", b.name, what, name, err, hint)
}

// List returns the objects whose names begin with prefix, sorted by name.
func (b *Bucket) List(ctx context.Context, prefix string) ([]store.Object, error) {
	var all []store.Object
	for i := b.blobs.List(&blob.ListOptions{Prefix: prefix}); ; {
		o, err := i.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, b.wrong("list", prefix, err)
		}
		all = append(all, store.Object{Name: o.Key, Size: o.Size, Modified: o.ModTime})
	}
	slices.SortFunc(all, func(a, b store.Object) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Read returns a part of an object. fs.ErrNotExist.
func (b *Bucket) Read(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := b.blobs.NewRangeReader(ctx, name, offset, length, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fmt.Errorf("%s: %s: %w", b.name, name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, b.wrong("read", name, err)
	}
	return r, nil
}

// Write stores an object. With onlyNew it is an fs.ErrExist where there is one.
func (b *Bucket) Write(ctx context.Context, name string, r io.Reader, onlyNew bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before Close that gives the object up
	w, err := b.blobs.NewWriter(ctx, name, &blob.WriterOptions{
		IfNotExist: onlyNew, BufferSize: partSize, MaxConcurrency: parts, ContentType: "application/octet-stream",
		DisableContentTypeDetection: true,
	})
	if err != nil {
		return b.wrong("write", name, err)
	}
	if _, err := io.Copy(w, r); err != nil {
		cancel()
		_ = w.Close() // says what was said
		return b.exists(name, err)
	}
	return b.exists(name, w.Close())
}

func (b *Bucket) exists(name string, err error) error {
	if err == nil {
		return nil
	}
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return fmt.Errorf("%s: %s: %w", b.name, name, fs.ErrExist)
	}
	return b.wrong("write", name, err)
}

// Delete removes an object; nothing happens if there is none.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := b.blobs.Delete(ctx, name); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return b.wrong("delete", name, err)
	}
	return nil
}
