package calls

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Secrets finds a secret's value by its name. It is asked before each try of a call that needs one, so that a secret
// which is changed where it is kept counts from the next try on.
type Secrets = func(name string) (value string, found bool)

// SecretVariable is the environment variable that holds a secret: THENCE_SECRET_ and the name in upper case.
func SecretVariable(name string) string { return "THENCE_SECRET_" + strings.ToUpper(name) }

// SecretsFromEnv finds secrets in the environment. An empty variable counts as none.
func SecretsFromEnv(lookup func(string) (string, bool)) Secrets {
	return func(name string) (string, bool) {
		value, ok := lookup(SecretVariable(name))
		return value, ok && value != ""
	}
}

// maxSecret bounds a secret's file, in bytes.
const maxSecret = 64 << 10

// secretName keeps names within their directory, and out of what Kubernetes hides in it.
var secretName = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9_.-]*$`)

// SecretsFromDir finds a secret in the file of its name, as Kubernetes mounts them. One line end at the end of the file
// is not part of it. The file is read each time, so there is nothing to go stale; an empty one counts as none.
func SecretsFromDir(dir string) Secrets {
	return func(name string) (string, bool) {
		if !secretName.MatchString(name) {
			return "", false
		}
		value, err := readSecret(filepath.Join(dir, name))
		return value, err == nil && value != ""
	}
}

func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(b) > maxSecret {
		err = fmt.Errorf("%s: a secret has at most %d bytes", path, maxSecret)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), err
}

// FirstOf asks several in turn, and takes the first answer.
func FirstOf(all ...Secrets) Secrets {
	return func(name string) (string, bool) {
		for _, secrets := range all {
			if value, ok := secrets(name); ok {
				return value, true
			}
		}
		return "", false
	}
}
