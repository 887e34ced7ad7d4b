package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/thence-dev/thence/dispatcher"
)

// awaitFlow waits for all that the job leads to, and says what each job of it came to as soon as it is known.
func (a *app) awaitFlow(ctx context.Context, d *dispatcher.Dispatcher, r dispatcher.Receipt, timeout time.Duration) error {
	began := time.Now()
	flow, err := d.AwaitFlow(ctx, r, func(report dispatcher.Report) {
		if !a.json {
			a.notef("%s%s\n", plainText(report.Output), plain(jobLine(report)))
		}
	})
	var open *dispatcher.OpenError
	if errors.As(err, &open) {
		return stillOpen(r, open, timeout)
	}
	var dead *dispatcher.JobError
	if err != nil && !errors.As(err, &dead) {
		return err
	}
	if err := a.printFlow(r, flow, time.Since(began)); err != nil {
		return err
	}
	for _, report := range flow.Jobs {
		if report.Error != nil {
			return deadError(r, report)
		}
	}
	return nil
}

// jobLine is what one job of a flow came to.
func jobLine(r dispatcher.Report) string {
	what := orDash(r.Script)
	if r.Failed != "" {
		what += " (the call failed: " + r.Failed + ")"
	}
	line := fmt.Sprintf("%s %s after %s", what, r.Status, r.Took)
	if r.Error != nil {
		line += ": " + r.Error.Message
	}
	return line
}

// stillOpen is the error of a wait that was ended.
func stillOpen(r dispatcher.Receipt, open *dispatcher.OpenError, timeout time.Duration) error {
	why := fmt.Sprintf("after %s", timeout)
	if errors.Is(open, context.Canceled) {
		why = "and goes on"
	}
	text := fmt.Sprintf("the flow of job %s has not ended %s. It waits for", r.ID, why)
	for _, w := range open.Waits {
		text += "\n  " + w
	}
	return fmt.Errorf("%s\n\nsee `thence context get %s`", text, open.Context)
}

// printFlow prints the flow's result alone on standard output, or with --json all that is known of it.
func (a *app) printFlow(r dispatcher.Receipt, flow dispatcher.Flow, took time.Duration) error {
	if a.json {
		shown := struct {
			dispatcher.Receipt
			Jobs     []outcome       `json:"jobs"`
			State    json.RawMessage `json:"state"`
			Revision uint64          `json:"revision"`
			Result   json.RawMessage `json:"result,omitempty"`
		}{Receipt: r, State: flow.State, Revision: flow.Revision, Result: flow.Result()}
		for _, report := range flow.Jobs {
			of := dispatcher.Receipt{ID: report.ID, Worker: r.Worker, Context: r.Context, Sequence: report.Sequence}
			shown.Jobs = append(shown.Jobs, outcomeOf(of, report))
		}
		return a.printJSON(shown)
	}
	if result := flow.Result(); result != nil {
		a.printf("%s\n", compactJSON(result))
	}
	a.notef("the flow of job %s in %s.%s has ended after %s: %s\n", plain(r.ID), r.Worker, r.Context, took.Round(time.Millisecond), many(len(flow.Jobs), "job"))
	return nil
}
