package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox"
)

// A script that would take all memory costs its own job; the next one runs as ever. The program's main (here TestMain)
// has called sandbox.Main.
func Example() {
	s, err := sandbox.New(nil, sandbox.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for _, source := range []string{
		`all := []; for { all = append(all, bytes(4000000)) }`,
		`print("hello")`,
	} {
		out, err := s.Run(context.Background(), scripting.Input{Script: scripting.Script{Source: source}})
		var failed *scripting.Error
		if errors.As(err, &failed) {
			fmt.Println(failed.Kind+":", failed.Message)
			continue
		}
		fmt.Print(out.Output)
	}
	// Output:
	// memory_limit: the script needed more memory than its limit of 64 MiB: keep less at a time, or raise the pool's limit
	// hello
}
