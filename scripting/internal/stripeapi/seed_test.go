package stripeapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/thence-dev/thence/flows"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/internal/apitable"
	"github.com/thence-dev/thence/scripting/internal/stripeapi"
)

// chains are builders, one of each; what they create is answered like everything else of the seed.
const chains = `
stripe := import("stripe")
stripe.new_customer().email("ada@example.com").name("Ada").create()
stripe.new_product().name("Tea").create()
stripe.new_price().product("prod_1").unit_amount(900).currency("usd").recurring({interval: "month"}).create()
stripe.new_coupon().percent_off(25).duration("once").create()
stripe.new_payment_intent().amount(2000).currency("usd").customer("cus_1").add_payment_method_type("card").create()
stripe.new_subscription().customer("cus_1").add_price("price_monthly").add_price("price_seat", 3).create()
stripe.new_refund().payment_intent("pi_1").amount(500).create()`

// testSeed goes the whole way round with the shipped scripts, as far as stripe-mock can be Stripe: what each operation
// that has scripts of its own asks for, what stripe-mock answers, what the response script makes of that, and what the
// error script makes of a refusal.
func testSeed(t *testing.T, mock string) {
	library, err := scripting.NewLibrary(flows.FS)
	if err != nil {
		t.Fatal(err)
	}
	s := &seed{mock: mock, engine: scripting.NewEngine(library)}
	count := 0
	for _, op := range stripeapi.API().Operations() {
		if !slices.Contains(library.Names(), "new_"+op.Name+"_response") {
			continue
		}
		count++
		call := callOf(t, s.engine, op, func(p apitable.Prop) bool { return p.Required })
		call.Then, call.Catch = "new_"+op.Name+"_response", "new_"+op.Name+"_error"
		s.answered(t, call)
		s.refused(t, call)
	}
	if want := 36; count != want {
		t.Errorf("%d operations have scripts of their own, want %d", count, want)
	}
	out, err := s.engine.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: chains}})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Effects) != 7 {
		t.Errorf("the chains ask for %d calls, want 7", len(out.Effects))
	}
	for _, e := range out.Effects {
		s.answered(t, e.Call)
	}
}

// seed is the shipped library, with stripe-mock as Stripe.
type seed struct {
	mock   string
	engine *scripting.Engine
}

// answered hands stripe-mock's answer to the response script, which must find what it stores.
func (s *seed) answered(t *testing.T, call *scripting.Call) {
	t.Helper()
	status, answer := send(t, s.mock, call)
	if status != http.StatusOK {
		t.Errorf("%s: %s is answered %d: %s", call.Operation, call.Body, status, answer)
		return
	}
	state := s.take(t, call.Then, scripting.Job{Operation: call.Operation, Data: []byte(answer)})
	verb, what, _ := strings.Cut(call.Operation, "_")
	stored := state[what+"_id"]
	if verb == "list" {
		stored = state[what]
	}
	if gone := verb == "delete"; gone != (stored == nil) {
		t.Errorf("%s: of the answer %s it stores %v", call.Then, answer, state)
	}
}

// refused sends a call without its key, and hands the refusal to the error script.
func (s *seed) refused(t *testing.T, call *scripting.Call) {
	t.Helper()
	open := *call
	open.Header = slices.DeleteFunc(slices.Clone(call.Header), func(h scripting.Header) bool { return h.Secret != "" })
	status, answer := send(t, s.mock, &open)
	if status != http.StatusUnauthorized {
		t.Errorf("%s without a key is answered %d: %s", call.Operation, status, answer)
		return
	}
	failure, err := json.Marshal(map[string]any{"type": "http_error", "message": "refused", "status": status, "attempts": 1, "body": answer})
	if err != nil {
		t.Fatal(err)
	}
	state := s.take(t, call.Catch, scripting.Job{Operation: call.Operation, Failure: failure})
	if got, want := fmt.Sprint(state["last_error"]), "kind:authentication"; !strings.Contains(got, want) {
		t.Errorf("%s stores %s, want %s in it", call.Catch, got, want)
	}
}

// take runs the script that takes what came back, and returns the context's state after it.
func (s *seed) take(t *testing.T, script string, job scripting.Job) map[string]any {
	t.Helper()
	out, err := s.engine.Run(t.Context(), scripting.Input{Script: scripting.Script{Name: script}, Job: job})
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	state := map[string]any{}
	if err := json.Unmarshal(out.State, &state); err != nil {
		t.Fatal(err)
	}
	return state
}
