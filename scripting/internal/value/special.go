package value

import (
	"errors"
	"fmt"

	"github.com/d5/tengo/v2"
	"github.com/d5/tengo/v2/token"
)

// Error is a script's error value: what error(v) makes, and what functions return when they fail.
type Error struct {
	tengo.ObjectImpl
	Value tengo.Object
}

// NewError makes an error value of a Go error.
func NewError(err error) *Error { return &Error{Value: &tengo.String{Value: err.Error()}} }

// TypeName returns "error".
func (e *Error) TypeName() string { return "error" }

func (e *Error) String() string { return Text(e) }

// Copy returns a deep copy.
func (e *Error) Copy() tengo.Object { return Copy(e) }

// IsFalsy is true: an error counts as false.
func (e *Error) IsFalsy() bool { return true }

// Equals is true of the same error only.
func (e *Error) Equals(x tengo.Object) bool { return e == x }

// IndexGet knows "value", what the error was made of.
func (e *Error) IndexGet(index tengo.Object) (tengo.Object, error) {
	if s, ok := index.(*tengo.String); ok && s.Value == "value" {
		return e.Value, nil
	}
	return nil, errors.New("an error has only .value")
}

// Secret stands for a secret by its name. Its value is put in where a request is sent; no script ever has it.
type Secret struct {
	tengo.ObjectImpl
	Name string
}

// ErrSecret says where secrets may go.
const ErrSecret Trouble = `a secret cannot become text: give secret("...") as it is to a call's headers or bearer`

// TypeName returns "secret".
func (s *Secret) TypeName() string { return "secret" }

// String panics: the only caller that gets here joins the secret to a string.
func (s *Secret) String() string { panic(ErrSecret) }

// Show is how a secret is printed.
func (s *Secret) Show() string { return fmt.Sprintf("secret(%q)", s.Name) }

// Copy returns the secret.
func (s *Secret) Copy() tengo.Object { return s }

// Equals compares names.
func (s *Secret) Equals(x tengo.Object) bool {
	t, ok := x.(*Secret)
	return ok && t.Name == s.Name
}

// BinaryOp always fails.
func (s *Secret) BinaryOp(token.Token, tengo.Object) (tengo.Object, error) { return nil, ErrSecret }
