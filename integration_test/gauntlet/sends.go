package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// sentMessage is what a performer logs when it has looked whether a call is open, and is about to send it.
const sentMessage = "call is sent"

// sends is a handler that of what is logged for debugging keeps the sends alone.
type sends struct{ slog.Handler }

func newSends(w io.Writer) slog.Handler {
	return sends{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})}
}

// Handle implements slog.Handler.
func (s sends) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo && r.Message != sentMessage {
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (s sends) WithAttrs(attrs []slog.Attr) slog.Handler { return sends{s.Handler.WithAttrs(attrs)} }

// send is a try of a call as its worker logged it.
type send struct {
	Time    time.Time `json:"time"`
	Looked  time.Time `json:"looked"` // when the worker began to ask the leader whether the call is open
	Msg     string    `json:"msg"`
	Worker  string    `json:"worker"`
	Context string    `json:"context"`
	Call    string    `json:"call"`
}

// readSends reads the sends out of the logs of all of a trial's workers.
func readSends(dir string) ([]send, error) {
	logs, err := filepath.Glob(filepath.Join(dir, "w*.log"))
	if err != nil {
		return nil, err
	}
	var all []send
	for _, path := range logs {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var s send
			if json.Unmarshal(lines.Bytes(), &s) == nil && s.Msg == sentMessage { // a worker that is killed may leave half a line
				all = append(all, s)
			}
		}
		if err := errors.Join(lines.Err(), file.Close()); err != nil {
			return nil, err
		}
	}
	return all, nil
}
