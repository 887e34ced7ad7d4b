//go:build race

package sandbox

const raceOff = false
