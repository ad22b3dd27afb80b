package processes

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvol/internal/api/peer"
	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/test/postgres"
	"kvol/test/program"
)

// secure is what processes know of TLS.
const secure = `
tls: {cert: %[1]s.crt, key: %[1]s.key}
`

// authority makes one that signs certificates of 127.0.0.1.
func authority(t *testing.T) (ca *peer.CA, certificate []byte) {
	t.Helper()
	ca, err := peer.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	return ca, text.Cert
}

// newSecureZone makes a zone whose processes talk by TLS, and whose exports are
// behind a proxy. The process c has a certificate of an authority that the others
// don't know. None runs yet.
func newSecureZone(t *testing.T, server *postgres.Server) *zone {
	t.Helper()
	z := emptyZone(t, "mitaka1", server)
	good, known := authority(t)
	bad, unknown := authority(t)
	files := map[string][]byte{"known.pem": known}
	for name, by := range map[string]*peer.CA{"a": good, "b": good, "c": bad} {
		issued, err := by.IssueZone(block.Zone(name), time.Now(), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		files[name+".crt"], files[name+".key"] = issued.Cert, issued.Key
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(z.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool() // of those that ask the processes
	if !roots.AppendCertsFromPEM(known) || !roots.AppendCertsFromPEM(unknown) {
		t.Fatal("an authority without a certificate")
	}
	z.http = &http.Client{Timeout: time.Minute,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	fronts := []*front{{name: "nbd"}, {name: "iscsi"}}
	for _, f := range fronts {
		f.choose(t)
	}
	for n, name := range []string{"a", "b", "c"} {
		z.add(name, plan{lease: "10s", store: embedded, tls: true, process: ", ca: known.pem",
			exports: fmt.Sprintf("nbd: %q, iscsi: %q, public_host: 127.0.0.1", fronts[0].behind(n), fronts[1].behind(n)),
			more:    fmt.Sprintf(secure, name)})
	}
	tcpProxy(t, z, fronts...)
	return z
}

// initiator is a host that has a volume open by iSCSI, in one session for as long as
// it can have one.
type initiator struct {
	t   *testing.T
	in  interface{ Write([]byte) (int, error) }
	out *bufio.Scanner
}

// newInitiator opens a volume by qemu's initiator.
func (z *zone) newInitiator(p *process, volume string) *initiator {
	z.t.Helper()
	const name = "iqn.1994-05.com.redhat:host"
	info, err := z.login(p.url, "alice").Connect(z.t.Context(), volume,
		map[string]any{"host": "h", "initiator": name, "protocol": "iscsi"})
	if err != nil {
		z.t.Fatal(err)
	}
	d := info.Data
	z.secret(d["auth_password"], d["target_auth_password"])
	path, err := exec.LookPath("qemu-io")
	if err != nil {
		if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			z.t.Fatal("qemu-io is missing; test/setup.sh installs it")
		}
		z.t.Skip("SKIPPED: qemu-io is not installed")
	}
	cmd := exec.Command(path, "--image-opts", fmt.Sprintf("driver=raw,file.driver=iscsi,file.transport=tcp,"+
		"file.lun=1,file.portal=%v,file.target=%v,file.initiator-name=%s,file.user=%v,file.password=%v",
		d["target_portal"], d["target_iqn"], name, d["auth_username"], d["auth_password"]))
	in, err := cmd.StdinPipe()
	if err != nil {
		z.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		z.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		z.t.Fatal(err)
	}
	program.Note(z.t, z.dir, "initiator", cmd)
	z.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // by the kill
	})
	return &initiator{t: z.t, in: in, out: bufio.NewScanner(out)}
}

// do has the host run a command of qemu-io's, and waits for as long as it takes
// until it says that it did.
func (i *initiator) do(command, want string) {
	i.t.Helper()
	if _, err := i.in.Write([]byte(command + "\n")); err != nil {
		i.t.Fatal(err)
	}
	for i.out.Scan() {
		line := i.out.Text()
		if strings.Contains(line, want) {
			return
		}
		if strings.Contains(line, "failed") || strings.Contains(line, "error") {
			i.t.Fatalf("the host was told to %s: %s", command, line)
		}
	}
	i.t.Fatalf("the host ended when it was told to %s: %v", command, i.out.Err())
}

// hostsFollow: a host's iSCSI session finds the process that takes its volume
// over at the same portal, and logs in again; nothing of it fails. Processes speak
// TLS to each other, and one whose certificate nobody vouches for is told nothing.
func hostsFollow(t *testing.T, server *postgres.Server) {
	z := newSecureZone(t, server)
	a, b, c := z.processes[0], z.processes[1], z.processes[2]
	for _, p := range []*process{a, b} {
		p.start()
		p.awaitHealth()
	}
	leads, others := z.leader()
	volume := z.make(others[0], "one") // asked of one process, made by the other
	if all, err := z.login(others[0].url, "root").Stores(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("the process that does not lead says %v, %v", all, err)
	}
	host := z.newInitiator(others[0], volume)
	host.do("write -P 17 0 64k", "wrote 65536/65536")
	leads.kill()
	host.do("write -P 18 64k 64k", "wrote 65536/65536")
	host.do("read -P 17 0 64k", "read 65536/65536")
	if now, _ := z.leader(); now != others[0] {
		t.Errorf("process %s leads", now.Name)
	}
	leads.start()
	leads.awaitHealth()
	others[0].signal(syscall.SIGTERM)
	if err := others[0].awaitEnd(); err != nil {
		t.Error(err)
	}
	host.do("read -P 18 64k 64k", "read 65536/65536")
	host.do("write -P 19 0 64k", "wrote 65536/65536")

	c.start()
	c.awaitHealth()
	leads.kill()
	if now, _ := z.leader(); now != c {
		t.Fatalf("process %s leads", now.Name)
	}
	a.start()
	a.awaitHealth()
	_, err := z.login(a.url, "root").Stores(t.Context())
	if !client.IsStatus(err, http.StatusServiceUnavailable) {
		t.Errorf("a request went to a process with a certificate that nobody vouches for: %v", err)
	}
	z.await("it says why", func() error {
		if !strings.Contains(a.Log.String(), "certificate signed by unknown authority") {
			return errors.New("it does not")
		}
		return nil
	})
	c.kill()
	z.leader()
	if _, err := z.login(a.url, "root").Stores(t.Context()); err != nil {
		t.Error(err)
	}
	host.do("read -P 19 0 64k", "read 65536/65536")
}
