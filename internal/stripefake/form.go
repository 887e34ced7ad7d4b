package stripefake

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const maxBody = 1 << 20

// readForm reads the query and a form-encoded body. It returns what it could read beside the refusal.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, *apiError) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if r.ContentLength != 0 && r.Method == http.MethodPost {
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if kind != "application/x-www-form-urlencoded" {
			return r.URL.Query(), invalid("", "", "Invalid request (check that your POST content type is "+
				"application/x-www-form-urlencoded).")
		}
	}
	if err := r.ParseForm(); err != nil {
		return r.URL.Query(), invalid("", "", "Invalid request: "+err.Error())
	}
	return r.Form, nil
}

// params are a form's parameters, nested as their keys say: strings, maps, and lists.
type params map[string]any

// parseParams nests a form: items[0][price]=p becomes {"items": [{"price": "p"}]}. A container whose keys are all
// numbers, or empty as in expand[]=x, is a list.
func parseParams(form url.Values) (params, *apiError) {
	root := make(map[string]any)
	for _, key := range sortedKeys(form) {
		names, ok := splitKey(key)
		if !ok {
			return nil, invalid("", key, "Invalid parameter name: "+key)
		}
		for _, value := range form[key] {
			if !insert(root, names, value) {
				return nil, invalid("", key, "Invalid "+names[0]+": it is given both as a value and as an object.")
			}
		}
	}
	nested := make(params, len(root))
	for name, value := range root {
		nested[name] = listed(value)
	}
	return nested, nil
}

// splitKey splits items[0][price] into items, 0, price.
func splitKey(key string) ([]string, bool) {
	first, rest, nested := strings.Cut(key, "[")
	if first == "" || strings.Contains(first, "]") {
		return nil, false
	}
	if !nested {
		return []string{first}, true
	}
	rest, closed := strings.CutSuffix(rest, "]")
	names := append([]string{first}, strings.Split(rest, "][")...)
	return names, closed && !strings.ContainsAny(strings.Join(names, ""), "[]")
}

// insert puts value where names say. The empty name of a[]=x stands for the next free number.
func insert(container map[string]any, names []string, value string) bool {
	name := names[0]
	if name == "" {
		name = strconv.Itoa(len(container))
	}
	if len(names) == 1 {
		_, taken := container[name].(map[string]any)
		container[name] = value
		return !taken
	}
	child, ok := container[name].(map[string]any)
	if !ok {
		if container[name] != nil {
			return false
		}
		child = make(map[string]any)
		container[name] = child
	}
	return insert(child, names[1:], value)
}

// listed turns the maps in value whose keys are all numbers into lists, in the order of the numbers.
func listed(value any) any {
	m, ok := value.(map[string]any)
	if !ok {
		return value
	}
	numbers := make([]int, 0, len(m))
	for name, v := range m {
		m[name] = listed(v)
		if n, err := strconv.Atoi(name); err == nil && n >= 0 && strconv.Itoa(n) == name {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) < len(m) {
		return m
	}
	slices.Sort(numbers)
	list := make([]any, 0, len(numbers))
	for _, n := range numbers {
		list = append(list, m[strconv.Itoa(n)])
	}
	return list
}

// text returns a parameter that is a plain value, or "".
func (p params) text(name string) string {
	s, _ := p[name].(string)
	return s
}

// object returns a parameter that has members, or nil.
func (p params) object(name string) params {
	m, _ := p[name].(map[string]any)
	return m
}

// integer returns a parameter that is a whole number; ok is false when it is not there.
func (p params) integer(name string) (n int64, ok bool, refusal *apiError) {
	s := p.text(name)
	if s == "" {
		return 0, false, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, true, invalid("parameter_invalid_integer", name, "Invalid integer: "+s)
	}
	return n, true, nil
}

// require refuses when one of the parameters is missing.
func (p params) require(names ...string) *apiError {
	for _, name := range names {
		if value, ok := p[name]; !ok || value == "" {
			return invalid("parameter_missing", name, fmt.Sprintf("Missing required param: %s.", name))
		}
	}
	return nil
}
