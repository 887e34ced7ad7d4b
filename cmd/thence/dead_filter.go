package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/operator"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox"
)

// filterFlags say which dead letters are meant.
type filterFlags struct {
	script, reason, job string
	older, newer        time.Duration
	since, until        string
}

func (f *filterFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.script, "script", "", "only those of this script, as the list names it")
	flags.StringVar(&f.reason, "reason", "", "only those of this reason: "+strings.Join(reasons(), ", "))
	flags.StringVar(&f.job, "job", "", "only those of the job with this id")
	flags.DurationVar(&f.older, "older", 0, "only those that died longer ago, such as 24h")
	flags.DurationVar(&f.newer, "newer", 0, "only those that died since, such as 1h")
	flags.StringVar(&f.since, "since", "", "only those that died at this time (RFC 3339) or after it")
	flags.StringVar(&f.until, "until", "", "only those that died before this time (RFC 3339)")
}

// read makes a filter of POOL[.CONTEXT] and the flags.
func (f *filterFlags) read(where string, now time.Time) (pool string, filter operator.Filter, err error) {
	at := job.Address{Pool: where}
	if strings.Contains(where, ".") {
		if at, err = job.ParseAddress(where); err != nil {
			return "", filter, usageError{err}
		}
	}
	filter = operator.Filter{Context: at.Context, Script: f.script, Reason: f.reason, Job: f.job}
	if filter.Since, err = bound("newer", f.newer, "since", f.since, now); err != nil {
		return "", filter, usageError{err}
	}
	if filter.Until, err = bound("older", f.older, "until", f.until, now); err != nil {
		return "", filter, usageError{err}
	}
	if !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return "", filter, usageError{errors.New("no time is left between --since (or --newer) and --until (or --older)")}
	}
	return at.Pool, filter, nil
}

// reasons are those that Thence gives. A program that embeds a worker may run scripts in another way, and give more.
func reasons() []string {
	all := []string{
		job.ReasonMalformed, job.ReasonForged, job.ReasonDeadline, job.ReasonTooLarge, job.ReasonNoPool, job.ReasonService, job.ReasonDenied,
		job.ReasonPoison, job.ReasonRefused, job.ReasonNoRelease,
	}
	for _, kind := range []scripting.ErrorKind{
		scripting.KindUnknownScript, scripting.KindCompile, scripting.KindRuntime, scripting.KindTimeLimit, scripting.KindLimit,
		sandbox.KindMemory, sandbox.KindStack, sandbox.KindCrash,
	} {
		all = append(all, string(kind))
	}
	slices.Sort(all)
	return all
}

// noteReason says of a reason that is likely misspelt that there is none like it: else a list that is empty would say that all is well.
func (a *app) noteReason(reason string) {
	if all := reasons(); reason != "" && !slices.Contains(all, reason) {
		a.notef("thence: there is no reason %q that Thence gives; there are: %s\n", plain(reason), strings.Join(all, ", "))
	}
}

// bound is a time that is given as an age or as itself; zero when it is not given.
func bound(ageFlag string, age time.Duration, timeFlag, text string, now time.Time) (time.Time, error) {
	switch {
	case age < 0:
		return time.Time{}, fmt.Errorf("--%s %s: want more than 0s", ageFlag, age)
	case age > 0 && text != "":
		return time.Time{}, fmt.Errorf("--%s and --%s: want one of them", ageFlag, timeFlag)
	case age > 0:
		return now.Add(-age), nil
	case text == "":
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("--%s %q: want a time such as 2026-01-02T15:04:05Z", timeFlag, text)
	}
	return t, nil
}
