package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestUserCommands makes a project and a user as an administrator does, and
// works as that user until the password is another one and the user is gone.
func TestUserCommands(t *testing.T) {
	kvol := func(env []string, input string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), zones.exe, args...)
		cmd.Env = append(os.Environ(), env...)
		cmd.Stdin = strings.NewReader(input)
		text, err := cmd.CombinedOutput()
		return string(text), err
	}
	root, place := user(t, "admin"), zone(t, "kilo2")
	as := func(name, password, project string) []string {
		return []string{"OS_AUTH_URL=" + place.IdentityURL, "OS_USERNAME=" + name, "OS_PASSWORD=" + password,
			"OS_PROJECT_ID=", "OS_PROJECT_NAME=" + project, "OS_REGION_NAME=" + place.Region}
	}
	admin := as(root.Name, root.Password, root.ProjectName)
	for _, step := range []struct {
		env   []string
		input string
		args  string
		fails bool
		says  string
	}{
		{admin, "first password\n", "user create carol", false, "carol"},
		{admin, "", "user project red", false, "red"},
		{as("carol", "first password", "red"), "", "volume list", true, "401"},
		{admin, "", "user grant carol red member", false, ""},
		{as("carol", "first password", "red"), "", "volume list", false, "Status"},
		{as("carol", "first password", "red"), "", "user list", true, "403"},
		{admin, "", "user list", false, "carol"},
		{admin, "second password\n", "user password carol", false, ""},
		{as("carol", "first password", "red"), "", "volume list", true, "401"},
		{as("carol", "second password", "red"), "", "volume list", false, "Status"},
		{admin, "", "user delete carol", false, ""},
		{as("carol", "second password", "red"), "", "volume list", true, "401"},
		{admin, "", "user delete carol", true, "carol"},
		{admin, "", "user create nobody", true, "password"},
	} {
		out, err := kvol(step.env, step.input, strings.Fields(step.args)...)
		if (err != nil) != step.fails || !strings.Contains(out, step.says) {
			t.Errorf("kvol %s: %v: %s", step.args, err, out)
		}
		if strings.Contains(out, " password\n") {
			t.Errorf("kvol %s prints a password: %s", step.args, out)
		}
	}
	out, err := kvol(nil, "first password\n", "user", "hash")
	if err != nil || !regexp.MustCompile(`^\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$\S+\$\S+\n$`).MatchString(out) {
		t.Errorf("kvol user hash: %v: %s", err, out)
	}
}
