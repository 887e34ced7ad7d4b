package job

import (
	"maps"
	"slices"
	"strings"
)

// known are the headers whose spelling is checked. The trace header is written in two cases in practice, and is left
// out.
var known = []string{
	HeaderID, HeaderScript, HeaderCaller, HeaderDeadline, HeaderParent, HeaderSource, HeaderCall, HeaderRelease, HeaderProof, HeaderType,
}

// prefix marks every header that is ours.
const prefix = "thence-"

// neverEmpty are headers that change what a message is. An empty one would be taken for none.
var neverEmpty = []string{HeaderScript, HeaderDeadline, HeaderSource, HeaderCall, HeaderRelease}

// checkHeaders refuses what would otherwise be silently ignored: a known name in another case, a name of ours that does
// not exist, a header given twice, one without a value. Of several problems it names the same one each time.
func checkHeaders(h map[string][]string) error {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		values := h[name]
		k := fold(name)
		switch {
		case k == "" && len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix):
			return malformed("there is no header %q; those of a job are %s", name, strings.Join(known, ", "))
		case k == "":
		case k != name:
			return malformed("header %q: the name is case-sensitive, write %s", name, k)
		case len(values) > 1:
			return malformed("header %s is given %d times", name, len(values))
		case slices.Contains(neverEmpty, name) && (len(values) == 0 || values[0] == ""):
			return malformed("header %s is empty: leave it out, or give it a value", name)
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
