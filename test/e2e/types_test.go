package e2e

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The entry points of the openstack and cinder commands, which each command
// line is given to in turn: starting Python for each takes longer than all that
// they do.
const (
	openstackShell = `import sys, shlex
from openstackclient import shell
for line in sys.stdin:
    print("$", line, end="", flush=True)
    if shell.main(shlex.split(line)):
        sys.exit("failed: " + line)
    sys.stdout.flush()
`
	cinderShell = `import sys, shlex
from cinderclient import shell
for line in sys.stdin:
    print("$", line, end="", flush=True)
    shell.OpenStackCinderShell().main(["--os-volume-api-version", "3.62"] + shlex.split(line))
    sys.stdout.flush()
`
)

// commands gives lines to a shell, and returns what they printed.
func commands(t *testing.T, env []string, shell string, lines ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-c", shell)
	cmd.Env, cmd.Stdin = append(os.Environ(), env...), strings.NewReader(strings.Join(lines, "\n")+"\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// TestOpenstackTypes has the openstack and cinder commands manage types, QoS
// specs, default types and quotas.
func TestOpenstackTypes(t *testing.T) {
	tool(t, "openstack")
	tool(t, "cinder")
	env, project := clientEnv(t, "kilo2", "admin"), user(t, "bob").ProjectID
	out := commands(t, env, openstackShell,
		"volume type create --private --property volume_backend_name=ssd_general --description made client-type",
		"volume type set --property key=value --project "+project+" client-type",
		"volume type show client-type -f json",
		"volume type set --encryption-provider luks --encryption-control-location front-end --encryption-key-size 256 "+
			"--encryption-cipher aes-xts-plain64 client-type",
		"volume type unset --encryption-type --property key client-type",
		"volume qos create --consumer both --property total_iops_sec=500 client-qos",
		"volume qos set --property total_bytes_sec=1000000 client-qos",
		"volume qos associate client-qos client-type",
		"volume qos list -f json",
		"volume qos disassociate --volume-type client-type client-qos",
		"volume qos unset --property total_bytes_sec client-qos",
		"volume qos delete client-qos",
	)
	for _, want := range []string{`"is_public": false`, `"client-qos"`, project, `"key": "value"`} {
		if !strings.Contains(out, want) {
			t.Errorf("openstack prints no %s:\n%s", want, out)
		}
	}
	id := regexp.MustCompile(`"id": "([0-9a-f-]{36})"`).FindStringSubmatch(out)
	if id == nil {
		t.Fatalf("openstack shows no id:\n%s", out)
	}
	out = commands(t, env, cinderShell,
		"type-key client-type set multiattach='<is> True'",
		"extra-specs-list",
		"type-access-list --volume-type client-type",
		"type-access-remove --volume-type client-type --project-id "+project,
		"type-update --name client-type-2 "+id[1],
		"default-type-set client-type-2 "+project,
		"default-type-list",
		"default-type-unset "+project,
		"qos-create cinder-qos consumer=back-end total_iops_sec=5",
		"quota-class-update --volumes 11 default",
		"quota-class-show default",
		"quota-class-update --volumes 10 default",
		"quota-update --volumes 9 --volume-type client-type-2 "+project,
		"quota-usage "+project,
		"quota-delete "+project,
		"type-delete client-type-2",
	)
	for _, want := range []string{"<is> True", "cinder-qos", "volumes_client-type-2"} {
		if !strings.Contains(out, want) {
			t.Errorf("cinder prints no %s:\n%s", want, out)
		}
	}
	if !regexp.MustCompile(`\| volumes +\| 11 +\|`).MatchString(out) {
		t.Errorf("the quota class has not 11 volumes:\n%s", out)
	}
}
