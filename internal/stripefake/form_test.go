package stripefake

import (
	"encoding/json"
	"net/url"
	"testing"
)

func TestParseParams(t *testing.T) {
	for form, want := range map[string]string{
		"":            `{}`,
		"a=1&b=two":   `{"a":"1","b":"two"}`,
		"a[b][c]=1":   `{"a":{"b":{"c":"1"}}}`,
		"a[]=1&a[]=2": `{"a":["1","2"]}`,
		"items[0][price]=p&items[1][price]=q&items[1][n]=2": `{"items":[{"price":"p"},{"n":"2","price":"q"}]}`,
		"items[10]=c&items[9]=b&items[2]=a":                 `{"items":["a","b","c"]}`,
		"m[1]=a&m[x]=b":                                     `{"m":{"1":"a","x":"b"}}`,
		"m[01]=a&m[1]=b":                                    `{"m":{"01":"a","1":"b"}}`,
		"m[-1]=a":                                           `{"m":{"-1":"a"}}`,
		"a[b":                                               "refused",
		"a]=1":                                              "refused",
		"[a]=1":                                             "refused",
		"a[b]c=1":                                           "refused",
		"a[[b]]=1":                                          "refused",
		"a=1&a[b]=2":                                        "refused",
	} {
		values, err := url.ParseQuery(form)
		if err != nil {
			t.Fatal(err)
		}
		nested, refusal := parseParams(values)
		got := "refused"
		if refusal == nil {
			text, err := json.Marshal(nested)
			if err != nil {
				t.Fatal(err)
			}
			got = string(text)
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", form, got, want)
		}
	}
}

func FuzzParseParams(f *testing.F) {
	for _, seed := range []string{"a=1", "items[0][price]=p", "a[]=1&a[]=2", "a[b", "m[01]=a&m[1]=b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, form string) {
		values, err := url.ParseQuery(form)
		if err != nil {
			return
		}
		nested, refusal := parseParams(values)
		if _, err := json.Marshal(nested); (nested == nil) != (refusal != nil) || err != nil {
			t.Errorf("%q: got %v, %v, %v", form, nested, refusal, err)
		}
	})
}
