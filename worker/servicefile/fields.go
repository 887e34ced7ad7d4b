package servicefile

import (
	"os"
	"path/filepath"
	"time"

	"github.com/thence-dev/thence/worker/calls"
)

// Patterns of texts, which the schema has as well. What they leave open, [calls.Service.Check] says.
const (
	urlPattern    = `^https?://[^/?#@*\s]+(/[^?#\s]*)?$`
	headerPattern = "^[a-zA-Z0-9!#$%&'*+.^_`|~-]+$"
	secretPattern = `^[a-zA-Z0-9_-][a-zA-Z0-9_.-]*$`
)

// fields are those of a service, in the order in which they are shown.
var fields = []field{
	{"url", "Base URLs that the service owns: a call to a URL below one of them is a call to this service. Required, but of default and stripe.",
		list(text("a URL such as https://api.acme.com", urlPattern, addURL))},
	{"endpoint", "Where requests are sent in place of the URLs, for tests and gateways.",
		text("a URL such as http://127.0.0.1:8080", urlPattern, func(s *calls.Service, v string) { s.Endpoint = v })},
	{"auth", "Authentication that is put on every request which brings no such header itself. Secrets are named, and put in where the request is sent.",
		oneOf(authFields...)},
	{"inline", "Calls that carry a secret may come from inline source too, not from library scripts alone. Whoever may publish a job may publish source. Default false.",
		yes(func(s *calls.Service, v bool) { s.Inline = v })},
	{"max_in_flight", "Calls under way at a time, over all workers of the pool. Default 1000, or what an operator has set on the consumer; with a rate, what that can make use of.",
		number(1, 100_000, func(s *calls.Service, v int) { s.MaxInFlight = v })},
	{"rate", "How many calls may begin in a time, over all workers of the pool, at even distances. Default: any number.",
		textOr(rateText, objectWith([]string{"calls"}, rateFields...))},
	{"breaker", "When the whole pool leaves the service alone since it fails, for a while and then longer; or off: never.",
		wordOr("off", func(s *calls.Service) { s.Breaker.Off = true }, breakerFields...)},
	{"timeout", "How long one try may take.", object(timeoutFields...)},
	{"retry", "Which tries are repeated, and when; or never: a call is sent once at most, and its error script hears outcome_unknown where nobody can know what became of it.",
		wordOr("never", func(s *calls.Service) { s.Never = true }, retryFields...)},
	{"idempotency_header", "Header that carries the call's key, the same on every try, of a POST or PATCH; none: it is not sent. Default Idempotency-Key.",
		text("the name of a header, or none", headerPattern, func(s *calls.Service, v string) { s.IdempotencyHeader = v })},
	{"error_member", "A JSON object with a member \"error\" is a failure whatever its status, as Stripe has it. Default false.",
		yes(func(s *calls.Service, v bool) { s.ErrorMember = v })},
	{"response_limit", "Bytes of an answer's body, unzipped; a larger one is the failure too_large. One over 256KiB is stored apart, and read in parts (http.part); it is not searched for error_member. Default 256KiB, at most 64MiB.",
		size(calls.MaxResponse, func(s *calls.Service, v int) { s.ResponseLimit = v })},
	{"redirects", "How many redirects a GET or HEAD follows; 0 is none. Default 5.", number(0, 20, func(s *calls.Service, v int) {
		s.Redirects = v
		if v == 0 {
			s.Redirects = -1
		}
	})},
	{"allow_private", "Loopback and private addresses may be reached at the service's own URLs. Default false.",
		yes(func(s *calls.Service, v bool) { s.AllowPrivate = v })},
	{"ports", "Ports that may be reached there. Default: any where there is a url or allow_private, else 80 and 443.",
		list(number(1, 65535, func(s *calls.Service, v int) { s.Ports = append(s.Ports, v) }))},
	{"ca", "File of certificates, in PEM, by which the service's own must be signed. It lies relative to this file. Default: the system's.",
		rule{map[string]any{"type": "string", "minLength": 1}, readCA}},
}

