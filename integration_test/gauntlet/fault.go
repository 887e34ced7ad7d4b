package main

import (
	"errors"
	"os"
	"strings"
)

// fault is a way to hurt a system, and the trials that do so.
type fault struct {
	name  string
	about string
	plan  func(p planning) []*trial
}

// planning is what trials are planned from.
type planning struct {
	seed  uint64
	scale scale
}

// scale is how much is done.
type scale string

const (
	scaleSmoke scale = "smoke" // one trial of a few faults
	scaleSmall scale = "small" // what `go test ./...` does
	scaleCI    scale = "ci"    // four minutes
	scaleFull  scale = "full"  // all there is, with the heavy loads
)

var scales = []scale{scaleSmoke, scaleSmall, scaleCI, scaleFull}

// pick is the value for a scale: smoke, small, ci, full.
func pick[T any](s scale, smoke, small, ci, full T) T {
	switch s {
	case scaleSmoke:
		return smoke
	case scaleSmall:
		return small
	case scaleCI:
		return ci
	default:
		return full
	}
}

// faults are all of them, in the order in which they run.
var faults = []fault{
	crashPoints,
	killWorkers, killServer, killOneOfThree, killLeader, killAllThree,
	stopWorker, stopServer,
	slowNetwork, cutNetwork, halfOpenNetwork, lostAcks, lostAnswers,
	partitionWorker, partitionServer,
	powerLoss, powerLossControl,
	fullDisk, fullStream,
	hotContext, duplicateStorm, horizon, backlog,
}

// needsRoot says why a trial that mounts or makes network namespaces can't be run.
func needsRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	return nil
}

// faultOf is the fault in a trial's name.
func faultOf(name string) string {
	fault, _, _ := strings.Cut(name, "/")
	return fault
}
