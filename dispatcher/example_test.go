package dispatcher_test

import (
	"context"
	"fmt"
	"os"
	"testing/fstest"
	"time"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/worker"
)

// A job is dispatched, a worker runs it, and the caller gets its result.
func Example() {
	store, err := os.MkdirTemp("", "thence-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(store) }()
	server, err := embedded.Start(embedded.Options{Store: store, MaxStore: 16 << 30})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	nc, err := server.Connect()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	library, err := scripting.NewLibrary(fstest.MapFS{"add.tengo": &fstest.MapFile{Data: []byte(`
context := import("context")
job     := import("job")
context.set("total", context.get("total", 0) + data.amount)
job.result({total: context.get("total")})
`)}})
	if err != nil {
		fmt.Println(err)
		return
	}
	w, err := worker.New(worker.Config{Conn: nc, Pool: "payments", Library: library, Runner: scripting.NewEngine(library)})
	if err != nil {
		fmt.Println(err)
		return
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	<-w.Ready()

	d, err := dispatcher.New(nc, dispatcher.Config{Caller: "shop", Worker: "payments"})
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := d.Dispatch(ctx, dispatcher.Job{Context: "cus_42", Script: "add", Data: map[string]any{"amount": 2000}})
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := d.Await(ctx, receipt)
	fmt.Println(report.Status, string(report.Result), err)
	stop()
	fmt.Println(<-ended)
	// Output:
	// done {"total":2000} <nil>
	// <nil>
}
