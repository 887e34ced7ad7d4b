package job

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// ReleasesStream names the stream of the pool's releases of scripts.
func ReleasesStream(pool string) string { return "RELEASES_" + pool }

// TurnsSubject is where it stands which release became the pool's current one: one message for each time.
func TurnsSubject(pool string) string { return pool + ".release.current" }

// ReleaseSubject is where it stands that a release is whole, and of how many parts.
func ReleaseSubject(pool, name string) string { return pool + ".release." + name }

// PartSubject is where a part of a release stands.
func PartSubject(pool, name string, index int) string {
	return fmt.Sprintf("%s.release.%s-%d", pool, name, index)
}

// releaseDigits is how many digits a release's name has.
const releaseDigits = 12

// ReleaseName is the name of a set of scripts, by name: the first 12 hex digits of the SHA-256 of their names and
// sources, each with its length, in the order of the names. The same scripts have the same name everywhere.
func ReleaseName(scripts map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(scripts)) {
		_, _ = fmt.Fprintf(h, "%d %s %d %s\n", len(name), name, len(scripts[name]), scripts[name]) // never fails: see hash.Hash
	}
	return hex.EncodeToString(h.Sum(nil))[:releaseDigits]
}

// ValidRelease tells whether name can be a release's name.
func ValidRelease(name string) bool {
	for _, c := range name {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(name) == releaseDigits
}
