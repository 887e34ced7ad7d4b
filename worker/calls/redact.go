package calls

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/thence-dev/thence/internal/job"
)

// redacted stands in an answer where the API sent a secret back.
const redacted = "[redacted]"

// redactor knows the secrets that a service was sent by this process, and takes them out of all that comes back: also
// one that was exchanged since, and one that went out with another call.
type redactor struct {
	mu      sync.Mutex
	sent    []string // the latest last
	forms   []string // in which they may come back, the longest first
	replace *strings.Replacer
}

// maxSent bounds how many secrets of a service are known: each may be exchanged many times in a process's life.
const maxSent = 32

// knows tells the redactor of a secret that is about to be sent.
func (r *redactor) knows(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if secret == "" || slices.Contains(r.sent, secret) {
		return
	}
	r.sent = append(r.sent, secret)
	r.sent = r.sent[max(0, len(r.sent)-maxSent):]
	var all []string
	for _, s := range r.sent {
		all = append(all, forms(s)...)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	r.forms = slices.Compact(all)
	var pairs []string
	for _, form := range r.forms { // the longest first, as one may be part of another
		pairs = append(pairs, form, redacted)
	}
	r.replace = strings.NewReplacer(pairs...)
}

// redact takes the known secrets out of a try's answer.
func (r *redactor) redact(got result) result {
	r.mu.Lock()
	replace := r.replace
	r.mu.Unlock()
	if replace == nil {
		return got
	}
	if body := string(got.answer.Body); len(body) > 0 {
		if clean := replace.Replace(body); clean != body {
			got.answer.Body = []byte(clean)
		}
	}
	if got.answer.Header != nil {
		header := make(map[string]string, len(got.answer.Header))
		for name, value := range got.answer.Header {
			header[replace.Replace(name)] = replace.Replace(value)
		}
		got.answer.Header = header
	}
	if f := got.answer.Failure; f != nil {
		f.Type, f.Code, f.Message = replace.Replace(f.Type), replace.Replace(f.Code), replace.Replace(f.Message)
	}
	return got
}

// forms are a secret as it may come back: as it is, in a URL, in HTML, in hex, and in base64, alone or as part of
// something longer, such as user:secret; and each of them inside of JSON.
func forms(secret string) []string {
	inHex := hex.EncodeToString([]byte(secret))
	all := []string{secret, html.EscapeString(secret), inHex, strings.ToUpper(inHex)}
	for _, escaped := range []string{url.QueryEscape(secret), url.PathEscape(secret), strings.ReplaceAll(url.QueryEscape(secret), "+", "%20")} {
		all = append(all, escaped, escape.ReplaceAllStringFunc(escaped, strings.ToLower))
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			if core := base64Core(encoding, secret, before); len(core) >= minCore {
				all = append(all, core)
			}
		}
	}
	for _, form := range slices.Clone(all) {
		all = append(all, inJSON(form)...)
	}
	return all
}

// inJSON is a text as the encoders that there are write it into a string: some escape <, > and &, some slashes.
func inJSON(text string) []string {
	safe, _ := json.Marshal(text) // of a string: can't fail
	plain, _ := job.Encode(text)
	var all []string
	for _, quoted := range []string{string(safe), string(plain)} {
		quoted = quoted[1 : len(quoted)-1]
		all = append(all, quoted, strings.ReplaceAll(quoted, "/", `\/`))
	}
	return all
}

var escape = regexp.MustCompile(`%[0-9A-F]{2}`)

// minCore is the least that is taken for a secret in base64. What is shorter would be found everywhere.
const minCore = 6

// base64Core is what base64 makes of a secret that stands before bytes behind a border of three, whatever stands around
// it: without the characters that depend on that.
func base64Core(e *base64.Encoding, secret string, before int) string {
	encoded := e.EncodeToString([]byte(strings.Repeat("\x00", before) + secret))
	from, to := (before*8+5)/6, (before+len(secret))*8/6
	if from >= to {
		return ""
	}
	return encoded[from:to]
}
