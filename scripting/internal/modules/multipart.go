package modules

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"mime/multipart"
	"net/url"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// encodeMultipart encodes a map as multipart/form-data: bytes as files that have the parameter's name, the rest as in a
// form. What stands between the parts comes from the content, so that the same parameters make the same body.
func encodeMultipart(m *value.Map, numbered bool) (body []byte, contentType string, err error) {
	type part struct {
		key, val string
		file     bool
	}
	var parts []part
	sum := sha256.New()
	add := func(key, val string, file bool) {
		parts = append(parts, part{key, val, file})
		sum.Write([]byte(key + "\x00" + val + "\x00"))
	}
	f := form{name: "params", numbered: numbered, pair: func(key, val string) error {
		key, err := url.QueryUnescape(key)
		if err != nil {
			return err
		}
		val, err = url.QueryUnescape(val)
		add(key, val, false)
		return err
	}}
	for key, v := range m.All() {
		if b, ok := v.(*value.Bytes); ok {
			add(key, string(b.Value), true)
		} else if err := f.add(url.QueryEscape(key), v, 0); err != nil {
			return nil, "", err
		}
	}
	var out bytes.Buffer
	w := multipart.NewWriter(&out)
	if err := w.SetBoundary(hex.EncodeToString(sum.Sum(nil)[:20])); err != nil {
		return nil, "", err
	}
	for _, p := range parts {
		if err := writePart(w, p.key, p.val, p.file); err != nil {
			return nil, "", err
		}
		if out.Len() > value.MaxString {
			return nil, "", tengo.ErrBytesLimit
		}
	}
	err = w.Close()
	return out.Bytes(), w.FormDataContentType(), err
}

func writePart(w *multipart.Writer, key, val string, file bool) error {
	if !file {
		return w.WriteField(key, val)
	}
	part, err := w.CreateFormFile(key, key)
	if err == nil {
		_, err = part.Write([]byte(val))
	}
	return err
}
