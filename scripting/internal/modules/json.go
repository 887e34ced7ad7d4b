package modules

import (
	"bytes"
	"encoding/json"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// jsonMembers is Tengo's json, with keys in order and ints apart from floats. encode, indent and html_escape return
// strings, where Tengo's own return bytes.
var jsonMembers = members{
	"encode":      fn{1, 1, jsonEncode},
	"decode":      fn{1, 1, jsonDecode},
	"indent":      fn{3, 3, jsonIndent},
	"html_escape": fn{1, 1, jsonHTMLEscape},
}

func jsonEncode(_ *Run, args []tengo.Object) (tengo.Object, error) {
	b, err := value.Encode("value", args[0])
	if err != nil {
		return nil, err
	}
	return limited(string(b))
}

func jsonDecode(_ *Run, args []tengo.Object) (tengo.Object, error) {
	b, err := toBytes(args, 0)
	if err != nil {
		return nil, err
	}
	o, err := value.Decode(b)
	if err != nil {
		return value.NewError(err), nil
	}
	return o, nil
}

// jsonIndent(json, prefix, indent) keeps prefix and indent to a few bytes: they are written once for each line and
// level.
func jsonIndent(_ *Run, args []tengo.Object) (tengo.Object, error) {
	src, err := toBytes(args, 0)
	if err != nil {
		return nil, err
	}
	prefix, indent, err := texts2(args[1:])
	if err != nil {
		return nil, err
	}
	if len(prefix)+len(indent) > 16 {
		return nil, errTooWide
	}
	if _, err := value.Decode(src); err != nil {
		return value.NewError(err), nil
	}
	var dst bytes.Buffer
	if err := json.Indent(&dst, src, prefix, indent); err != nil {
		return value.NewError(err), nil
	}
	return limited(dst.String())
}

const errTooWide value.Trouble = "prefix and indent may have 16 bytes at most"

func jsonHTMLEscape(_ *Run, args []tengo.Object) (tengo.Object, error) {
	src, err := toBytes(args, 0)
	if err != nil {
		return nil, err
	}
	var dst bytes.Buffer
	json.HTMLEscape(&dst, src)
	return limited(dst.String())
}
