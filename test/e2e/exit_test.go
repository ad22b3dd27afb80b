package e2e

import (
	"context"
	"os"
	"os/exec"
	"time"
)

// exitError runs a program that is expected to fail.
func exitError(name string, args ...string) (out string, err error) {
	return exitErrorEnv(nil, name, args...)
}

func exitErrorEnv(env []string, name string, args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	text, err := cmd.CombinedOutput()
	return string(text), err
}
