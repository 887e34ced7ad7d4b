// Command thence runs Tengo scripts as durable jobs on NATS JetStream. See `thence --help`.
package main

import (
	"context"
	"io"
	"log"
	"os"

	"github.com/thence-dev/thence/scripting/sandbox"
)

func main() {
	sandbox.Main()
	// net/http writes to this log what a server sends unasked, which may repeat a secret that it was sent.
	log.SetOutput(io.Discard)
	os.Exit(run(context.Background(), os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
}
