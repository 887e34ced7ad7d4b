package sandbox

import "runtime"

// spawner starts children from one thread that lives as long as the sandbox: the kernel ends a child when the thread
// that started it does, and Go's threads come and go.
type spawner struct {
	requests chan func()
	ended    chan struct{}
}

func (s *spawner) begin() {
	s.requests, s.ended = make(chan func()), make(chan struct{})
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		for f := range s.requests {
			f()
		}
	}()
}

// start starts a child. It must not be called after end.
func (s *spawner) start(memory int64, library []byte) (p *process, err error) {
	done := make(chan struct{})
	s.requests <- func() {
		defer close(done)
		p, err = start(memory, library)
	}
	<-done
	return p, err
}

func (s *spawner) end() {
	close(s.requests)
	<-s.ended
}
