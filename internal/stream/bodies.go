package stream

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/thence-dev/thence/internal/job"
)

// Bodies that are too large for a job are objects of the pool's bucket of bodies, in the form of NATS' object stores
// (ADR-20): `nats object get` reads them. They are not written by the client library, which keeps any number of chunks
// in memory until they are acked; here it is one at a time. An object's metadata has the sequences of its chunks, so
// that a part is read without what stands before it, and the answer that the body belongs to.
//
// An object that is whole is never replaced: of several tries of a call that end with a body, the first is the one that
// counts, whichever answer comes first.

// bodyChunk is how much of a body one message holds, as object stores have it.
const bodyChunk = 128 << 10

// Members of an object's metadata.
const (
	chunksMember = "thence_chunks" // the sequence of the first chunk, and how far each is from the one before it
	answerMember = "thence_answer" // JSON
)

// KeepBody stores an answer's body while it is read, and returns the answer with a reference to it, or the one that an
// earlier try of the call has left there. An error of r is returned as it is, one that wraps ErrFull means that the
// bucket has no room, and any other that the server did not answer until ctx ended. Then nothing is left of the body,
// but for what may be left where a process is killed: it goes with the bucket's TTL.
func (p *Pool) KeepBody(ctx context.Context, a job.Address, call string, head job.Answer, r io.Reader) (job.Answer, error) {
	w := &bodyWriter{pool: p, object: jetstream.ObjectInfo{Bucket: job.BodiesBucket(p.Name), NUID: nuid.Next()}, digest: sha256.New()}
	w.object.Name = a.BodyName(call)
	w.object.Opts = &jetstream.ObjectMetaOptions{ChunkSize: bodyChunk}
	err := w.copy(ctx, r)
	if err != nil {
		w.remove(ctx)
		return head, err
	}
	return w.close(ctx, head)
}

// bodyWriter writes one object.
type bodyWriter struct {
	pool   *Pool
	object jetstream.ObjectInfo
	digest hash.Hash
	chunks []string // what the metadata has of them
	last   uint64   // sequence of the last
}

func (w *bodyWriter) subject() string { return bodySubject(w.object.Bucket, "C", w.object.NUID) }

func bodySubject(bucket, kind, name string) string { return "$O." + bucket + "." + kind + "." + name }

func metaSubject(bucket, name string) string {
	return bodySubject(bucket, "M", base64.URLEncoding.EncodeToString([]byte(name)))
}

