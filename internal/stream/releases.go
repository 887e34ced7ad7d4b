package stream

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// A release is a pool's whole set of named scripts. Its name is made of its content, so that it never changes: whoever
// reads one finds out whether it is what its name says, and whoever writes one can do so any number of times.
//
// Its scripts stand in parts, each compressed on its own, so that parts which two versions of this program have written
// go together. The head is written last: a release without one is not there.
//
// Which release is the pool's current one is said by the last turn: see turns.go.

// Release is a set of scripts.
type Release struct {
	Name    string            // what job.ReleaseName makes of Scripts
	Scripts map[string]string // source by name
}

// Errors of releases that callers branch on. After any other one nobody knows: it is worth another try.
var (
	ErrNoRelease = errors.New("no such release")
	ErrDamaged   = errors.New("the release is damaged")
)

// Sizes of releases.
const (
	partSource    = 128 << 10 // bytes of names and sources in a part, if it has more than one script
	largestPart   = 8 << 20   // bytes of a part as JSON
	largest       = 16 << 20  // bytes of all names and sources of a release
	releasesBytes = 64 << 20  // that the stream may hold, unless all streams have less
	leastReleases = 1 << 20
)

// releaseHead says that a release is whole.
type releaseHead struct {
	Parts   int `json:"parts"`
	Scripts int `json:"scripts"`
	Bytes   int `json:"bytes"` // of all names and sources
}

// Releases is the stream of a pool's releases as Ensure would make it now.
func Releases(pool string, o Options) jetstream.StreamConfig {
	o = o.withDefaults()
	return jetstream.StreamConfig{
		Name: job.ReleasesStream(pool), Subjects: []string{releaseSubjects(pool)}, Description: "Thence: releases of the scripts of the worker pool " + pool,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, MaxBytes: max(leastReleases, min(releasesBytes, o.MaxBytes)), MaxMsgSize: job.MaxJob,
		Storage: jetstream.FileStorage, Replicas: o.Replicas, Duplicates: 2 * time.Minute, FirstSeq: uint64(time.Now().UnixMicro()),
		DenyDelete: true, DenyPurge: true,
	}
}

func releaseSubjects(pool string) string { return job.ReleaseSubject(pool, "*") }

func fitsReleases(c jetstream.StreamConfig) string {
	switch {
	case c.Retention != jetstream.LimitsPolicy:
		return fmt.Sprintf("its retention is %s, want limits", c.Retention)
	case c.Discard != jetstream.DiscardNew:
		return "it discards old messages when full, want discard new: flows in flight need old releases"
	case c.MaxBytes <= 0:
		return noBound
	case c.MaxAge > 0 || c.MaxMsgsPerSubject > 0 || c.MaxMsgs > 0:
		return "it drops old messages by age or number: flows in flight need old releases"
	}
	return ""
}

// StoreRelease stores a release. It can be repeated: what is there is not stored again. Until it has returned nil the
// release is not there.
func (p *Pool) StoreRelease(ctx context.Context, r Release) error {
	if err := r.valid(); err != nil {
		return err
	}
	_, err := p.LoadRelease(ctx, r.Name)
	if !errors.Is(err, ErrNoRelease) && !errors.Is(err, ErrDamaged) {
		return err
	}
	parts, err := r.parts()
	if err != nil {
		return err
	}
	for i, part := range parts {
		if err := p.storeRelease(ctx, job.PartSubject(p.Name, r.Name, i), part); err != nil {
			return fmt.Errorf("store release %s: %w", r.Name, err)
		}
	}
	head, err := json.Marshal(releaseHead{Parts: len(parts), Scripts: len(r.Scripts), Bytes: r.size()})
	if err != nil {
		return err
	}
	if err := p.storeRelease(ctx, job.ReleaseSubject(p.Name, r.Name), head); err != nil {
		return fmt.Errorf("store release %s: %w", r.Name, err)
	}
	return nil
}

func (p *Pool) storeRelease(ctx context.Context, subject string, data []byte) error {
	return p.releasesError(ctx, p.Publish(ctx, job.Message{Subject: subject, Data: data}))
}

// releasesError says what to do about a stream of releases that is missing or full.
func (p *Pool) releasesError(ctx context.Context, err error) error {
	var no *Refusal
	switch {
	case errors.As(err, &no) && advice(no.Err) != "":
		return fmt.Errorf("%w: the stream %s has no room: raise its max_bytes with `nats stream edit %s --max-bytes`, as old releases are kept for flows in flight: %w",
			ErrFull, job.ReleasesStream(p.Name), job.ReleasesStream(p.Name), no.Err)
	case !errors.Is(err, jetstream.ErrStreamNotFound) && !errors.Is(err, ErrNoStream):
		return err
	}
	exists, look := p.PoolExists(ctx, p.Name)
	if look == nil && !exists {
		return p.noPool()
	}
	return fmt.Errorf("the pool %s has no stream %s: workers of this version make it when they start, or `thence init --pool %s` does: %w",
		p.Name, job.ReleasesStream(p.Name), p.Name, err)
}

