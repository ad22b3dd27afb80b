package block

import (
	"errors"
	"fmt"
)

// Kind says what sort of thing went wrong. Each front end has one table from
// kinds to its own codes; nothing else of an error crosses a front end but its
// Message.
type Kind uint8

// The kinds of error. Internal is the zero value on purpose: an error that
// nobody classified is shown to nobody.
const (
	Internal     Kind = iota // a fault of ours; the user is told so and no more
	Invalid                  // the request is wrong as such
	NotFound                 // no such thing, or none that the caller may see
	Conflict                 // the thing is not in a state that allows it
	OverLimit                // a quota or a limit of size
	Unauthorized             // nobody knows who asks
	Forbidden                // known, and not allowed
	Unavailable              // a part that is needed can't be reached now
	NoSpace                  // a store is full
	Stale                    // a lower epoch: somebody else holds the right to write
	Corrupt                  // bytes do not match their checksum
	Unsupported              // this driver or service can't do that
)

var kindNames = [...]string{"internal", "invalid", "not found", "conflict", "over limit", "unauthorized",
	"forbidden", "unavailable", "no space", "stale epoch", "corrupt", "unsupported"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is an error with a kind and a sentence for the user. Err, if any, is
// the cause; it goes to the log and never to the user.
type Error struct {
	Kind    Kind
	Message string
	Err     error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a kind. The format's result is what the user reads;
// use Wrap where there is a cause that the user should not see.
func Errorf(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an error of a kind around a cause. It returns nil for a nil cause.
func Wrap(kind Kind, cause error, format string, args ...any) error {
	if cause == nil {
		return nil
	}
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Err: cause}
}

// KindOf returns the kind of the outermost *Error in err's chain; Internal if
// there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is of the given kind. A nil err is of no kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// UserMessage returns the sentence that a user may see: the message of the
// outermost *Error, or ok == false where the error is Internal or unclassified.
func UserMessage(err error) (message string, ok bool) {
	var e *Error
	if errors.As(err, &e) && e.Kind != Internal {
		return e.Message, true
	}
	return "", false
}
