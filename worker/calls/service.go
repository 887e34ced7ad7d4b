// Package calls performs the HTTP calls that scripts asked for, and puts the answers back on the stream as jobs.
//
// A call waits as a message on <pool>.<context>.call.<service>. Each service has one consumer for the whole pool, so
// its max_ack_pending is the exact number of calls in flight over all workers. Before every try the performer asks the
// context's leader whether the call is still open (rule 11): no try begins that could know that its answer is
// recorded. A try that has to wait becomes a timer on the server (rule 12), never a sleeping goroutine. A call's
// Idempotency-Key is the same on every try. Before the only try of a call that is never tried twice, a message says that
// it is about to be sent (rule 13): nobody sends it again.
package calls

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// Service is an outside API as the pool knows it. The zero value of a field takes the default that it names.
type Service struct {
	Name     string        // [a-z][a-z0-9_-]*; owns the secrets whose names begin with it and _
	URL      string        // base that the service owns, such as https://api.stripe.com; empty: every URL that no other service owns
	MoreURLs []string      // further bases that it owns
	Endpoint string        // base that requests are sent to in place of them all, for tests and proxies; default: where they lead
	Timeout  time.Duration // of one try, from dialling to the last byte, redirects included; default 30s
	Attempts int           // tries before the failure is final; default 8
	Backoff  time.Duration // wait before the second try, doubled each time with jitter; default 500ms
	MaxWait  time.Duration // longest wait between tries, unless the API asks for a longer one (Retry-After); default 5m
	MaxAge   time.Duration // from when the call was queued to its last try; default 23h: Stripe forgets an Idempotency-Key after 24
	RetryOn  []string      // statuses that are tried again, such as 429 and 5xx; default 408, 409, 425, 429 and 5xx but 501
	Never    bool          // a call is sent once at most; where its outcome is not known, its error script hears so

	Off           bool // there is no such service: of default, URLs that no other service owns can't be called
	MaxInFlight   int  // calls under way, over all workers of the pool; default 1000, or what an operator has set; of one with a rate, what that can use
	ResponseLimit int  // bytes of an answer's body; default 256 KiB, at most MaxResponse: what is over 256 KiB is stored apart, see Body
	ErrorMember   bool // a JSON object with a member "error" is a failure whatever its status, as Stripe has it

	Breaker Breaker // when it is left alone since it fails
	Rate    Rate    // how many calls the pool may begin in a time; default: any number

	Auth              Auth   // put on every request that brings no such header itself
	IdempotencyHeader string // of a POST or PATCH; default Idempotency-Key; "none": none is sent
	Inline            bool   // calls that carry a secret may come from inline source, not from library scripts alone

	AllowPrivate   bool          // loopback and private addresses may be dialled at the service's own URLs
	Ports          []int         // that may be dialled there; default: any where it has a URL or allows private ones, else 80 and 443
	Redirects      int           // how many a GET or HEAD follows; default 5, negative: none
	CA             []byte        // certificates in PEM that its own must be signed by; default: the system's
	ConnectTimeout time.Duration // of dialling, and of TLS again; default 10s
	FirstByte      time.Duration // from the last byte sent to the answer's first, of requests of up to 16 KiB and over HTTP/2; default: what Timeout leaves

	limited bool // MaxInFlight was given
	byRate  bool // MaxInFlight is what the rate can make use of
}

// statusPattern is what RetryOn may have.
var statusPattern = regexp.MustCompile(`^[345](xx|[0-9]{2})$`)

// Auth is how a service is told who calls. The secret is put in where the request is sent.
type Auth struct {
	Kind   string // AuthBasic, AuthBearer or AuthHeader; empty: none
	Secret string // its name
	User   string // of AuthBasic
	Header string // of AuthHeader: the name of a header that is the secret
}

// Kinds of authentication.
const (
	AuthBasic  = "basic"
	AuthBearer = "bearer"
	AuthHeader = "header"
)

// framing are the headers that net/http writes by itself.
var framing = []string{"Host", "Content-Length", "Transfer-Encoding", "Trailer", "Connection"}

// NoIdempotencyHeader is the IdempotencyHeader of a service that is sent none.
const NoIdempotencyHeader = "none"

func (a Auth) header() string {
	if a.Kind == AuthHeader {
		return a.Header
	}
	return "Authorization"
}

