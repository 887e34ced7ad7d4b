package calls

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// SecretVariable is the environment variable that holds a secret: THENCE_SECRET_ and the name in upper case.
func SecretVariable(name string) string { return "THENCE_SECRET_" + strings.ToUpper(name) }

// SecretsFromEnv finds secrets in the environment. An empty variable counts as none.
func SecretsFromEnv(lookup func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := lookup(SecretVariable(name))
		return value, ok && value != ""
	}
}

// secretsUsed are the values that went into one request.
type secretsUsed []string

// redacted stands in an answer where the API sent a secret back.
const redacted = "[redacted]"

// forms are the secrets as they may come back: as they are, in a JSON string, in a URL. The longest come first, as one
// may be part of another.
func (used secretsUsed) forms() []string {
	var all []string
	for _, secret := range used {
		quoted, _ := json.Marshal(secret) // of a string: can't fail
		all = append(all, secret, string(quoted[1:len(quoted)-1]), url.QueryEscape(secret), url.PathEscape(secret))
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	return slices.Compact(all)
}

// redact takes the request's secrets out of its answer.
func (used secretsUsed) redact(r result) result {
	for _, secret := range used.forms() {
		r.answer.Body = bytes.ReplaceAll(r.answer.Body, []byte(secret), []byte(redacted))
		for name, value := range r.answer.Header {
			r.answer.Header[name] = strings.ReplaceAll(value, secret, redacted)
		}
		if f := r.answer.Failure; f != nil {
			f.Type = strings.ReplaceAll(f.Type, secret, redacted)
			f.Message = strings.ReplaceAll(f.Message, secret, redacted)
			f.Code = strings.ReplaceAll(f.Code, secret, redacted)
		}
	}
	return r
}
