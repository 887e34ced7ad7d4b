package sandbox

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// runProbe runs a probe, where there are any.
var runProbe func(name string, in scripting.Input) (*scripting.Outcome, error)

// oneLayerOff is the memory of children that say that they lack a layer.
const oneLayerOff = LeastMemory + 1

// faulty is the runner of children in tests: scripts named "fault X" and "probe X" are Go code that does X, as nothing
// but a mistake in the engine could.
type faulty struct{ scripting.Runner }

// A child runs before any init of a file that comes after main.go, so these are variables.
var _ = plantFaults()

func plantFaults() bool {
	engine := newRunner
	newRunner = func(l *scripting.Library) scripting.Runner { return faulty{engine(l)} }
	confineChild = func(memory int64) []wire.Layer {
		layers := confine(memory)
		if memory == oneLayerOff {
			layers[0].On, layers[0].Note = false, "as the test wants it"
		}
		return layers
	}
	return true
}

func (f faulty) Run(ctx context.Context, in scripting.Input) (*scripting.Outcome, error) {
	if name, ok := strings.CutPrefix(in.Script.Name, "probe "); ok {
		return runProbe(name, in)
	}
	if name, ok := strings.CutPrefix(in.Script.Name, "fault "); ok {
		faults[name]()
	}
	if (in.Script.Name == "faulty by data" || in.Script.Name == "named") && strings.Contains(string(in.Job.Data), `"exit":true`) {
		os.Exit(9)
	}
	return f.Runner.Run(ctx, in)
}

var faults = map[string]func(){
	"exit":  func() { os.Exit(7) },
	"panic": func() { panic("out of order") },
	"panic in a goroutine": func() {
		go panic("out of order")
		select {}
	},
	"stack":    func() { fmt.Println(deeper(1 << 30)) },
	"memory":   func() { keep(nil) },
	"hang":     func() { work(longest) },
	"deadlock": func() { select {} },
	"work":     func() { work(300 * time.Millisecond) },
	"cut off": func() { // in the middle of the answer to another job
		_, _ = os.Stdout.WriteString("\x00\x10\x00\x00\x06\npanic: " + canary + "\nfatal error: " + canary + "\n")
		os.Exit(7)
	},
	"canary in a panic": func() {
		go panic(canary + "\nfatal error: " + canary)
		select {}
	},
	"canary in a frame": func() {
		_, _ = os.Stdout.WriteString(canary)
		select {}
	},
	"write nonsense": func() {
		_, _ = os.Stdout.WriteString("GET / HTTP/1.1\r\n\r\n")
		select {}
	},
	"write a long frame": func() {
		_, _ = os.Stdout.Write([]byte{0xff, 0xff, 0xff, 0x7f, 6})
		select {}
	},
	"write a bad frame": func() {
		_, _ = os.Stdout.Write([]byte{2, 0, 0, 0, 6, 0xff})
		select {}
	},
	"answer another": func() {
		_, _ = os.Stdout.Write([]byte{11, 0, 0, 0, 6, 0x7f, 0, 0, 0, 1, 0, 0, 0, 0, 0})
		select {}
	},
}

// canary is the text of another job.
const canary = "zebra"

// work computes for as long as it says, of CPU time.
func work(d time.Duration) {
	for start := ownCPUTime(); ownCPUTime()-start < d; {
	}
}

func deeper(n int) int {
	if n == 0 {
		return 0
	}
	return deeper(n-1) + n
}

func keep(all [][]byte) {
	for {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = 1
		}
		all = append(all, b)
	}
}
