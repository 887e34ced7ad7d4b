package stripefake

func newCustomer(id string, created int64) object {
	return object{
		"id":               id,
		"object":           "customer",
		"address":          nil,
		"balance":          int64(0),
		"created":          created,
		"currency":         nil,
		"default_source":   nil,
		"delinquent":       false,
		"description":      nil,
		"email":            nil,
		"invoice_settings": object{"default_payment_method": nil},
		"livemode":         false,
		"metadata":         object{},
		"name":             nil,
		"phone":            nil,
		"shipping":         nil,
		"tax_exempt":       "none",
	}
}

func (s *Server) createCustomer(c *call) (any, *apiError) {
	changes, refusal := customerChanges(object{}, c.params)
	if refusal != nil {
		return nil, refusal
	}
	return s.store.put(newCustomer(s.store.next("cus"), s.created()).with(changes)), nil
}

func (s *Server) updateCustomer(c *call) (any, *apiError) {
	o, refusal := s.store.find("customer", c)
	if refusal != nil {
		return nil, refusal
	}
	changes, refusal := customerChanges(o, c.params)
	if refusal != nil {
		return nil, refusal
	}
	return s.store.put(o.with(changes)), nil
}

func customerChanges(old object, p params) (object, *apiError) {
	changes := object{"metadata": mergeMetadata(old["metadata"], p)}
	echo(changes, p, "address", "description", "email", "name", "phone", "shipping", "tax_exempt")
	balance, given, refusal := p.integer("balance")
	if given {
		changes["balance"] = balance
	}
	return changes, refusal
}
