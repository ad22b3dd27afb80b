package nfs

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// Host is a program that has a file of the share open, as a machine does: a
// qemu-io. It belongs to one goroutine.
type Host struct {
	in  io.WriteCloser
	out *bufio.Reader
}

const prompt = "qemu-io> "

// NewHost opens a raw file of the export until the test ends.
func NewHost(t testing.TB, s *Server, name string) *Host {
	t.Helper()
	cmd := s.in(t.Context(), "qemu-io", "-f", "raw", s.URL(name, 3))
	h, err := newHost(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may wait for a server
		_ = cmd.Wait()
	})
	h.answer(t)
	return h
}

func newHost(cmd *exec.Cmd) (h *Host, err error) {
	h = &Host{}
	if h.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = bufio.NewReader(out)
	return h, cmd.Start()
}

// Ask gives it a command, and returns what it says.
func (h *Host) Ask(t testing.TB, command string) string {
	t.Helper()
	if _, err := fmt.Fprintln(h.in, command); err != nil {
		t.Fatal(err)
	}
	return h.answer(t)
}

// answer is what it says up to its next prompt.
func (h *Host) answer(t testing.TB) string {
	t.Helper()
	var said strings.Builder
	for !strings.HasSuffix(said.String(), prompt) {
		b, err := h.out.ReadByte()
		if err != nil {
			t.Fatalf("the host ended: %v: %s", err, said.String())
		}
		said.WriteByte(b)
	}
	return strings.TrimSuffix(said.String(), prompt)
}
