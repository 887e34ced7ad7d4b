package stripefake

import (
	"fmt"
	"net/http"
	"slices"
)

// object is one of Stripe's objects, as JSON shows it. An object in the store is replaced, never changed, so that
// answers may share it.
type object map[string]any

func (o object) text(name string) string {
	s, _ := o[name].(string)
	return s
}

func (o object) number(name string) int64 {
	n, _ := o[name].(int64)
	return n
}

// with returns a copy that has the changes as well.
func (o object) with(changes object) object {
	changed := make(object, len(o)+len(changes))
	for name, value := range o {
		changed[name] = value
	}
	for name, value := range changes {
		changed[name] = value
	}
	return changed
}

// store holds the objects of one Server, which guards it.
type store struct {
	objects map[string]object
	order   []string       // ids, oldest first
	counts  map[string]int // by prefix
}

func newStore() store {
	return store{objects: make(map[string]object), counts: make(map[string]int)}
}

// next makes an id: cus_0001, cus_0002.
func (s *store) next(prefix string) string {
	s.counts[prefix]++
	return fmt.Sprintf("%s_%04d", prefix, s.counts[prefix])
}

func (s *store) put(o object) object {
	id := o.text("id")
	if _, ok := s.objects[id]; !ok {
		s.order = append(s.order, id)
	}
	s.objects[id] = o
	return o
}

// get returns an object of that resource, deleted ones as well.
func (s *store) get(resource, id string) (object, bool) {
	o, ok := s.objects[id]
	return o, ok && o["object"] == resource
}

// find returns the object that a call's URL names. A deleted one counts as missing.
func (s *store) find(resource string, c *call) (object, *apiError) {
	o, ok := s.get(resource, c.id)
	if !ok || o["deleted"] == true {
		return nil, missing(http.StatusNotFound, resource, "id", c.id)
	}
	return o, nil
}

// checkCustomer refuses a customer parameter that names none. No parameter is fine.
func (s *store) checkCustomer(p params) *apiError {
	id := p.text("customer")
	o, ok := s.get("customer", id)
	if id != "" && (!ok || o["deleted"] == true) {
		return missing(http.StatusBadRequest, "customer", "customer", id)
	}
	return nil
}

// created is the time as Stripe's objects show it.
func (s *Server) created() int64 {
	return s.now().Unix()
}

// retrieve answers with one object; a deleted one says that it is.
func (s *Server) retrieve(resource string) operationFunc {
	return func(c *call) (any, *apiError) {
		o, ok := s.store.get(resource, c.id)
		if !ok {
			return nil, missing(http.StatusNotFound, resource, "id", c.id)
		}
		return o, nil
	}
}

// update answers with an object that has been changed; a deleted one counts as missing.
func (s *Server) update(resource string, changes func(old object, p params) object) operationFunc {
	return func(c *call) (any, *apiError) {
		o, refusal := s.store.find(resource, c)
		if refusal != nil {
			return nil, refusal
		}
		return s.store.put(o.with(changes(o, c.params))), nil
	}
}

// delete leaves of an object its id, and that it is deleted.
func (s *Server) delete(resource string) operationFunc {
	return func(c *call) (any, *apiError) {
		o, refusal := s.store.find(resource, c)
		if refusal != nil {
			return nil, refusal
		}
		return s.store.put(object{"id": o["id"], "object": resource, "deleted": true}), nil
	}
}

// list answers with one page, newest first: limit, starting_after, and the filters customer, email,
// product and payment_intent.
func (s *Server) list(resource string) operationFunc {
	return func(c *call) (any, *apiError) {
		limit, given, refusal := c.params.integer("limit")
		if refusal == nil && given && (limit < 1 || limit > 100) {
			refusal = invalid("parameter_invalid_integer", "limit", "Invalid integer: limit must be between 1 and 100.")
		}
		if refusal != nil {
			return nil, refusal
		}
		if !given {
			limit = 10
		}
		found := s.page(resource, c.params)
		more := int64(len(found)) > limit
		if more {
			found = found[:limit]
		}
		return object{"object": "list", "url": c.path, "has_more": more, "data": found}, nil
	}
}

// page returns what follows starting_after and passes the filters, newest first.
func (s *Server) page(resource string, p params) []object {
	found := []object{}
	after := p.text("starting_after")
	for i := len(s.store.order) - 1; i >= 0; i-- {
		o, ok := s.store.get(resource, s.store.order[i])
		switch {
		case !ok || o["deleted"] == true:
		case after != "":
			if o["id"] == after {
				after = ""
			}
		case !slices.ContainsFunc(filters, func(name string) bool { return !matchesFilter(o, p, name) }):
			found = append(found, o)
		}
	}
	return found
}

var filters = []string{"customer", "email", "product", "payment_intent"}

func matchesFilter(o object, p params, name string) bool {
	return p.text(name) == "" || o[name] == p.text(name)
}

// echo copies parameters into changes as they were sent. An empty value unsets.
func echo(changes object, p params, names ...string) {
	for _, name := range names {
		value, ok := p[name]
		if value == "" {
			value = nil
		}
		if ok {
			changes[name] = value
		}
	}
}

// mergeMetadata adds the metadata of p to the old one. An empty value takes a key out, empty metadata takes all.
func mergeMetadata(old any, p params) object {
	merged := object{}
	if before, ok := old.(object); ok && p["metadata"] != "" {
		merged = before.with(nil)
	}
	for name, value := range p.object("metadata") {
		merged[name] = value
		if value == "" {
			delete(merged, name)
		}
	}
	return merged
}