// copy stores the chunks.
func (w *bodyWriter) copy(ctx context.Context, r io.Reader) error {
	buf := make([]byte, bodyChunk)
	for {
		n, ended, err := fill(r, buf)
		if err != nil {
			return err
		}
		if n > 0 {
			if err := w.store(ctx, buf[:n]); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
	}
}

// fill reads until buf is full or r has ended. Unlike io.ReadFull it leaves r's error as it is: a body that is cut off
// ends with io.ErrUnexpectedEOF, or with what wraps io.EOF, and is no short one.
func fill(r io.Reader, buf []byte) (n int, ended bool, err error) {
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// store stores the next chunk. Its id keeps it from being there twice when the ack for it was lost.
func (w *bodyWriter) store(ctx context.Context, chunk []byte) error {
	seq, err := w.insist(ctx, job.Message{Subject: w.subject(), Data: chunk, Header: map[string][]string{
		job.HeaderID: {w.object.NUID + "-" + strconv.Itoa(len(w.chunks))},
	}})
	if err != nil {
		return err
	}
	_, _ = w.digest.Write(chunk) // never fails: see hash.Hash
	w.chunks = append(w.chunks, strconv.FormatUint(seq-w.last, 10))
	w.last = seq
	w.object.Size += uint64(len(chunk))
	w.object.Chunks++
	return nil
}

// insist publishes until the stream has the message, or refuses it, or ctx ends.
func (w *bodyWriter) insist(ctx context.Context, m job.Message) (uint64, error) {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		seq, err := w.pool.publish(ctx, m)
		var no *Refusal
		switch {
		case err == nil, errors.Is(err, ErrConflict): // a stream that nobody answers for may be about to get a new leader
			return seq, err
		case errors.As(err, &no) && strings.HasSuffix(no.Err.Description, "exceeded"):
			return 0, fmt.Errorf("%w: bucket %s: %s", ErrFull, w.object.Bucket, no.Err.Description)
		case errors.As(err, &no):
			return 0, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, fmt.Errorf("store a body in bucket %s: %w", w.object.Bucket, errors.Join(ctx.Err(), err))
		}
	}
}

// close makes the object, unless there is one: then that is the answer's, and the chunks are removed.
func (w *bodyWriter) close(ctx context.Context, head job.Answer) (job.Answer, error) {
	w.object.Digest = jetstream.GetObjectDigestValue(w.digest)
	head.Stored = &job.Stored{Name: w.object.Name, Size: int64(w.object.Size), Digest: w.object.Digest, Type: head.Header["Content-Type"]}
	answer, err := job.Encode(head)
	if err != nil {
		return head, err
	}
	w.object.Metadata = map[string]string{chunksMember: strings.Join(w.chunks, ","), answerMember: string(answer)}
	meta, err := job.Encode(w.object)
	if err != nil {
		return head, err
	}
	_, err = w.insist(ctx, job.Message{Subject: metaSubject(w.object.Bucket, w.object.Name), Data: meta, Header: map[string][]string{
		jetstream.ExpectedLastSubjSeqHeader: {"0"},
	}})
	switch {
	case errors.Is(err, ErrConflict):
		return w.settle(ctx, head)
	case errors.Is(err, ErrFull):
		w.remove(ctx)
	}
	return head, err // of any other error it is not known whether the object is there now: its chunks stay
}

// settle finds out whose object is there: another try's, or this one's after all, when the ack for it was lost.
func (w *bodyWriter) settle(ctx context.Context, head job.Answer) (job.Answer, error) {
	object, err := w.pool.object(ctx, w.object.Name)
	switch {
	case err != nil || object.NUID == w.object.NUID:
		return head, err
	case object.Metadata[answerMember] == "":
		return head, fmt.Errorf("bucket %s has an object %s that no worker made: remove it", w.object.Bucket, w.object.Name)
	}
	w.remove(ctx)
	var first job.Answer
	err = json.Unmarshal([]byte(object.Metadata[answerMember]), &first)
	return first, err
}

// remove removes the chunks, also when ctx has ended. Those that can't be removed go with the bucket's TTL.
func (w *bodyWriter) remove(ctx context.Context) {
	if len(w.chunks) > 0 {
		_ = w.pool.api(context.WithoutCancel(ctx), "STREAM.PURGE."+job.BodiesStream(w.pool.Name), map[string]any{"filter": w.subject()}, &struct{}{})
	}
}

// object reads what is known of an object; ErrNone when there is none, or it was deleted.
func (p *Pool) object(ctx context.Context, name string) (jetstream.ObjectInfo, error) {
	var object jetstream.ObjectInfo
	m, err := p.fromLeader(ctx, job.BodiesStream(p.Name), getRequest{LastFor: metaSubject(job.BodiesBucket(p.Name), name)})
	if err != nil {
		return object, err
	}
	if err := json.Unmarshal(m.Data, &object); err != nil {
		return object, fmt.Errorf("object %s of bucket %s: %w", name, job.BodiesBucket(p.Name), err)
	}
	if object.Deleted {
		return object, ErrNone
	}
	return object, nil
}

// ReadBody reads a part of the body that a call of this context was answered with: at most length bytes from offset on,
// fewer at its end. It returns an error that wraps ErrNone when the body is not kept, or not any more.
func (p *Pool) ReadBody(ctx context.Context, a job.Address, call string, offset int64, length int) ([]byte, job.Stored, error) {
	object, err := p.object(ctx, a.BodyName(call))
	if err != nil {
		return nil, job.Stored{}, err
	}
	var answer job.Answer
	if err := json.Unmarshal([]byte(object.Metadata[answerMember]), &answer); err != nil || answer.Stored == nil {
		return nil, job.Stored{}, fmt.Errorf("%w: no worker made the object %s", ErrNone, object.Name)
	}
	sequences, err := sequencesOf(object)
	if err != nil {
		return nil, *answer.Stored, err
	}
	end := min(offset+int64(length), answer.Stored.Size)
	var part []byte
	for at := offset; at < end; at = offset + int64(len(part)) {
		chunk, err := p.chunk(ctx, object, sequences[at/bodyChunk])
		if err != nil {
			return nil, *answer.Stored, err
		}
		from := int(at % bodyChunk)
		if from >= len(chunk) {
			return nil, *answer.Stored, fmt.Errorf("%w: chunk %d of object %s has %d bytes", ErrNone, at/bodyChunk, object.Name, len(chunk))
		}
		part = append(part, chunk[from:min(len(chunk), from+int(end-at))]...)
	}
	return part, *answer.Stored, nil
}

// sequencesOf are where an object's chunks stand in the stream.
func sequencesOf(object jetstream.ObjectInfo) ([]uint64, error) {
	sequences := make([]uint64, 0, object.Chunks)
	last := uint64(0)
	for distance := range strings.SplitSeq(object.Metadata[chunksMember], ",") {
		n, err := strconv.ParseUint(distance, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: the chunks of object %s can't be read: %w", ErrNone, object.Name, err)
		}
		last += n
		sequences = append(sequences, last)
	}
	if want := (object.Size + bodyChunk - 1) / bodyChunk; uint64(len(sequences)) != want {
		return nil, fmt.Errorf("%w: object %s has %d chunks, want %d", ErrNone, object.Name, len(sequences), want)
	}
	return sequences, nil
}

// chunk reads one chunk of an object: from a replica, or where that does not have it from the leader.
func (p *Pool) chunk(ctx context.Context, object jetstream.ObjectInfo, sequence uint64) ([]byte, error) {
	get := getRequest{Seq: sequence}
	body, err := json.Marshal(get)
	if err != nil {
		return nil, err
	}
	name := job.BodiesStream(p.Name)
	m, err := p.direct(ctx, "$JS.API.DIRECT.GET."+name, body)
	if err != nil {
		m, err = p.fromLeader(ctx, name, get)
	}
	if err != nil {
		return nil, err
	}
	if m.Subject != bodySubject(object.Bucket, "C", object.NUID) {
		return nil, fmt.Errorf("%w: message %d of %s is no chunk of object %s", ErrNone, sequence, name, object.Name)
	}
	return m.Data, nil
}
