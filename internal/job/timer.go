package job

import (
	"fmt"
	"net/url"
	"time"
)

// Timer is the built-in service whose API is the server's clock. A timer that a script sets is a call to it: it is open
// until it is due, carries its job's release, is listed and cancelled like any other, and its answer, which brings the data
// that the script gave it, is taken once. Its URL is timer:TIME, in RFC 3339.
const Timer = "timer"

// TimerURL is what a timer that is due at a time calls.
func TimerURL(due time.Time) string { return Timer + ":" + due.UTC().Format(time.RFC3339Nano) }

// ParseTimerURL reads when a timer is due.
func ParseTimerURL(raw string) (time.Time, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != Timer {
		return time.Time{}, fmt.Errorf("%q: want %s:TIME", raw, Timer)
	}
	due, err := time.Parse(time.RFC3339Nano, u.Opaque)
	if err != nil {
		return due, fmt.Errorf("%q: %q is no RFC 3339 time", raw, u.Opaque)
	}
	return due, nil
}

// Headers of a message that the server keeps until it is due (ADR-51).
const (
	HeaderSchedule       = "Nats-Schedule"        // when: "@at" and a time
	HeaderScheduleTarget = "Nats-Schedule-Target" // the subject that it then appears on
)

// Scheduled is the message that has the server put a call on its service's subject at a time, which may have passed; signed.
// It stands on a subject of the call's own, so that it replaces the one before, and has no Nats-Msg-Id: with one, the stream
// would take it for a repeat of the one that it has just removed, and nothing would be left (rule 12).
func (k Keyring) Scheduled(a Address, call Call, at time.Time) (Message, error) {
	body, err := Encode(call)
	if err != nil {
		return Message{}, err
	}
	m := Message{Subject: a.CallSubject(call.Service), Data: body}
	k.Sign(&m)
	m.Header[HeaderSchedule] = []string{"@at " + at.UTC().Format(time.RFC3339Nano)}
	m.Header[HeaderScheduleTarget] = []string{m.Subject}
	m.Subject = a.RetrySubject(call.ID)
	return m, nil
}
