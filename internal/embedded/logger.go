package embedded

import (
	"fmt"
	"log/slog"
	"sync"
)

// logger hands on what the server says, and keeps why it could not start.
type logger struct {
	to *slog.Logger // nil: nowhere

	mu    sync.Mutex
	fatal string
}

func (l *logger) why() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

// Fatalf implements server.Logger.
func (l *logger) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.mu.Lock()
	l.fatal = text
	l.mu.Unlock()
	if l.to != nil {
		l.to.Error("nats-server can't go on", "text", text)
	}
}

// Errorf implements server.Logger.
func (l *logger) Errorf(format string, args ...any) {
	if l.to != nil {
		l.to.Error("nats-server", "text", fmt.Sprintf(format, args...))
	}
}

// Warnf implements server.Logger.
func (l *logger) Warnf(format string, args ...any) {
	if l.to != nil {
		l.to.Warn("nats-server", "text", fmt.Sprintf(format, args...))
	}
}

// Noticef implements server.Logger.
func (l *logger) Noticef(format string, args ...any) {
	if l.to != nil {
		l.to.Info("nats-server", "text", fmt.Sprintf(format, args...))
	}
}

// Debugf implements server.Logger. The server is not asked to debug.
func (*logger) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (*logger) Tracef(string, ...any) {}