func (r Release) size() int {
	n := 0
	for name, source := range r.Scripts {
		n += len(name) + len(source)
	}
	return n
}

func (r Release) valid() error {
	if want := job.ReleaseName(r.Scripts); r.Name != want {
		return fmt.Errorf("release %q: its scripts make it %s", r.Name, want)
	}
	for name, source := range r.Scripts {
		if !utf8.ValidString(name) || !utf8.ValidString(source) {
			return fmt.Errorf("release %s: the script %q is not UTF-8", r.Name, name)
		}
	}
	if n := r.size(); n > largest {
		return fmt.Errorf("release %s %w: its scripts have %d bytes, more than %d", r.Name, ErrUnfit, n, largest)
	}
	return nil
}

// parts are the release's scripts in the order of their names, encoded.
func (r Release) parts() ([][]byte, error) {
	var parts [][]byte
	for _, scripts := range r.portions() {
		part, err := compressed(scripts)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// portions divides the scripts so that each portion fits into a message.
func (r Release) portions() []map[string]string {
	var all []map[string]string
	size := partSource + 1 // the first script begins a portion
	for _, name := range slices.Sorted(maps.Keys(r.Scripts)) {
		n := len(name) + len(r.Scripts[name])
		if size += n; size > partSource {
			all, size = append(all, map[string]string{}), n
		}
		all[len(all)-1][name] = r.Scripts[name]
	}
	return all
}

func compressed(scripts map[string]string) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if err := json.NewEncoder(w).Encode(scripts); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// LoadRelease reads a release, as the stream's leader has it. It returns an error that wraps ErrNoRelease when there is
// none of that name, and one that wraps ErrDamaged when what is there is not what its name says.
func (p *Pool) LoadRelease(ctx context.Context, name string) (Release, error) {
	if !job.ValidRelease(name) {
		return Release{}, fmt.Errorf("release %q of pool %s: %w: a name is 12 of 0-9 a-f", name, p.Name, ErrNoRelease)
	}
	head, err := p.releaseHead(ctx, name)
	if err != nil {
		return Release{}, err
	}
	r := Release{Name: name, Scripts: make(map[string]string, min(head.Scripts, 1000))}
	for i, size := 0, 0; i < head.Parts; i++ {
		part, err := p.releasePart(ctx, name, i)
		if err != nil {
			return Release{}, err
		}
		maps.Copy(r.Scripts, part)
		if size += len(part); size != len(r.Scripts) || r.size() > largest {
			return Release{}, p.damaged(name, "its parts don't go together")
		}
	}
	if got := job.ReleaseName(r.Scripts); got != name {
		return Release{}, p.damaged(name, "its scripts make it "+got)
	}
	return r, nil
}

func (p *Pool) damaged(name, why string) error {
	return fmt.Errorf("release %s of pool %s: %w: %s. Push the same scripts again: that mends it", name, p.Name, ErrDamaged, why)
}

func (p *Pool) releaseHead(ctx context.Context, name string) (head releaseHead, err error) {
	m, err := p.fromLeader(ctx, job.ReleasesStream(p.Name), getRequest{LastFor: job.ReleaseSubject(p.Name, name)})
	if errors.Is(err, ErrNone) {
		return head, fmt.Errorf("release %s of pool %s: %w: `thence scripts list %s` shows those that there are", name, p.Name, ErrNoRelease, p.Name)
	}
	if err != nil {
		return head, p.releasesError(ctx, err)
	}
	if err := json.Unmarshal(m.Data, &head); err != nil {
		return head, p.damaged(name, "its head can't be read: "+err.Error())
	}
	return head, nil
}

func (p *Pool) releasePart(ctx context.Context, name string, index int) (part map[string]string, err error) {
	m, err := p.fromLeader(ctx, job.ReleasesStream(p.Name), getRequest{LastFor: job.PartSubject(p.Name, name, index)})
	if errors.Is(err, ErrNone) {
		return nil, p.damaged(name, fmt.Sprintf("its part %d is missing", index))
	}
	if err != nil {
		return nil, p.releasesError(ctx, err)
	}
	r, err := gzip.NewReader(bytes.NewReader(m.Data))
	if err == nil {
		err = json.NewDecoder(io.LimitReader(r, largestPart)).Decode(&part)
	}
	if err != nil {
		return nil, p.damaged(name, fmt.Sprintf("its part %d can't be read: %v", index, err))
	}
	return part, nil
}