func (a Auth) value(secret string) string {
	switch a.Kind {
	case AuthBasic:
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.User+":"+secret))
	case AuthBearer:
		return "Bearer " + secret
	default:
		return secret
	}
}

func (a Auth) validate() error {
	switch {
	case a == (Auth{}):
		return nil
	case a.Kind != AuthBasic && a.Kind != AuthBearer && a.Kind != AuthHeader:
		return fmt.Errorf("authentication %q: want basic, bearer or header", a.Kind)
	case !secretName.MatchString(a.Secret):
		return fmt.Errorf("authentication %s: want the name of a secret, got %q", a.Kind, a.Secret)
	case a.Kind == AuthHeader && !validHeader(a.Header, ""):
		return fmt.Errorf("authentication header: %q is no name of a header", a.Header)
	case a.Kind == AuthHeader && slices.Contains(framing, http.CanonicalHeaderKey(a.Header)):
		return fmt.Errorf("authentication header: %s says how a request travels, and can't be a secret", a.Header)
	case a.Kind != AuthHeader && a.Header != "", a.Kind != AuthBasic && a.User != "", strings.Contains(a.User, ":"):
		return fmt.Errorf("authentication %s: a user without a colon belongs to basic, a header to header", a.Kind)
	}
	return nil
}

// Default is the service of URLs that belong to none.
const Default = "default"

// Sizes of an answer's body, in bytes.
const (
	maxInline   = 256 << 10 // what fits into a job whatever the body's escaping; a larger one is stored apart
	MaxResponse = 64 << 20  // what a service may ask for
)

// Stripe is the built-in service of https://api.stripe.com, and of https://files.stripe.com, where files are uploaded and
// quotes are printed.
func Stripe() Service {
	return Service{Name: "stripe", URL: "https://api.stripe.com", MoreURLs: []string{"https://files.stripe.com"}, ErrorMember: true}
}

func (s Service) withDefaults() Service {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&s.Timeout, 30*time.Second)
	def(&s.Backoff, 500*time.Millisecond)
	def(&s.MaxWait, 5*time.Minute)
	def(&s.MaxAge, maxAge)
	def(&s.ConnectTimeout, 10*time.Second)
	if s.Attempts == 0 {
		s.Attempts = 8
	}
	if s.Never {
		s.Attempts = 1
	}
	s.Breaker = s.Breaker.withDefaults()
	switch {
	case s.MaxInFlight != 0:
		s.limited = !s.byRate
	case s.Rate.Calls > 0 && s.Rate.validate() == nil:
		s.MaxInFlight, s.byRate = s.Rate.useful(s.Timeout), true
	default:
		s.MaxInFlight = usualInFlight
	}
	if s.ResponseLimit == 0 {
		s.ResponseLimit = maxInline
	}
	s.ResponseLimit = min(s.ResponseLimit, MaxResponse)
	if s.IdempotencyHeader == "" {
		s.IdempotencyHeader = "Idempotency-Key"
	}
	if s.Redirects == 0 {
		s.Redirects = 5
	}
	if s.Endpoint == "" {
		s.Endpoint = s.URL
	}
	return s
}

// Check says what is wrong with the declaration of a service by itself.
func (s Service) Check() error {
	if builtIn(s.Name) {
		return fmt.Errorf("service %s: the name is taken by a built-in service (%s reads stored bodies, %s has the timers)", s.Name, Body, job.Timer)
	}
	if s.Name == "stripe" && s.URL == "" {
		s.URL = Stripe().URL
	}
	if s.URL == "" && s.Name != Default && !s.Off && job.ValidService(s.Name) {
		return fmt.Errorf("service %s: want a URL; only %s goes without", s.Name, Default)
	}
	return s.withDefaults().validate()
}

// Shares returns the first URL of a service that another has as well: a call to it would belong to either. Empty: none.
func (s Service) Shares(other Service) string {
	for _, base := range s.bases() {
		if slices.ContainsFunc(other.bases(), func(b string) bool { return base != "" && b != "" && same(base, b) }) {
			return base
		}
	}
	return ""
}

// same tells whether two bases lie under each other.
func same(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	return errX == nil && errY == nil && under(a, y) && under(b, x)
}