var authFields = []field{
	{"bearer", "Name of the secret that is sent as Authorization: Bearer.", text("the name of a secret, such as acme_key", secretPattern, func(s *calls.Service, v string) {
		s.Auth.Kind, s.Auth.Secret = calls.AuthBearer, v
	})},
	{"basic", "User, and name of the secret that is the password.", objectWith([]string{"secret"},
		field{"user", "The user.", text("a user, without a colon", "^[^:]+$", func(s *calls.Service, v string) { s.Auth.Kind, s.Auth.User = calls.AuthBasic, v })},
		field{"secret", "Name of the secret that is the password.", text("the name of a secret, such as acme_key", secretPattern, func(s *calls.Service, v string) {
			s.Auth.Kind, s.Auth.Secret = calls.AuthBasic, v
		})},
	)},
	{"header", "A header, and name of the secret that is its value.", objectWith([]string{"name", "secret"},
		field{"name", "The header.", text("the name of a header", headerPattern, func(s *calls.Service, v string) { s.Auth.Kind, s.Auth.Header = calls.AuthHeader, v })},
		field{"secret", "Name of the secret that is its value.", text("the name of a secret, such as acme_key", secretPattern, func(s *calls.Service, v string) {
			s.Auth.Kind, s.Auth.Secret = calls.AuthHeader, v
		})},
	)},
}

var timeoutFields = []field{
	{"total", "From dialling to the last byte, redirects included; a script may ask for another. Default 30s.",
		duration(func(s *calls.Service, v time.Duration) { s.Timeout = v })},
	{"connect", "For a connection, and for TLS again. Default 10s.", duration(func(s *calls.Service, v time.Duration) { s.ConnectTimeout = v })},
	{"first_byte", "From the last byte sent to the answer's first, of requests of up to 16 KiB and over HTTP/2. Default: what total leaves.", duration(func(s *calls.Service, v time.Duration) { s.FirstByte = v })},
}

var retryFields = []field{
	{"attempts", "Tries before the failure is final. Default 8.", number(1, 1000, func(s *calls.Service, v int) { s.Attempts = v })},
	{"backoff", "Wait before the second try, doubled each time, with jitter. Default 500ms.", duration(func(s *calls.Service, v time.Duration) { s.Backoff = v })},
	{"max_wait", "Longest wait between tries, unless the API asks for a longer one (Retry-After). Default 5m.", duration(func(s *calls.Service, v time.Duration) { s.MaxWait = v })},
	{"max_age", "From when the call was queued to its last try: APIs forget idempotency keys. Default 23h.", duration(func(s *calls.Service, v time.Duration) { s.MaxAge = v })},
	{"statuses", "Statuses that are tried again. Stripe-Should-Retry in an answer decides before them. Default 408, 409, 425, 429 and 5xx but 501.",
		list(scalar(map[string]any{"type": []string{"string", "integer"}, "pattern": "^[345](xx|[0-9]{2})$", "minimum": 300, "maximum": 599}, "a status from 300 to 599 such as 429, or a class such as 5xx",
			func(s *calls.Service, v string) bool {
				s.RetryOn = append(s.RetryOn, v)
				return v != ""
			}))},
}

var rateFields = []field{
	{"calls", "Calls in a second, minute or hour.", rateText},
	{"burst", "Calls that may begin at once after a silence. Default 1.", number(1, 100_000, func(s *calls.Service, v int) { s.Rate.Burst = v })},
}

var rateText = scalar(map[string]any{"type": "string", "pattern": "^0*[1-9][0-9]* */ *[smh]$", "examples": []string{"25/s", "100/m", "1000/h"}},
	"calls in a time, such as 25/s, 100/m or 1000/h", func(s *calls.Service, word string) bool {
		rate, err := calls.ParseRate(word)
		s.Rate.Calls, s.Rate.Per = rate.Calls, rate.Per
		return err == nil
	})

var breakerFields = []field{
	{"failures", "Tries of one worker that failed within the window, by connection, time-out or 5xx, and are half of its tries there or more. Default 10.",
		number(1, 100_000, func(s *calls.Service, v int) { s.Breaker.Failures = v })},
	{"window", "How far back tries count. Default 30s.", duration(func(s *calls.Service, v time.Duration) { s.Breaker.Window = v })},
	{"max_pause", "Longest pause before the next probe; the first is a second. Default 1m.", duration(func(s *calls.Service, v time.Duration) { s.Breaker.MaxPause = v })},
}

// addURL adds a base URL: the first is the service's own, the others count as well.
func addURL(s *calls.Service, v string) {
	if s.URL == "" {
		s.URL = v
		return
	}
	s.MoreURLs = append(s.MoreURLs, v)
}

func readCA(r *reader, v value, s *calls.Service) {
	path, ok := v.word()
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.dir, path)
	}
	pem, err := os.ReadFile(path)
	if !ok || err != nil {
		r.problem(v.node, "%s: want a file of certificates: %v", v.path, err)
		return
	}
	s.CA = pem
}
