package modules

// operation is one of Stripe's operations: stripe.<resource>.<verb>. A path with {id} has the id as its first
// argument. The operation's name is what its scripts are called after: new_<name>_response and new_<name>_error.
type operation struct {
	resource, verb, method, path, name string
}

// operations is all that the module stripe knows: a new resource is new rows here.
var operations = []operation{
	{"customers", "create", "POST", "/v1/customers", "create_customer"},
	{"customers", "retrieve", "GET", "/v1/customers/{id}", "retrieve_customer"},
	{"customers", "update", "POST", "/v1/customers/{id}", "update_customer"},
	{"customers", "delete", "DELETE", "/v1/customers/{id}", "delete_customer"},
	{"customers", "list", "GET", "/v1/customers", "list_customers"},

	{"payment_intents", "create", "POST", "/v1/payment_intents", "create_payment_intent"},
	{"payment_intents", "retrieve", "GET", "/v1/payment_intents/{id}", "retrieve_payment_intent"},
	{"payment_intents", "update", "POST", "/v1/payment_intents/{id}", "update_payment_intent"},
	{"payment_intents", "confirm", "POST", "/v1/payment_intents/{id}/confirm", "confirm_payment_intent"},
	{"payment_intents", "cancel", "POST", "/v1/payment_intents/{id}/cancel", "cancel_payment_intent"},
	{"payment_intents", "capture", "POST", "/v1/payment_intents/{id}/capture", "capture_payment_intent"},
	{"payment_intents", "list", "GET", "/v1/payment_intents", "list_payment_intents"},

	{"subscriptions", "create", "POST", "/v1/subscriptions", "create_subscription"},
	{"subscriptions", "retrieve", "GET", "/v1/subscriptions/{id}", "retrieve_subscription"},
	{"subscriptions", "update", "POST", "/v1/subscriptions/{id}", "update_subscription"},
	{"subscriptions", "cancel", "DELETE", "/v1/subscriptions/{id}", "cancel_subscription"},
	{"subscriptions", "list", "GET", "/v1/subscriptions", "list_subscriptions"},
}
