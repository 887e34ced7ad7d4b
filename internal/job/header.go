package job

import "strings"

// known are the headers whose spelling is checked. The trace header is written in two cases in practice, and is left out.
var known = []string{
	HeaderID, HeaderScript, HeaderCaller, HeaderDeadline, HeaderParent, HeaderSource, HeaderCall, HeaderProof, HeaderType,
}

// prefix marks every header that is ours.
const prefix = "thence-"

// checkHeaders refuses what would otherwise be silently ignored: a known name in another case, a name of ours that does
// not exist, a header given twice.
func checkHeaders(h map[string][]string) error {
	for name, values := range h {
		k := fold(name)
		switch {
		case k == "" && len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix):
			return malformed("there is no header %q; those of a job are %s", name, strings.Join(known, ", "))
		case k == "":
		case k != name:
			return malformed("header %q: the name is case-sensitive, write %s", name, k)
		case len(values) > 1:
			return malformed("header %s is given %d times", name, len(values))
		}
	}
	return nil
}

func fold(name string) string {
	for _, k := range known {
		if strings.EqualFold(k, name) {
			return k
		}
	}
	return ""
}
