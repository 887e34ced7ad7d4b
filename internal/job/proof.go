package job

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Keyring holds the keys of an installation. The first signs; all of them verify, so that one can be exchanged without
// a moment at which messages under way are refused. Workers and operators alone may read it.
type Keyring struct {
	keys []key
}

type key struct {
	ID     string `json:"id"`
	Secret []byte `json:"secret"`
}

// ErrNoProof is returned for a message that claims an origin it can't prove.
var ErrNoProof = errors.New("the proof of origin is missing or wrong")

// NewKeyring makes a keyring with one random key of 32 bytes.
func NewKeyring() Keyring {
	id, secret := make([]byte, 4), make([]byte, 32)
	_, _ = rand.Read(id) // never fails: see crypto/rand
	_, _ = rand.Read(secret)
	return Keyring{[]key{{ID: hex.EncodeToString(id), Secret: secret}}}
}

// MarshalJSON writes the form in which the bucket holds the keys.
func (k Keyring) MarshalJSON() ([]byte, error) { return json.Marshal(k.keys) }

// UnmarshalJSON reads the form in which the bucket holds the keys.
func (k *Keyring) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &k.keys); err != nil {
		return err
	}
	if len(k.keys) == 0 {
		return errors.New("no key in the keyring")
	}
	for _, key := range k.keys {
		if len(key.Secret) < 32 || key.ID == "" {
			return fmt.Errorf("key %q: want an id and at least 32 bytes", key.ID)
		}
	}
	return nil
}

// Signing is the id of the key that signs.
func (k Keyring) Signing() string { return k.keys[0].ID }

func (k Keyring) mac(id string, parts ...string) []byte {
	secret := k.keys[0].Secret
	for _, key := range k.keys {
		if key.ID == id {
			secret = key.Secret
		}
	}
	return mac(secret, parts...)
}

// mac authenticates the parts, each with its length in front, so that no two lists read alike.
func mac(secret []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, secret)
	for _, p := range parts {
		h.Write([]byte(strconv.Itoa(len(p)) + ":" + p))
	}
	return h.Sum(nil)
}

// MessageID is the Nats-Msg-Id of an effect, or with kind "answer" of a call's answer. Who does not have the key can't
// guess it, and so can't make the stream swallow the effect as a repeat. It is the same however often the effect is
// published.
func (k Keyring) MessageID(keyID, kind string, o Origin) string {
	return hex.EncodeToString(k.mac(keyID, "message", kind, o.String())[:16])
}

// IdempotencyKey is what an API is told a call is, on every try.
func (k Keyring) IdempotencyKey(keyID string, o Origin) string {
	return hex.EncodeToString(k.mac(keyID, "idempotency", o.String())[:20])
}

// Sign adds the proof of origin to a message. It covers the subject, every header of ours and the body.
func (k Keyring) Sign(m *Message) {
	if m.Header == nil {
		m.Header = map[string][]string{}
	}
	m.Header[HeaderProof] = []string{base64.RawURLEncoding.EncodeToString(proof(k.keys[0].Secret, *m))}
}

// Verify returns ErrNoProof unless one of the keys signed the message.
func (k Keyring) Verify(m Message) error {
	got, err := base64.RawURLEncoding.DecodeString(m.Get(HeaderProof))
	if err != nil || len(got) == 0 {
		return ErrNoProof
	}
	for _, key := range k.keys {
		if hmac.Equal(got, proof(key.Secret, m)) {
			return nil
		}
	}
	return ErrNoProof
}

// covered are the headers that a proof covers.
var covered = []string{
	HeaderScript, HeaderCaller, HeaderDeadline, HeaderParent, HeaderSource, HeaderCall, HeaderType,
}

func proof(secret []byte, m Message) []byte {
	parts := make([]string, 0, len(covered)+3)
	parts = append(parts, "proof", m.Subject)
	for _, name := range covered {
		parts = append(parts, m.Get(name))
	}
	if release := m.Get(HeaderRelease); release != "" { // messages of versions before it have proofs without
		parts = append(parts, release)
	}
	sum := sha256.Sum256(m.Data)
	return mac(secret, append(parts, string(sum[:]))...)
}

// Digest is how a context remembers a caller's id: 16 characters, whatever the id's length.
func Digest(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}
