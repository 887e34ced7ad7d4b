package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/stream"
)

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of thence and of what it is made with",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versions()
			if a.json {
				return a.printJSON(v)
			}
			a.printf("thence %s\ngo %s\ntengo %s\nnats.go %s\nnats-server %s embedded, %s or newer needed\n",
				v["thence"], v["go"], v["tengo"], v["nats.go"], v["nats-server"], v["nats-server-min"])
			return nil
		},
	}
}

func versions() map[string]string {
	v := map[string]string{"thence": "(devel)", "go": runtime.Version(), "nats-server-min": stream.MinServer}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v["thence"] = info.Main.Version
	}
	names := map[string]string{
		"github.com/d5/tengo/v2": "tengo", "github.com/nats-io/nats.go": "nats.go", "github.com/nats-io/nats-server/v2": "nats-server",
	}
	for _, dep := range info.Deps {
		if name := names[dep.Path]; name != "" {
			v[name] = dep.Version
		}
	}
	return v
}
