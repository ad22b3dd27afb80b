package keystone_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"

	"kvol/test/keystone"
)

// openstack is the openstack client as one user; the function runs one command
// and returns whether it succeeded and what it said.
func (c *cloud) openstack(user, password, domain, project string) func(args ...string) (ok bool, said string) {
	c.Helper()
	cmd := exec.CommandContext(c.Context(), keystone.Python, "client.py")
	cmd.Env = c.environment(user, password, domain, project)
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	var complained bytes.Buffer
	cmd.Stderr = &complained
	if errIn != nil || errOut != nil {
		c.Fatal(errIn, errOut)
	}
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // it ends with its input
	})
	lines := bufio.NewReader(out)
	return func(args ...string) (bool, string) {
		c.Helper()
		line, err := json.Marshal(args)
		if err != nil {
			c.Fatal(err)
		}
		if _, err := in.Write(append(line, '\n')); err != nil {
			c.Fatal(err)
		}
		text, err := lines.ReadBytes('\n')
		var ended struct {
			Status         int
			Output, Errors string
		}
		if err == nil {
			err = json.Unmarshal(text, &ended)
		}
		if err != nil {
			c.Fatalf("openstack %q: %v\n%s", args, err, &complained)
		}
		if ended.Status != 0 {
			return false, ended.Output + ended.Errors
		}
		return true, strings.TrimSpace(ended.Output)
	}
}

// sure is a client whose commands must succeed.
func (c *cloud) sure(run func(...string) (bool, string)) func(args ...string) string {
	return func(args ...string) string {
		c.Helper()
		ok, said := run(args...)
		if !ok {
			c.Fatalf("openstack %q: %s", args, said)
		}
		return said
	}
}
