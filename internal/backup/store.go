package backup

import (
	"context"
	"iter"
	"regexp"
	"strings"

	"kvol/internal/block"
)

// Store holds objects by name: a directory or a bucket. Its methods may be
// called at once from many goroutines. Names are steps of [A-Za-z0-9._-]
// joined by slashes; storetest is the contract as a test suite.
//
// Errors carry a block.Kind: NotFound for an object that is not there, NoSpace
// for a full store, Unavailable for one that can't be reached or refuses.
type Store interface {
	// Put writes an object. It is whole or absent at any moment, and survives a
	// power cut once Put returned nil. Writing again replaces it.
	Put(ctx context.Context, name string, content []byte) error
	// Get reads an object; one of more than limit bytes is Corrupt.
	Get(ctx context.Context, name string, limit int64) ([]byte, error)
	// Has reports whether an object is there.
	Has(ctx context.Context, name string) (bool, error)
	// Delete removes an object; one that is gone already stays gone, without an
	// error.
	Delete(ctx context.Context, name string) error
	// List yields the full names of the objects that lie directly below dir, in
	// no order.
	List(ctx context.Context, dir string) iter.Seq2[string, error]
}

const (
	maxName = 512 // bytes
	maxStep = 128
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)

// checkName refuses names that a store could take for something else: those
// that lead out of it, and those of its own files.
func checkName(name string) error {
	if len(name) > maxName || !nameForm.MatchString(name) {
		return block.Errorf(block.Invalid, "%q can't be the name of an object.", name)
	}
	for step := range strings.SplitSeq(name, "/") {
		if len(step) > maxStep {
			return block.Errorf(block.Invalid, "%q can't be the name of an object.", name)
		}
	}
	return nil
}
