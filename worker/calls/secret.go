package calls

import (
	"bytes"
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

// redact takes the request's secrets out of its answer.
func (used secretsUsed) redact(r result) result {
	for _, secret := range used {
		r.answer.Body = bytes.ReplaceAll(r.answer.Body, []byte(secret), []byte(redacted))
		for name, value := range r.answer.Header {
			r.answer.Header[name] = strings.ReplaceAll(value, secret, redacted)
		}
		if f := r.answer.Failure; f != nil {
			f.Message = strings.ReplaceAll(f.Message, secret, redacted)
			f.Code = strings.ReplaceAll(f.Code, secret, redacted)
		}
	}
	return r
}
