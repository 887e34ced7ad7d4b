package modules

import (
	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/stripeapi"
)

// newStripe makes the module stripe: all of Stripe's operations, and configure.
func newStripe(r *Run) tengo.Object { return newAPI(r, stripeapi.API()) }
