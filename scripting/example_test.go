package scripting_test

import (
	"context"
	"errors"
	"fmt"
	"testing/fstest"
	"time"

	"github.com/thence-dev/thence/scripting"
)

// A script asks for a call and ends; its answer is another job, for another script.
func Example() {
	lib, err := scripting.NewLibrary(fstest.MapFS{
		"greeted.tengo": {Data: []byte("// Runs when the greeting has been sent.\nimport(\"context\").set(\"greeted\", data.id)")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	engine := scripting.NewEngine(lib)
	out, err := engine.Run(context.Background(), scripting.Input{
		Script: scripting.Script{Source: `
http := import("http")
print("greeting", data.name)
http.post("https://api.example.com/greetings", {json: {to: data.name}, bearer: secret("api_key"), then: "greeted"})`},
		Job: scripting.Job{ID: "job_1", Sequence: 42, Time: time.Now(), Data: []byte(`{"name": "Ada"}`)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(out.Output)
	for _, e := range out.Effects {
		fmt.Println(e.Call.ID, e.Call.Method, e.Call.URL, string(e.Call.Body), "then", e.Call.Then)
	}
	// Output:
	// greeting Ada
	// 42-0 POST https://api.example.com/greetings {"to":"Ada"} then greeted
}

func ExampleError() {
	_, err := scripting.NewEngine(nil).Run(context.Background(), scripting.Input{
		Script: scripting.Script{Name: "order", Source: "order := {total: 5}\nshare := order.total / order.count"},
	})
	var e *scripting.Error
	if errors.As(err, &e) {
		fmt.Println(e.Kind)
		fmt.Println(e)
	}
	// Output:
	// runtime
	// order:2:10: invalid operation: int / undefined
	//
	//     2 | share := order.total / order.count
	//       |          ^
}

func ExampleInlineName() {
	fmt.Println(scripting.InlineName(`print("hi")`))
	// Output: inline-336f365e3407c762
}
