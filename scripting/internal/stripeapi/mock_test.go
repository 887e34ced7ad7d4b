package stripeapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/internal/apitable"
	"github.com/thence-dev/thence/scripting/internal/stripeapi"
)

// TestStripeMock has a script call every operation, and sends what the script asked for to stripe-mock, which checks it
// against Stripe's own document: once with what is required and nothing else, and once with every parameter but expand,
// as what can be expanded stands in no type, and stripe-mock fails on what can't.
func TestStripeMock(t *testing.T) {
	if testing.Short() {
		t.Skip("builds stripe-mock")
	}
	mock := startStripeMock(t)
	t.Run("required", func(t *testing.T) {
		accepts(t, mock, func(p apitable.Prop) bool { return p.Required })
	})
	t.Run("every parameter", func(t *testing.T) {
		accepts(t, mock, func(p apitable.Prop) bool { return p.Name != "expand" })
	})
	t.Run("seed", func(t *testing.T) { testSeed(t, mock) })
	t.Run("refuses", func(t *testing.T) {
		status, _ := send(t, mock, &scripting.Call{Method: "POST", URL: "https://api.stripe.com/v1/payment_intents", Body: []byte("amount=1"),
			Header: []scripting.Header{{Name: "Authorization", Value: "Bearer ", Secret: "stripe_key"},
				{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}})
		if status != http.StatusBadRequest {
			t.Errorf("a payment intent without a currency is answered %d: stripe-mock's consent says nothing", status)
		}
	})
}

// accepts sends every operation, with those parameters that are wanted.
func accepts(t *testing.T, mock string, want func(apitable.Prop) bool) {
	t.Helper()
	engine := scripting.NewEngine(nil)
	accepted, all := 0, stripeapi.API().Operations()
	for _, op := range all {
		call := callOf(t, engine, op, want)
		if call == nil {
			continue
		}
		if status, answer := send(t, mock, call); status < 400 {
			accepted++
		} else {
			t.Errorf("%s: %s %s\n%s\nis answered %d: %.500s", op.FullName(), call.Method, call.URL, call.Body, status, answer)
		}
	}
	t.Logf("stripe-mock accepts %d of %d operations", accepted, len(all))
}

// callOf runs a script that calls an operation.
func callOf(t *testing.T, engine *scripting.Engine, op *apitable.Operation, want func(apitable.Prop) bool) *scripting.Call {
	t.Helper()
	params, err := stripeapi.API().Type(op.Params)
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]any{}
	if slices.ContainsFunc(params.Props, want) {
		members = sampleObject(t, params, want)
	}
	data, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	ids := strings.Repeat(`"id_123", `, len(op.PathParams()))
	source := fmt.Sprintf("stripe := import(\"stripe\")\nstripe.%s(%sdata, {then: \"\", catch: \"\"})", op.FullName(), ids)
	out, err := engine.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: source}, Job: scripting.Job{Data: data}})
	if err != nil {
		t.Errorf("%s\n%s\n%v", source, data, err)
		return nil
	}
	call := out.Effects[0].Call
	if call.Operation != op.Name {
		t.Errorf("%s: the call is named %s, want %s", op.FullName(), call.Operation, op.Name)
	}
	return call
}

// sample makes a value of a type, with those members of objects that are wanted.
func sample(t *testing.T, n int, want func(apitable.Prop) bool) any {
	t.Helper()
	typ, err := stripeapi.API().Type(n)
	if err != nil {
		t.Fatal(err)
	}
	switch typ.Kind {
	case apitable.Int, apitable.Time:
		return 1
	case apitable.Number:
		return 1.5
	case apitable.Bool:
		return true
	case apitable.Enum, apitable.Open:
		return typ.Values[len(typ.Values)-1]
	case apitable.Array:
		return []any{sample(t, typ.Elem, want)}
	case apitable.Map:
		return map[string]any{"key": sample(t, typ.Elem, want)}
	case apitable.Object:
		return sampleObject(t, typ, want)
	case apitable.Union:
		return sample(t, typ.Of[0], want)
	}
	return "x"
}

// sampleObject makes a map with the members that are wanted; with the first one, if none is: a form can't send a map
// that is empty.
func sampleObject(t *testing.T, typ *apitable.Type, want func(apitable.Prop) bool) map[string]any {
	t.Helper()
	members := map[string]any{}
	for _, p := range typ.Props {
		if want(p) {
			members[p.Name] = sample(t, p.Type, want)
		}
	}
	if len(members) == 0 && len(typ.Props) > 0 {
		first := typ.Props[0]
		members[first.Name] = sample(t, first.Type, want)
	}
	return members
}

func send(t *testing.T, mock string, call *scripting.Call) (status int, answer string) {
	t.Helper()
	u, err := url.Parse(call.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Scheme, u.Host = "http", mock
	req, err := http.NewRequestWithContext(t.Context(), call.Method, u.String(), bytes.NewReader(call.Body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range call.Header {
		if h.Secret != "" {
			h.Value += "sk_test_123"
		}
		req.Header.Set(h.Name, h.Value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// startStripeMock builds the pinned stripe-mock and runs it until the test ends. It returns its address.
func startStripeMock(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "stripe-mock")
	build := exec.CommandContext(t.Context(), "go", "build", "-modfile=tools/stripe-mock.mod", "-o", bin, "github.com/stripe/stripe-mock")
	build.Dir, build.Stderr = filepath.Join("..", "..", ".."), os.Stderr
	if err := build.Run(); err != nil {
		t.Fatalf("build stripe-mock: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, bin, "-http-addr", "127.0.0.1:0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(time.Minute, cancel)
	address, lines := "", bufio.NewScanner(stdout)
	for address == "" && lines.Scan() {
		_, address, _ = strings.Cut(lines.Text(), "Listening for HTTP at address: ")
	}
	late.Stop()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, stdout)
	}()
	t.Cleanup(func() {
		cancel()
		<-drained
		_ = cmd.Wait() // it was killed
	})
	if address == "" {
		t.Fatal("stripe-mock does not say where it listens")
	}
	return address
}
