// Package stripeapi is Stripe's API as a table: every operation of the OpenAPI document that stripe-mock is built from,
// with the parameters it takes. What scripts call an operation is what Stripe's own libraries call it; gen has the rule.
//
// The table is generated. To take a newer API, set stripe-mock's version in tools/stripe-mock.mod and run go generate.
package stripeapi

import (
	_ "embed"
	"sync"

	"github.com/thence-dev/thence/scripting/internal/apitable"
)

//go:generate go run ./gen -o stripe.table

//go:embed stripe.table
var table string

// API returns Stripe's table, read when it is first asked for.
var API = sync.OnceValue(func() *apitable.API {
	a, err := apitable.Parse(table)
	if err != nil {
		panic("stripe.table is damaged: " + err.Error()) // it is part of the program, and a test reads it
	}
	return a
})
