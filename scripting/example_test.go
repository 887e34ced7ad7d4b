package scripting_test

import (
	"context"
	"errors"
	"fmt"
	"testing/fstest"
	"time"

	"github.com/thence-dev/thence/scripting"
)

func ExampleEngine_Run() {
	library, err := scripting.NewLibrary(fstest.MapFS{"greet.tengo": &fstest.MapFile{Data: []byte(`
context := import("context")
http    := import("http")

context.set("greeted", context.get("greeted", 0) + 1)
http.post("https://api.example.com/greetings", {json: {to: data.name}})
print("hello,", data.name)
`)}})
	if err != nil {
		fmt.Println(err)
		return
	}
	outcome, err := scripting.NewEngine(library).Run(context.Background(), scripting.Input{
		Script: scripting.Script{Name: "greet"},
		Job:    scripting.Job{ID: "job-1", Sequence: 17, Worker: "payments", Context: "cus_42", Time: time.Unix(0, 0), Data: []byte(`{"name":"Ada"}`)},
		State:  []byte(`{"greeted":2}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	call := outcome.Effects[0].Call
	fmt.Printf("state   %s\n", outcome.State)
	fmt.Printf("output  %s", outcome.Output)
	fmt.Printf("effect  %s %s %s\n", call.Method, call.URL, call.Body)
	// Output:
	// state   {"greeted":3}
	// output  hello, Ada
	// effect  POST https://api.example.com/greetings {"to":"Ada"}
}

func ExampleError() {
	engine := scripting.NewEngine(nil)
	_, err := engine.Run(context.Background(), scripting.Input{Script: scripting.Script{Name: "main", Source: "a := 1\nb := a.x.y"}})
	var failed *scripting.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Kind, failed.Line, failed.Column)
	}
	// Output: runtime 2 8
}
