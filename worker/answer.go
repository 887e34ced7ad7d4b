package worker

import (
	"encoding/json"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/thence-dev/thence/internal/job"
)

// answerFacts are an answer as a script sees it: the body parsed by what it is, the response, and the failure if it was
// one. A job that has nothing of a kind gets nil.
func answerFacts(a *job.Answer) (data, response, failure []byte) {
	data = bodyData(a)
	if a.Status != 0 {
		facts := map[string]any{
			"status": a.Status, "headers": lower(a.Header), "body": bodyText(a.Body), "attempts": a.Attempts, "duration_ms": a.Duration,
		}
		if a.Stored != nil {
			facts["stored"] = a.Stored
		}
		if !utf8.Valid(a.Body) {
			facts["base64"] = []byte(a.Body) // which JSON has in base64
		}
		response = encode(facts)
	}
	if f := a.Failure; f != nil {
		failure = encode(map[string]any{
			"type": f.Type, "code": f.Code, "message": f.Message, "status": a.Status, "attempts": a.Attempts, "body": bodyText(a.Body),
		})
	}
	return data, response, failure
}

// bodyData is the body as JSON: the value itself when it is JSON, else its text; nil when it is empty.
func bodyData(a *job.Answer) []byte {
	typ, _, _ := mime.ParseMediaType(a.Header["Content-Type"])
	isJSON := typ == job.TypeJSON || strings.HasSuffix(typ, "+json") || typ == ""
	switch {
	case len(a.Body) == 0:
		return nil
	case isJSON && json.Valid(a.Body) && utf8.Valid(a.Body):
		return a.Body
	default:
		return encode(bodyText(a.Body))
	}
}

// bodyText is the body as text; bytes that are not UTF-8 become U+FFFD. The response has them in base64.
func bodyText(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

func lower(h map[string]string) map[string]string {
	out := make(map[string]string, len(h))
	for name, value := range h {
		out[strings.ToLower(name)] = value
	}
	return out
}

// encode encodes what is always encodable: strings, numbers and maps of them.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("worker: " + err.Error())
	}
	return b
}
