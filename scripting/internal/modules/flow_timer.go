package modules

import (
	"fmt"
	"strings"
	"time"

	"github.com/d5/tengo/v2"
)

// timerOperation is what a timer is called among the open calls, and in the job that it brings.
const timerOperation = "timer"

// timerScheme is that of a timer's URL.
const timerScheme = "timer:"

// maxTimer is how far off a timer may be due.
const maxTimer = 10 * 366 * 24 * time.Hour

// isTimer tells whether a job is to be dispatched later.
func (o *options) isTimer() bool {
	_, after := o.get("after")
	_, at := o.get("at")
	return after || at
}

// flowTimer dispatches a job to this context when its time has come: flow.dispatch({script: "remind", data: {...}, after:
// "24h"}). It is a call as any other, to the service that has the server's clock, so that it can be listed and cancelled; its
// URL is timer:TIME.
func flowTimer(r *Run, o *options) (tengo.Object, error) {
	for _, key := range []string{"worker", "pool", "context", "source"} {
		if _, given := o.get(key); given {
			o.fail("option %s: a job that is dispatched later belongs to this context, and runs a script of the library or the one "+
				"that runs (job.script): let that dispatch on", key)
		}
	}
	due := o.due(r.job.Time)
	c := &Call{Operation: timerOperation, Method: "GET", URL: timerScheme + due.UTC().Format(time.RFC3339Nano), Body: o.json("data"), Tag: o.json("tag")}
	c.Then = o.script(r, "script", noScripts)
	c.Catch = o.script(r, "catch", noScripts)
	if c.Then == "" {
		o.fail("option script must be given: the script that runs when the time has come")
	}
	if o.err != nil {
		return nil, o.err
	}
	return r.call(c)
}

// due is when a timer is due: now, if its time has passed.
func (o *options) due(now time.Time) time.Time {
	_, after := o.get("after")
	at, given := o.get("at")
	if after && given {
		o.fail("options after and at exclude each other")
	}
	if after {
		return now.Add(o.within("after", maxTimer))
	}
	due, err := moment(at)
	switch {
	case err != nil:
		o.fail("option at %w", err)
	case due.Sub(now) > maxTimer:
		o.fail("option at: %s is more than ten years off", due.Format(time.RFC3339))
	case due.Before(now):
		return now
	}
	return due
}

// moment reads a time, or a text such as 2026-01-02T15:04:05Z.
func moment(v tengo.Object) (time.Time, error) {
	switch v := v.(type) {
	case *tengo.Time:
		if y := v.Value.UTC().Year(); y < 0 || y > 9999 {
			return time.Time{}, fmt.Errorf("has the year %d: want 0 to 9999", y)
		}
		return v.Value, nil
	case *tengo.String:
		t, err := time.Parse(time.RFC3339Nano, v.Value)
		if err != nil {
			return t, fmt.Errorf("is %q, and no time such as 2026-01-02T15:04:05Z", v.Value)
		}
		return t, nil
	default:
		return time.Time{}, fmt.Errorf("must be a time, or a text such as \"2026-01-02T15:04:05Z\", not %s", v.TypeName())
	}
}

// dueOf is when a call is due that is a timer; the zero time for any other.
func dueOf(url string) time.Time {
	text, timer := strings.CutPrefix(url, timerScheme)
	due, err := time.Parse(time.RFC3339Nano, text)
	if !timer || err != nil {
		return time.Time{}
	}
	return due
}
