package chunk

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/faas-platform/faas"
)

// s3Timeout bounds one request to an S3 service: at most MaxBlob over a slow
// line.
const s3Timeout = 2 * time.Minute

// s3Tries is how often a request that the service did not answer is made.
const s3Tries = 4

// S3Options says where an S3-compatible service keeps the blobs.
type S3Options struct {
	Endpoint  string // host:port
	Bucket    string // must exist
	Prefix    string // before every name, without slashes at its ends
	Region    string
	AccessKey string // empty: from the environment and the machine's role
	SecretKey string
	Plain     bool // http instead of https: for services on this machine
}

// S3 is a Backend in an S3-compatible service.
type S3 struct {
	client *minio.Client
	opts   S3Options
}

// NewS3 returns a backend; it does not speak to the service yet.
func NewS3(opts S3Options) (*S3, error) {
	creds := credentials.NewStaticV4(opts.AccessKey, opts.SecretKey, "")
	if opts.AccessKey == "" {
		creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{Timeout: 5 * time.Second}},
		})
	}
	client, err := minio.New(opts.Endpoint, &minio.Options{Creds: creds, Secure: !opts.Plain, Region: opts.Region, MaxRetries: s3Tries})
	if err != nil {
		return nil, faas.Errorf(faas.KindInvalidArgument, "S3 endpoint %q: %w", opts.Endpoint, err)
	}
	return &S3{client: client, opts: opts}, nil
}

// Check sees that the service answers and the bucket is there.
func (s *S3) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s3Timeout)
	defer cancel()
	exists, err := s.client.BucketExists(ctx, s.opts.Bucket)
	if err != nil {
		return s.failed("look for bucket", s.opts.Bucket, err)
	}
	if !exists {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "open S3 tier",
			Detail: "there is no bucket " + s.opts.Bucket, Remedy: "create it, or configure another"}
	}
	return nil
}

func (s *S3) key(name string) string { return path.Join(s.opts.Prefix, name) }

func (s *S3) failed(what, name string, err error) error {
	return &faas.Error{Kind: faas.KindUnavailable, Op: fmt.Sprintf("S3 %s %s", what, name), Err: err}
}

func missing(err error) bool {
	code := minio.ToErrorResponse(err).Code
	return code == minio.NoSuchKey || code == "NotFound"
}

// Put stores a blob; the service makes it visible when it is whole.
func (s *S3) Put(ctx context.Context, name string, content []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s3Timeout)
	defer cancel()
	_, err := s.client.PutObject(ctx, s.opts.Bucket, s.key(name), bytes.NewReader(content), int64(len(content)),
		minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true})
	if err != nil {
		return s.failed("put", name, err)
	}
	return nil
}

// Get returns a blob.
func (s *S3) Get(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s3Timeout)
	defer cancel()
	object, err := s.client.GetObject(ctx, s.opts.Bucket, s.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, s.failed("get", name, err)
	}
	defer object.Close()
	b, err := io.ReadAll(io.LimitReader(object, MaxBlob+1))
	switch {
	case missing(err):
		return nil, faas.Errorf(faas.KindNotFound, "blob %s is missing", name)
	case err != nil:
		return nil, s.failed("get", name, err)
	case len(b) > MaxBlob:
		return nil, faas.Errorf(faas.KindFailedPrecondition, "blob %s is larger than any that was stored", name)
	}
	return b, nil
}

// Has asks for a blob's metadata.
func (s *S3) Has(ctx context.Context, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s3Timeout)
	defer cancel()
	_, err := s.client.StatObject(ctx, s.opts.Bucket, s.key(name), minio.StatObjectOptions{})
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, s.failed("stat", name, err)
	}
	return true, nil
}

// Delete removes a blob.
func (s *S3) Delete(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, s3Timeout)
	defer cancel()
	err := s.client.RemoveObject(ctx, s.opts.Bucket, s.key(name), minio.RemoveObjectOptions{})
	if err != nil && !missing(err) {
		return s.failed("delete", name, err)
	}
	return nil
}

// List pages through the names.
func (s *S3) List(ctx context.Context, prefix string, f func(string, int64) error) error {
	ctx, cancel := context.WithCancel(ctx) // ends the listing when f does
	defer cancel()
	base := s.opts.Prefix
	if base != "" {
		base += "/"
	}
	for o := range s.client.ListObjects(ctx, s.opts.Bucket, minio.ListObjectsOptions{Prefix: base + prefix, Recursive: true}) {
		if o.Err != nil {
			return s.failed("list", prefix, o.Err)
		}
		if err := f(strings.TrimPrefix(o.Key, base), o.Size); err != nil {
			return err
		}
	}
	return ctx.Err()
}
