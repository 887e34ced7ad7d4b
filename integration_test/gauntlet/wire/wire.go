// Package wire is a TCP proxy between NATS clients and a server that hurts what passes: it delays, cuts and half-opens
// connections, and it knows enough of the protocol to drop single messages: acks of deliveries on their way to the
// server, and the server's answers to publishes on their way back.
//
// What is lost on a real network is lost with its connection. Dropping single messages is harsher: nobody notices that
// anything is amiss, so only what the protocol above does about silence helps.
package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Harm is what is done to what passes. The zero value does nothing.
type Harm struct {
	Delay       time.Duration // of everything, each way; up to half of it more at random
	DropAcks    float64       // share of the acks of deliveries that the server never sees
	DropAnswers float64       // share of the answers to publishes that the client never sees
}

// Counts are what the proxy has done.
type Counts struct {
	Cut, HalfOpened             int
	DroppedAcks, DroppedAnswers int
}

// Proxy is a proxy that listens. Close ends it.
type Proxy struct {
	listener net.Listener
	to       string
	harm     atomic.Pointer[Harm]
	done     sync.WaitGroup

	mu     sync.Mutex
	rng    *rand.Rand
	open   map[*session]struct{}
	counts Counts
}

// session is one client's connection and the one that goes on to the server.
type session struct {
	client, server net.Conn
	dead           atomic.Bool // half-open: what comes is read, and goes nowhere
}

func (s *session) close() {
	_ = s.client.Close() // both may be closed: whichever side ends first ends the other
	_ = s.server.Close()
}

// New makes a proxy on loopback to a server's host:port. What it drops is drawn from rng.
func New(to string, rng *rand.Rand) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, to: to, rng: rng, open: map[*session]struct{}{}}
	p.harm.Store(&Harm{})
	p.done.Go(p.accept)
	return p, nil
}

// URL is where clients connect to.
func (p *Proxy) URL() string { return "nats://" + p.listener.Addr().String() }

// Harm sets what is done from now on, to open connections too.
func (p *Proxy) Harm(h Harm) { p.harm.Store(&h) }

// Counts returns what was done so far.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Cut closes every connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.open {
		s.close()
		p.counts.Cut++
	}
}

// HalfOpen lets every connection stay open while nothing passes any more, either way. New ones are well.
func (p *Proxy) HalfOpen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.open {
		s.dead.Store(true)
		p.counts.HalfOpened++
	}
}

// Close ends the proxy and every connection, and waits for that.
func (p *Proxy) Close() {
	p.listener.Close()
	p.Cut()
	p.done.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.DialTimeout("tcp", p.to, 2*time.Second) //nolint:noctx // it is bounded by its time-out
		if err != nil {
			client.Close()
			continue
		}
		s := &session{client: client, server: server}
		p.mu.Lock()
		p.open[s] = struct{}{}
		p.mu.Unlock()
		p.done.Go(func() { p.serve(s) })
	}
}

// serve passes on what comes, until either side ends.
func (p *Proxy) serve(s *session) {
	var both sync.WaitGroup
	both.Go(func() { p.pass(s, s.client, s.server, p.dropsAck) })
	both.Go(func() { p.pass(s, s.server, s.client, p.dropsAnswer) })
	both.Wait()
	p.mu.Lock()
	delete(p.open, s)
	p.mu.Unlock()
}

// delayed is a frame that is due at a time.
type delayed struct {
	frame []byte
	due   time.Time
}

// pass passes frames one way, in order. Reading goes on while frames wait for their time.
func (p *Proxy) pass(s *session, from io.Reader, to io.Writer, drops func(frame) bool) {
	defer s.close()
	waiting := make(chan delayed, 1<<14)
	var writer sync.WaitGroup
	writer.Go(func() { p.write(s, to, waiting) })
	defer writer.Wait()
	defer close(waiting)
	reader := bufio.NewReaderSize(from, 1<<16)
	for {
		f, err := readFrame(reader)
		if err != nil {
			return
		}
		if s.dead.Load() || drops(f) {
			continue
		}
		waiting <- delayed{f.bytes, time.Now().Add(p.delay())}
	}
}

func (p *Proxy) write(s *session, to io.Writer, waiting <-chan delayed) {
	failed := false
	for d := range waiting {
		if left := time.Until(d.due); left > 0 && !failed {
			<-time.After(left)
		}
		if failed || s.dead.Load() {
			continue
		}
		if _, err := to.Write(d.frame); err != nil {
			failed = true
			s.close() // the reader meets that, and ends
		}
	}
}

func (p *Proxy) delay() time.Duration {
	d := p.harm.Load().Delay
	if d == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return d + time.Duration(p.rng.Int64N(int64(d/2)+1))
}

func (p *Proxy) dropsAck(f frame) bool {
	if !f.isAck() {
		return false
	}
	return p.lot(p.harm.Load().DropAcks, func(c *Counts) { c.DroppedAcks++ })
}

func (p *Proxy) dropsAnswer(f frame) bool {
	if !f.isAnswer() {
		return false
	}
	return p.lot(p.harm.Load().DropAnswers, func(c *Counts) { c.DroppedAnswers++ })
}

func (p *Proxy) lot(share float64, count func(*Counts)) bool {
	if share == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rng.Float64() >= share {
		return false
	}
	count(&p.counts)
	return true
}

// frame is one operation of the protocol, with its payload.
type frame struct {
	bytes   []byte
	fields  [][]byte // of the control line
	payload []byte   // of PUB, HPUB, MSG and HMSG
}

// isAck tells whether it acks a delivery. Other words about one (in progress, give back) pass.
func (f frame) isAck() bool {
	return len(f.fields) > 1 && bytes.HasSuffix(f.fields[0], []byte("PUB")) && bytes.HasPrefix(f.fields[1], []byte("$JS.ACK.")) &&
		bytes.HasPrefix(f.payload, []byte("+ACK"))
}

// isAnswer tells whether it is the server's answer to a publish.
func (f frame) isAnswer() bool {
	return len(f.fields) > 1 && bytes.HasSuffix(f.fields[0], []byte("MSG")) && bytes.HasPrefix(f.fields[1], []byte("_INBOX.")) &&
		bytes.HasPrefix(f.payload, []byte(`{"stream":`))
}

var errTooLong = errors.New("the control line is too long")

// readFrame reads one operation.
func readFrame(r *bufio.Reader) (frame, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return frame{}, err
	}
	if len(line) > 1<<20 {
		return frame{}, errTooLong
	}
	f := frame{bytes: line, fields: bytes.Fields(line)}
	if len(f.fields) == 0 || !carries(f.fields[0]) {
		return f, nil
	}
	size, err := strconv.Atoi(string(f.fields[len(f.fields)-1]))
	if err != nil || size < 0 {
		return f, fmt.Errorf("control line %q: no size", line)
	}
	control := len(line)
	f.bytes = append(f.bytes, make([]byte, size+len("\r\n"))...)
	_, err = io.ReadFull(r, f.bytes[control:])
	f.payload = f.bytes[control:]
	return f, err
}

// carries tells whether an operation has a payload.
func carries(op []byte) bool {
	switch string(bytes.ToUpper(op)) {
	case "PUB", "HPUB", "MSG", "HMSG":
		return true
	default:
		return false
	}
}
