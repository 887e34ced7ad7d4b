package servicefile

import (
	"context"
	"log/slog"
	"reflect"
	"time"

	"github.com/thence-dev/thence/worker/calls"
)

// Watch looks at a file every so often until ctx ends, and hands what it holds to apply when that is another than
// before: than last, at first. A file that can't be used, now or by apply, changes nothing; the log says so once for
// each error. The files that it names are looked at as well.
func Watch(ctx context.Context, path string, every time.Duration, last []calls.Service, apply func([]calls.Service) error, log *slog.Logger) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		services, err := Load(path)
		if err == nil && reflect.DeepEqual(services, last) {
			said = ""
			continue
		}
		if err == nil {
			err = apply(services)
		}
		if err != nil {
			if said != err.Error() {
				said = err.Error()
				log.Error("the services can't be read again: those from before stay", "file", path, "error", err)
			}
			continue
		}
		last, said = services, ""
		log.Info("services are read again", "file", path, "services", len(services))
	}
}
