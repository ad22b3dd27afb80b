// Package program has what drivers need that leave a part of their work to other
// people's programs: QEMU's NBD server as the way to the bytes of formats and
// clusters whose own libraries kvol does without, and what a program said.
package program

import (
	"bytes"
	"strings"
)

// Said keeps the first 4 KiB of what a command says. Its zero value is empty. It
// is to be read after the command's end.
type Said struct{ text bytes.Buffer }

const maxSaid = 4096

// Write keeps what there is room for, and never fails.
func (s *Said) Write(p []byte) (int, error) {
	if room := maxSaid - s.text.Len(); room > 0 {
		s.text.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// String is what was said, without the spaces around it.
func (s *Said) String() string { return strings.TrimSpace(s.text.String()) }
