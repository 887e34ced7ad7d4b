package calls

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Bodies keeps what is too large for a job. *stream.Pool is one.
type Bodies interface {
	KeepBody(ctx context.Context, a job.Address, call string, head job.Answer, r io.Reader) (job.Answer, error)
	ReadBody(ctx context.Context, a job.Address, call string, offset int64, length int) ([]byte, job.Stored, error)
}

// source is a response's body as it is stored: it ends with an error where it goes over the limit, and remembers its
// error, which tells it from one of the store.
type source struct {
	io.Reader
	left int64
	err  error
}

var errOverLimit = errors.New("the body is over the limit")

// Read reads at most one byte over the limit.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p[:min(int64(len(p)), s.left+1)])
	if s.left -= int64(n); s.left < 0 {
		n, err = n-1, errOverLimit
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// stores tells whether a response's body goes to the store: of a failure, what fits into a job is enough.
func (c *client) stores(resp *http.Response, head []byte) bool {
	return len(head) > maxInline && c.service.ResponseLimit > maxInline && resp.StatusCode < 300 && c.access.bodies != nil
}

// keep stores a response's body while it comes in; head is what was read of it. Secrets are taken out on the way.
func (c *client) keep(ctx context.Context, call job.Call, resp *http.Response, head []byte, timeout time.Duration) result {
	from := &source{Reader: io.MultiReader(bytes.NewReader(head), resp.Body), left: int64(c.service.ResponseLimit)}
	told := c.secrets.redact(result{answer: job.Answer{Status: resp.StatusCode, Header: keptHeader(resp.Header)}}).answer
	kept, err := c.access.bodies.KeepBody(ctx, call.From, call.ID, told, c.secrets.reader(from))
	r := result{answer: kept}
	switch {
	case err == nil:
		return r
	case errors.Is(from.err, errOverLimit):
		r.answer.Failure = c.tooLarge()
		return r
	case from.err != nil:
		r = c.networkFailure(from.err, timeout)
	case ctx.Err() != nil: // while the store was waited for
		r = failed(job.FailureTimeout, !c.service.Never, fmt.Sprintf("the body could not be stored within %s: %s", timeout, err))
		r.ours = true
	case errors.Is(err, stream.ErrFull):
		r = failed(job.FailureTooLarge, !c.service.Never, "there is no room to store the body: "+err.Error())
	default:
		r = failed(job.FailureConnection, true, "the body could not be stored: "+err.Error())
		r.ours = true
	}
	r.answer.Status = resp.StatusCode
	return r
}

func (c *client) tooLarge() *job.Failure {
	return &job.Failure{Type: job.FailureTooLarge, Message: fmt.Sprintf("the body is over the limit of %d bytes", c.service.ResponseLimit)}
}

// Body is the built-in service that reads parts of stored bodies. Its calls go to no API: their URLs are
// body:CALL?offset=N&length=N, with encoding=base64 where the part is to come so. A script asks for them by http.part.
const Body = "body"

// bodyReads is how many parts the pool reads at a time.
const bodyReads = 64

// part is what a call to the service Body asks for.
type part struct {
	call   string // whose body it is
	offset int64
	length int
	base64 bool
}

func parsePart(raw string) (part, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return part{}, errors.New("the URL can't be read")
	}
	query := u.Query()
	p := part{call: u.Opaque, base64: query.Get("encoding") == "base64"}
	_, _, idErr := job.ParseEffectID(p.call)
	p.offset, err = strconv.ParseInt(query.Get("offset"), 10, 64)
	length, lengthErr := strconv.Atoi(query.Get("length"))
	p.length = length
	if err = errors.Join(idErr, err, lengthErr); err != nil {
		return p, fmt.Errorf("want body:CALL?offset=N&length=N: %w", err)
	}
	if p.offset < 0 || p.length < 1 || p.length > job.MaxPart {
		return p, fmt.Errorf("want an offset from 0 and a length from 1 to %d, got %d and %d", job.MaxPart, p.offset, p.length)
	}
	return p, nil
}

// beginPart is begin for a call to the service Body, which sends nothing: it is over when the part is read.
func (p *Performer) beginPart(ctx context.Context, c *client, call *job.Call) *try {
	t := &try{client: c, call: call, began: time.Now(), cancel: func() {}}
	r := p.readPart(ctx, *call)
	t.over = &r
	return t
}

// readPart performs a call to the service Body. The body's name is made of the context that the message's subject has,
// which is proven: a script can read the bodies of its own context and no other's.
func (p *Performer) readPart(ctx context.Context, call job.Call) result {
	want, err := parsePart(call.Request.URL)
	if err != nil {
		return failed(job.FailureRejected, false, err.Error())
	}
	body, kept, err := p.config.Bodies.ReadBody(ctx, call.From, want.call, want.offset, want.length)
	var r result
	switch {
	case errors.Is(err, stream.ErrNone):
		r = failed(job.FailureGone, false, fmt.Sprintf("the body of call %s is not kept for this context, or not any more", want.call))
	case err != nil:
		r = failed(job.FailureConnection, true, err.Error())
		r.ours = true
	case want.offset >= kept.Size:
		r = failed(job.FailureRejected, false, fmt.Sprintf("the body has %d bytes, and none at offset %d", kept.Size, want.offset))
	default:
		r.answer = want.answer(body, kept)
	}
	return r
}

// answer is a part as its script gets it: always as a text, never as the JSON that it may look like. A character that
// the part's end would cut is left to the next part.
func (want part) answer(body []byte, kept job.Stored) job.Answer {
	if !want.base64 {
		body = wholeRunes(body)
	}
	end := want.offset + int64(len(body))
	kept.Offset = want.offset
	if end < kept.Size {
		kept.Next = end
	}
	if want.base64 {
		body = []byte(base64.StdEncoding.EncodeToString(body))
	}
	return job.Answer{Status: http.StatusPartialContent, Body: body, Stored: &kept, Header: map[string]string{
		"Content-Type":  job.TypeText,
		"Content-Range": fmt.Sprintf("bytes %d-%d/%d", want.offset, end-1, kept.Size),
	}}
}

// wholeRunes leaves out the beginning of a character of UTF-8 at the end of b, unless there is nothing else in it.
func wholeRunes(b []byte) []byte {
	for i := len(b) - 1; i > 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return b[:i]
			}
			break
		}
	}
	return b
}
