package worker

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/thence-dev/thence/internal/job"
)

// TestAnswerFacts: a body is data by its type. What is no text is there as it came, too.
func TestAnswerFacts(t *testing.T) {
	const file = "%PDF-1.7\n\x80\x81\xff"
	for name, test := range map[string]struct{ typ, body, data, base64 string }{
		"JSON":            {"application/json", `{"a":1}`, `{"a":1}`, ""},
		"JSON by suffix":  {"application/problem+json; charset=utf-8", `[1]`, `[1]`, ""},
		"what is no JSON": {"application/json", `{"a":`, `"{\"a\":"`, ""},
		"text":            {"text/plain", `1`, `"1"`, ""},
		"nothing":         {"text/plain", ``, ``, ""},
		"a file":          {"application/pdf", file, "\"%PDF-1.7\\n\ufffd\"", base64.StdEncoding.EncodeToString([]byte(file))},
	} {
		data, response, failure := answerFacts(&job.Answer{Status: 200, Header: map[string]string{"Content-Type": test.typ}, Body: job.Text(test.body)})
		var got struct{ Base64 string }
		if err := json.Unmarshal(response, &got); err != nil {
			t.Fatal(err)
		}
		if string(data) != test.data || got.Base64 != test.base64 || failure != nil {
			t.Errorf("%s: got %s, %q, %s", name, data, got.Base64, failure)
		}
	}
}
