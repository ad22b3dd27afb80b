package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvol/test/port"
)

// page is a block of commands of docs/runbook.md with what it has to print.
type page struct {
	line     int
	commands string
	exit     string
	want     []string
}

// pages reads the blocks of a document.
func pages(text string) (all []page) {
	var block []string
	info := ""
	for n, line := range strings.Split(text, "\n") {
		switch {
		case info == "" && strings.HasPrefix(line, "```"):
			info, block = strings.TrimPrefix(line, "```"), nil
		case info != "" && line == "```":
			kind, exit, _ := strings.Cut(info, " exit=")
			switch kind {
			case "bash":
				all = append(all, page{line: n + 1 - len(block), commands: strings.Join(block, "\n"), exit: exit})
			case "output":
				all[len(all)-1].want = block
			}
			info = ""
		case info != "":
			block = append(block, line)
		}
	}
	return all
}

// script makes one program of all pages, which says before each page which one
// it is, and stops at a command that fails where none should.
func script(all []page) string {
	var b strings.Builder
	b.WriteString("set -uo pipefail\nexec 2>&1\ntrap 'kill -9 $(cat *.pid) 2>/dev/null' EXIT\n")
	for n, p := range all {
		fmt.Fprintf(&b, "echo '@@page %d'\n", n)
		if p.exit == "" {
			fmt.Fprintf(&b, "set -e\n%s\nset +e\n", p.commands)
			continue
		}
		fmt.Fprintf(&b, "%s\nrc=$?; [ $rc -eq %s ] || { echo \"exit $rc, not %s\"; exit 99; }\n", p.commands, p.exit, p.exit)
	}
	b.WriteString("echo '@@page end'\n")
	return b.String()
}

// TestRunbook runs docs/runbook.md as it is written against three zones like
// those of the demo, and looks for what the document says that one sees.
func TestRunbook(t *testing.T) {
	for _, name := range []string{"bash", "curl", "jq", "qemu-io"} {
		tool(t, name)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := pages(string(text))
	if len(all) < 12 {
		t.Fatalf("the runbook has %d blocks", len(all))
	}
	dir := t.TempDir()
	anotherCloud(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script(all))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(zones.exe)+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	said, err := cmd.CombinedOutput()
	t.Logf("%s", said)
	parts := strings.Split(string(said), "@@page ")
	if err != nil || len(parts) != len(all)+2 {
		n := max(0, min(len(all), len(parts)-1)-1)
		t.Errorf("line %d: %v\n%s\nprinted\n%s", all[n].line, err, all[n].commands, parts[n+1])
		return
	}
	for n, p := range all {
		rest := parts[n+1]
		for _, pattern := range p.want {
			at := regexp.MustCompile("(?m)" + pattern).FindStringIndex(rest)
			if at == nil {
				t.Errorf("line %d prints no %s:\n%s", p.line, pattern, parts[n+1])
				break
			}
			rest = rest[at[1]:]
		}
	}
}

var loopback = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// anotherCloud writes zones like those of the demo, on other ports and empty,
// with a protection that leads back from kilo1 to mitaka1, and the environments
// of their users. KVOL_E2E_ANOTHER has what else to put in the place of what, where the
// demo's zones keep something elsewhere.
func anotherCloud(t *testing.T, dir string) {
	t.Helper()
	ports, others := map[string]string{}, map[string]string{}
	if text := os.Getenv("KVOL_E2E_ANOTHER"); text != "" {
		if err := json.Unmarshal([]byte(text), &others); err != nil {
			t.Fatal(err)
		}
	}
	move := func(text []byte) []byte {
		return loopback.ReplaceAllFunc(text, func(address []byte) []byte {
			if ports[string(address)] == "" {
				ports[string(address)] = port.Address(t)
			}
			return []byte(ports[string(address)])
		})
	}
	for _, z := range zones.Zones {
		if err := os.Mkdir(filepath.Join(dir, z.Name), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"kvol.yaml", "ca.crt", "zone.crt", "zone.key"} {
			text, err := os.ReadFile(filepath.Join(zones.dir, z.Name, name))
			if err != nil {
				t.Fatal(err)
			}
			if name == "kvol.yaml" {
				text = bytes.ReplaceAll(move(text), []byte(zones.dir), []byte(dir))
				for old, other := range others {
					text = bytes.ReplaceAll(text, []byte(old), []byte(other))
				}
			}
			if name == "kvol.yaml" && z.Name == "kilo1" {
				text = bytes.Replace(text, []byte("\nprotections:\n"), []byte("\nprotections:\n- seq: 8\n  volume_type: "+
					"ssd_general\n  destination: mitaka1\n  backup_backend: {name: m_svm_nfs}\n  interval: 1s\n"), 1)
			}
			if err := os.WriteFile(filepath.Join(dir, z.Name, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, u := range zones.Users {
			rc := fmt.Sprintf("export OS_AUTH_URL=%s OS_USERNAME=%s OS_PASSWORD=%s OS_PROJECT_ID=%s OS_REGION_NAME=%s "+
				"KVOL_URL=%s KVOL_USER=%s KVOL_PASSWORD=%s\n", move([]byte(z.IdentityURL)), u.Name, u.Password, u.ProjectID,
				z.Region, move([]byte(z.URL)), zones.KvolUser, zones.KvolPass)
			if err := os.WriteFile(filepath.Join(dir, z.Name+"-"+u.Name+".rc"), []byte(rc), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
