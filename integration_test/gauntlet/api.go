package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// api is an HTTP API that writes down what it was asked, and misbehaves as the path says: /ok answers at once, /slow
// takes its time, /refuse says 400, and /flaky fails the first try of a call, by 500, by 429 or by no answer at all, and
// then is well. It answers with what it was sent.
type api struct {
	server *http.Server
	url    string
	ended  chan error

	mu    sync.Mutex
	log   *json.Encoder // every request, in the order in which they ended
	asked []request
	tries map[string]int // by key
}

// request is a try of a call, as the API saw it.
type request struct {
	Key     string    `json:"key"`
	Path    string    `json:"path"`
	Context string    `json:"context"`
	I       int       `json:"i"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	Status  int       `json:"status"` // 0: the caller went away, or was left waiting
}

// startAPI serves the API and writes its log to path. Its end is close's.
func startAPI(listen, path string) (*api, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	a := &api{url: "http://" + l.Addr().String(), ended: make(chan error, 1), log: json.NewEncoder(file), tries: map[string]int{}}
	a.server = &http.Server{Handler: a, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		err := a.server.Serve(l)
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		a.ended <- errors.Join(err, file.Close())
	}()
	return a, nil
}

func (a *api) close() error {
	err := a.server.Close()
	return errors.Join(err, <-a.ended)
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked := request{Key: r.Header.Get("Idempotency-Key"), Path: r.URL.Path, Began: time.Now()}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err != nil || json.Unmarshal(body, &asked) != nil {
		http.Error(w, "want a JSON body", http.StatusUnprocessableEntity)
		return
	}
	asked.Status = a.behave(r, asked.Key)
	asked.Ended = time.Now()
	a.record(asked)
	if asked.Status == 0 {
		panic(http.ErrAbortHandler) // else net/http would answer 200
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(asked.Status)
	_, _ = w.Write(body)
}

// behave takes the time that the path says, and returns the status; 0: no answer.
func (a *api) behave(r *http.Request, key string) int {
	switch r.URL.Path {
	case "/ok":
		return http.StatusOK
	case "/slow":
		return wait(r, time.Duration(20+digest(key)%100)*time.Millisecond, http.StatusOK)
	case "/refuse":
		return http.StatusBadRequest
	case "/flaky":
		if a.try(key) > 1 {
			return http.StatusOK
		}
		switch digest(key) % 8 {
		case 0:
			return wait(r, time.Minute, 0)
		case 1, 2, 3:
			return http.StatusTooManyRequests
		}
		return http.StatusInternalServerError
	}
	return http.StatusNotFound
}

// wait lets the caller wait, for as long as it will.
func wait(r *http.Request, d time.Duration, status int) int {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return status
	case <-r.Context().Done():
		return 0
	}
}

func digest(key string) uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, key)
	return h.Sum32()
}

func (a *api) try(key string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tries[key]++
	return a.tries[key]
}

func (a *api) record(r request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r)
	_ = a.log.Encode(r) // the checks use what is in memory; the file is for people
}

// requests are those that have ended so far.
func (a *api) requests() []request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]request(nil), a.asked...)
}