func (s Service) validate() error {
	if !job.ValidService(s.Name) {
		return fmt.Errorf("service %q: a name is a-z 0-9 _ -, begins with a letter, and has at most 32 of them", s.Name)
	}
	if err := s.Auth.validate(); err != nil {
		return fmt.Errorf("service %s: %w", s.Name, err)
	}
	if s.URL == "" && s.Auth.Kind != "" {
		return fmt.Errorf("service %s: its secret would be sent to any URL that scripts name: want a URL beside auth", s.Name)
	}
	if err := errors.Join(s.Breaker.validate(), s.Rate.validate()); err != nil {
		return fmt.Errorf("service %s: %w", s.Name, err)
	}
	if !validHeader(s.IdempotencyHeader, "") {
		return fmt.Errorf("service %s: %q is no name of a header", s.Name, s.IdempotencyHeader)
	}
	if i := slices.IndexFunc(s.RetryOn, func(on string) bool { return !statusPattern.MatchString(on) }); i >= 0 {
		return fmt.Errorf("service %s: retry on %q: want a status of 300 or more, such as 429, or a class, such as 5xx", s.Name, s.RetryOn[i])
	}
	if len(s.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(s.CA) {
		return fmt.Errorf("service %s: there is no certificate in its CA: want PEM", s.Name)
	}
	if i := slices.IndexFunc(s.Ports, func(p int) bool { return p < 1 || p > 65535 }); i >= 0 {
		return fmt.Errorf("service %s: port %d: want 1 to 65535", s.Name, s.Ports[i])
	}
	if min(s.Timeout, s.Backoff, s.MaxWait, s.MaxAge, s.ConnectTimeout, s.FirstByte) < 0 || min(s.Attempts, s.MaxInFlight, s.ResponseLimit) < 0 {
		return fmt.Errorf("service %s: no time and no number can be negative", s.Name)
	}
	type named struct{ field, url string }
	bases := []named{{"URL", s.URL}, {"endpoint", s.Endpoint}}
	for _, more := range s.MoreURLs {
		bases = append(bases, named{"URL", more})
	}
	for _, base := range bases {
		if base.url == "" {
			continue
		}
		u, err := url.Parse(base.url)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.Contains(u.Host, "*") || climbs(u) {
			return fmt.Errorf("service %s: %s %q: want http(s)://host[/path]", s.Name, base.field, base.url)
		}
	}
	return nil
}

// Services are the services of a pool. It is not changed once made.
type Services struct {
	all []Service
}

// NewServices checks the services, and adds the built-in ones: body and timer, and stripe and default unless there are
// services of those names.
func NewServices(declared ...Service) (Services, error) {
	all := append([]Service(nil), declared...)
	var wrong []error
	for _, s := range declared {
		wrong = append(wrong, s.Check())
	}
	if err := errors.Join(wrong...); err != nil {
		return Services{}, err
	}
	for _, builtin := range []Service{Stripe(), {Name: Default}, {Name: Body, MaxInFlight: bodyReads}, {Name: job.Timer}} {
		if !has(all, builtin.Name) {
			all = append(all, builtin)
		}
	}
	all = slices.DeleteFunc(all, func(s Service) bool { return s.Off })
	var problems []error
	for i := range all {
		if all[i].Name == "stripe" && all[i].URL == "" {
			all[i].URL, all[i].MoreURLs, all[i].ErrorMember = Stripe().URL, Stripe().MoreURLs, true
		}
		all[i] = all[i].withDefaults()
		for _, other := range all[:i] {
			if other.Name == all[i].Name {
				problems = append(problems, fmt.Errorf("service %s is declared twice", other.Name))
			} else if base := other.Shares(all[i]); base != "" {
				problems = append(problems, fmt.Errorf("service %s: the URL %s is that of the service %s as well", other.Name, base, all[i].Name))
			}
		}
	}
	return Services{all}, errors.Join(problems...)
}

func has(all []Service, name string) bool {
	for _, s := range all {
		if s.Name == name {
			return true
		}
	}
	return false
}

// InFlight is how many calls of each service may be under way at a time.
func (s Services) InFlight() map[string]int {
	most := map[string]int{}
	for _, svc := range s.all {
		most[svc.Name] = svc.MaxInFlight
	}
	return most
}

// Limited tells whether the service's MaxInFlight was given, and is neither a default nor made of its rate.
func (s Service) Limited() bool { return s.limited }

// usualInFlight is how many calls of a service that says nothing may be under way.
const usualInFlight = 1000

// useful is how many calls in flight the service's rate can make use of, where that is its limit; else 0.
func (s Service) useful() int {
	if s.byRate {
		return s.MaxInFlight
	}
	return 0
}

// Has tells whether there is a service of that name.
func (s Services) Has(name string) bool { return has(s.all, name) }

// For returns the service that owns a URL: the one with the longest base that the URL lies under, where a port that goes without
// saying adds nothing.
func (s Services) For(raw string) (Service, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Service{}, err
	}
	var best Service
	longest := 0
	for _, svc := range s.all {
		if (builtIn(svc.Name) || builtIn(u.Scheme)) && svc.Name != u.Scheme {
			continue
		}
		if depth := depth(svc.base(u)); svc.owns(u) && depth >= longest {
			best, longest = svc, depth
		}
	}
	if best.Name == "" && climbs(u) {
		return best, fmt.Errorf("no service owns %s://%s%s: its path may not have . or .. as a segment", u.Scheme, u.Host, u.EscapedPath())
	}
	if best.Name == "" {
		return best, fmt.Errorf("no service owns %s://%s: declare one that has the URL", u.Scheme, u.Host)
	}
	return best, nil
}

