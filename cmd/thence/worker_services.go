package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/worker"
	"github.com/thence-dev/thence/worker/servicefile"
)

// declaration is where a worker's services come from: flags, which stay, and a file, which is followed.
type declaration struct {
	flags   []worker.Service
	builtin []worker.Service // unless the file has one of the name
	file    string
	inFile  []worker.Service // when the worker was made
}

// servicesEvery is how often the file of services is looked at.
const servicesEvery = time.Second

// declared are the services that the flags name, themselves or in a file.
func (w workerFlags) declared() (declaration, error) {
	d := declaration{file: w.file}
	for _, text := range w.services {
		s, err := w.declare(text)
		if err != nil {
			return d, err
		}
		d.flags = append(d.flags, s)
	}
	d.builtin = []worker.Service{{Name: "stripe", Inline: w.inline.secrets}, {Name: "default", Inline: w.inline.secrets, AllowPrivate: w.allowPrivate}}
	if d.file == "" {
		return d, nil
	}
	var err error
	if d.inFile, err = servicefile.Load(d.file); err != nil {
		return d, fmt.Errorf("--services %s can't be used:\n%w", d.file, err)
	}
	return d, nil
}

func (w workerFlags) declare(text string) (worker.Service, error) {
	name, base, ok := strings.Cut(text, "=")
	u, err := url.Parse(base)
	if !ok || !job.ValidService(name) || err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return worker.Service{}, fmt.Errorf("--service %q: want NAME=URL, such as acme=https://api.acme.com", text)
	}
	s := worker.Service{Name: name, URL: base, AllowPrivate: true, Inline: w.inline.secrets}
	if name == "stripe" {
		s.URL, s.Endpoint = "", base
	}
	return s, nil
}

// all are the services of flags and file together, and the built-in ones as the flags have them.
func (d declaration) all(inFile []worker.Service) []worker.Service {
	all := slices.Concat(d.flags, inFile)
	for _, b := range d.builtin {
		if !slices.ContainsFunc(all, func(s worker.Service) bool { return s.Name == b.Name }) {
			all = append(all, b)
		}
	}
	return all
}

// follow declares what the file has, as it changes, until ctx ends.
func (d declaration) follow(ctx context.Context, w *worker.Worker, log *slog.Logger) {
	if d.file == "" {
		return
	}
	servicefile.Watch(ctx, d.file, servicesEvery, d.inFile, func(inFile []worker.Service) error { return w.Declare(d.all(inFile)...) }, log)
}
