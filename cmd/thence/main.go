// Command thence runs Tengo scripts as durable jobs on NATS JetStream. See `thence --help`.
package main

import (
	"context"
	"os"

	"github.com/thence-dev/thence/scripting/sandbox"
)

func main() {
	sandbox.Main()
	os.Exit(run(context.Background(), os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
}
