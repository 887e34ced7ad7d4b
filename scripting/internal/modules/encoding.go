package modules

import (
	"encoding/base64"
	"encoding/hex"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// base64Members is Tengo's base64.
var base64Members = members{
	"encode":         encodes(base64.StdEncoding.EncodeToString),
	"decode":         decodes(base64.StdEncoding.DecodeString),
	"raw_encode":     encodes(base64.RawStdEncoding.EncodeToString),
	"raw_decode":     decodes(base64.RawStdEncoding.DecodeString),
	"url_encode":     encodes(base64.URLEncoding.EncodeToString),
	"url_decode":     decodes(base64.URLEncoding.DecodeString),
	"raw_url_encode": encodes(base64.RawURLEncoding.EncodeToString),
	"raw_url_decode": decodes(base64.RawURLEncoding.DecodeString),
}

// hexMembers is Tengo's hex.
var hexMembers = members{
	"encode": encodes(hex.EncodeToString),
	"decode": decodes(hex.DecodeString),
}

// encodes makes a function that turns bytes, or a string, into a string.
func encodes(f func([]byte) string) fn {
	return fn{1, 1, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		b, err := toBytes(args, 0)
		if err != nil {
			return nil, err
		}
		return limited(f(b))
	}}
}

// decodes makes a function that turns a string into bytes, or returns an error value.
func decodes(f func(string) ([]byte, error)) fn {
	return fn{1, 1, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		s, err := toText(args, 0)
		if err != nil {
			return nil, err
		}
		b, err := f(s)
		if err != nil {
			return value.NewError(err), nil
		}
		return &value.Bytes{Value: b}, nil
	}}
}