// owns tells whether u lies under the service's base: same scheme, same host, and a path below it.
func (s Service) owns(u *url.URL) bool {
	return s.base(u) != "" || s.URL == ""
}

// base is the longest of the service's bases that u lies under.
func (s Service) base(u *url.URL) (longest string) {
	for _, base := range s.bases() {
		if base != "" && depth(base) > depth(longest) && under(base, u) {
			longest = base
		}
	}
	return longest
}

// depth compares bases that the same URL lies under: the one with the longer path is the deeper one. No base is the least.
func depth(base string) int {
	u, err := url.Parse(base)
	if base == "" || err != nil {
		return 0
	}
	return 1 + len(strings.TrimSuffix(u.Path, "/"))
}

func (s Service) bases() []string { return append([]string{s.URL}, s.MoreURLs...) }

// sends tells whether u lies where the service's requests are sent.
func (s Service) sends(u *url.URL) bool {
	return under(s.Endpoint, u) || slices.ContainsFunc(s.MoreURLs, func(base string) bool { return under(base, u) })
}

// under tells whether u lies under a base; everything lies under none.
func under(root string, u *url.URL) bool {
	if root == "" {
		return true
	}
	base, err := url.Parse(root)
	if err != nil || u.Scheme != base.Scheme || !strings.EqualFold(origin(u), origin(base)) || climbs(u) {
		return false
	}
	dir := strings.TrimSuffix(base.Path, "/")
	return u.Path == dir || strings.HasPrefix(u.Path, dir+"/")
}

// climbs tells whether a path has segments that lead out of where it seems to lie, as APIs resolve them: /v1/../admin.
func climbs(u *url.URL) bool {
	return slices.ContainsFunc(strings.Split(u.Path, "/"), func(segment string) bool { return segment == "." || segment == ".." })
}

// origin is the host with its port spelled out.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Hostname() + ":" + port
}

// target is where a request for u is really sent.
func (s Service) target(u *url.URL) (*url.URL, error) {
	if s.Endpoint == s.URL || s.base(u) == "" {
		return u, nil
	}
	base, err := url.Parse(s.base(u))
	if err != nil {
		return nil, err
	}
	below := strings.TrimPrefix(u.EscapedPath(), strings.TrimSuffix(base.EscapedPath(), "/"))
	to, err := url.Parse(strings.TrimSuffix(s.Endpoint, "/") + below)
	if err != nil {
		return nil, err
	}
	to.RawQuery = u.RawQuery
	return to, nil
}

// bound tells whether a secret may be sent to a service: one that names it as its own, or that owns it. A service that
// has no hosts of its own is sent none: it would go to whatever URL a script names.
func (s Services) bound(service Service, secret string) bool {
	return service.URL != "" && (service.Auth.Kind != "" && service.Auth.Secret == secret || s.owner(secret) == service.Name)
}

// Secret tells whether a call with these header lines carries a secret to the service.
func (s Service) Secret(lines []job.HeaderLine) bool {
	return s.Auth.Kind != "" || slices.ContainsFunc(lines, func(h job.HeaderLine) bool { return h.Secret != "" })
}

// owner is the service that a secret belongs to by its name: the one with the longest name that the secret's begins with; empty
// when there is none.
func (s Services) owner(secret string) string {
	owner := ""
	for _, svc := range s.all {
		if strings.HasPrefix(secret, svc.Name+"_") && len(svc.Name) > len(owner) {
			owner = svc.Name
		}
	}
	return owner
}
