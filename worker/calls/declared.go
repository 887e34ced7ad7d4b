package calls

import "sync"

// Declared are the services of a pool as they are declared now. It is safe for concurrent use.
type Declared struct {
	mu      sync.Mutex
	now     Services
	changed chan struct{}
}

// Declare makes the declaration that a worker begins with.
func Declare(s Services) *Declared { return &Declared{now: s, changed: make(chan struct{})} }

// Now returns the services, and a channel that is closed once there are others.
func (d *Declared) Now() (Services, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now, d.changed
}

// Services returns the services.
func (d *Declared) Services() Services {
	s, _ := d.Now()
	return s
}

// Change puts other services in their place.
func (d *Declared) Change(s Services) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = s
	close(d.changed)
	d.changed = make(chan struct{})
}
