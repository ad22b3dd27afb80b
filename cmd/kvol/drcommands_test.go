package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// desk is a person at three zones who types commands.
type desk struct {
	t    *testing.T
	c    *zonetest.Cloud
	zone string
	user string
	ran  map[string]bool // paths of the commands that were run
}

// at is the desk of somebody who is logged in to a zone.
func (d *desk) at(zone, user string) *desk {
	other := *d
	other.zone, other.user = zone, user
	return &other
}

// run runs a command, and returns what it prints and whether its exit status is 0.
func (d *desk) run(args ...string) (printed string, err error) {
	d.t.Helper()
	for name, value := range map[string]string{"OS_AUTH_URL": d.c.URL(d.zone) + "/identity", "OS_USERNAME": d.user,
		"OS_PASSWORD": zonetest.Password, "OS_PROJECT_ID": d.c.Projects[d.user], "OS_PROJECT_NAME": "",
		"OS_USER_DOMAIN_NAME": "", "OS_REGION_NAME": "", "OS_CACERT": "", "KVOL_URL": d.c.URL(d.zone),
		"KVOL_USER": zonetest.KvolUser, "KVOL_PASSWORD": zonetest.Password} {
		d.t.Setenv(name, value)
	}
	var out bytes.Buffer
	c := root()
	if found, _, err := c.Find(args); err == nil {
		d.ran[found.CommandPath()] = true
	}
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err = c.ExecuteContext(d.t.Context())
	return out.String(), err
}

// says wants a command to succeed and to print what matches.
func (d *desk) says(pattern string, args ...string) string {
	d.t.Helper()
	out, err := d.run(args...)
	if err != nil || !regexp.MustCompile("(?s)"+pattern).MatchString(out) {
		d.t.Fatalf("kvol %s: %v; it prints no %q:\n%s", strings.Join(args, " "), err, pattern, out)
	}
	return out
}

// json wants a command to succeed and to print one JSON document.
func (d *desk) json(into any, args ...string) {
	d.t.Helper()
	out, err := d.run(append(args, "-o", "json")...)
	if err == nil {
		err = json.Unmarshal([]byte(out), into)
	}
	if err != nil {
		d.t.Fatalf("kvol %s -o json: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// patiently is json for what a zone may have no time for, on a machine with much
// else to do: it is asked for again, by the same key.
func (d *desk) patiently(into any, args ...string) {
	d.t.Helper()
	err := client.Poll(d.t.Context(), 100*time.Millisecond, func() (bool, error) {
		out, err := d.run(append(args, "-o", "json")...)
		if err != nil && strings.Contains(err.Error(), "does not answer") {
			return false, nil
		}
		if err == nil {
			err = json.Unmarshal([]byte(out), into)
		}
		return true, err
	})
	if err != nil {
		d.t.Fatalf("kvol %s: %v", strings.Join(args, " "), err)
	}
}

// shows is says, and the same as JSON.
func (d *desk) shows(pattern string, args ...string) {
	d.t.Helper()
	d.says(pattern, args...)
	d.json(new(any), args...)
}

// fails wants a command to end with another status than 0, and a sentence.
func (d *desk) fails(sentence string, args ...string) {
	d.t.Helper()
	out, err := d.run(args...)
	if err == nil || !strings.Contains(err.Error(), sentence) {
		d.t.Fatalf("kvol %s: %v, want %q:\n%s", strings.Join(args, " "), err, sentence, out)
	}
}

// file writes a file for a command to read.
func (d *desk) file(text string) string {
	d.t.Helper()
	path := filepath.Join(d.t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

const (
	first, second, third = "mitaka1", "kilo1", "kilo2"
	witness              = "second" // administrator
)

// TestDRCommands runs every command of "kvol dr" against three zones: what it
// prints for people and for programs, how it fails, and that it waits. A command
// that is not run fails the test.
func TestDRCommands(t *testing.T) {
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		cfg.DR.SecondConsent = cfg.Zone == third
		cfg.Identity.Users = append(cfg.Identity.Users, zone.UserConfig{Name: witness, Password: zonetest.Password,
			Roles: []zone.RoleConfig{{Project: zonetest.Admin, Role: "admin"}}})
	})
	c.Projects[witness] = c.Projects[zonetest.Admin]
	d := &desk{t: t, c: c, ran: map[string]bool{}}
	j := zonetest.NewJourney(t, c, first, 16, 1)
	other := zonetest.NewJourney(t, c, first, 4, 2)
	j.WriteHere(0, 16)
	other.WriteHere(0, 4)
	for _, one := range []*zonetest.Journey{j, other} {
		one.AwaitReplica(second)
		one.AwaitReplica(third)
	}
	looks(d, j.Volume)
	keeps(d, j.Volume)
	drills(d, j.Volume)
	plans(d, j.Volume)
	audits(d)
	copies(d, j.Volume)
	moves(d, j)
	disaster(d, other.Volume)
	for path := range leaves(drCommand(&output{})) {
		if !d.ran["kvol "+path] {
			t.Errorf("kvol %s was not run", path)
		}
	}
}

// leaves are the commands that do something, by path.
func leaves(c *cobra.Command) map[string]*cobra.Command {
	if len(c.Commands()) == 0 {
		return map[string]*cobra.Command{c.CommandPath(): c}
	}
	all := map[string]*cobra.Command{}
	for _, one := range c.Commands() {
		maps.Copy(all, leaves(one))
	}
	return all
}

// TestDRHelp: every command of "kvol dr" says what it is for, in a sentence that
// begins as one, and what each of its flags is.
func TestDRHelp(t *testing.T) {
	for path, c := range leaves(drCommand(&output{})) {
		if len(c.Short) < 10 || c.Short[0] < 'A' || c.Short[0] > 'Z' || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: %q", path, c.Short)
		}
		if strings.Contains(c.UsageString(), "  string \n") {
			t.Errorf("%s has a flag without a word:\n%s", path, c.UsageString())
		}
	}
}

// looks are commands that only read.
func looks(d *desk, volume string) {
	own, here, admin := d.at(first, zonetest.Alice), d.at(second, zonetest.Alice), d.at(first, zonetest.Admin)
	own.shows("Replicated up to.*By.*"+volume+".*"+second+".*stream", "dr", "links")
	own.shows("Behind.*By.*"+volume+".*stream", "dr", "health")
	own.shows("by.*stream.*newest point.*its root hash.*last hour", "dr", "health", volume)
	own.fails("this zone replicates no volume nothing", "dr", "health", "nothing")
	own.shows("State", "dr", "events", "--limit", "5")
	own.says("Volumes: ", "dr", "status")
	own.json(new(any), "dr", "status")
	own.shows("Lives in", "dr", "stale")
	admin.shows("Behind.*"+second+".*stream", "dr", "status")
	admin.shows("By.*"+first+".*"+second+".*stream.*active", "dr", "protections")
	own.fails("dministrator", "dr", "protections")
	admin.shows("Zone", "dr", "link", "list")
	admin.shows("20.0 MiB/s", "dr", "link", "limit", second, "--rate", "20MiB", "--window", "mon-fri 01:00-01:01 10MiB")
	admin.fails("is no size", "dr", "link", "limit", second, "--rate", "fast")
	admin.says("^$", "dr", "link", "unlimit", second)
	admin.fails("", "dr", "link", "unlimit", second)
	own.shows("Ready", "dr", "link", "progress")
	admin.shows("Replicated up to", "dr", "link", "relays")
	own.fails("dministrator", "dr", "link", "relays")
	const at = `20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d\d\d`
	here.shows("Newest point.*"+first+" +. "+volume+" +. "+at+" . "+at, "dr", "replicas")
	here.shows("Root hash", "dr", "points", first, volume)
	here.fails("could not be found", "dr", "points", first, "11111111-1111-4111-8111-111111111111")
	own.shows(second, "dr", "list", first, zonetest.TypeID(first))
	own.shows("Status.*"+second+".*active", "dr", "show", first, zonetest.TypeID(first), "--to", second)
	admin.shows("Took", "dr", "rtos")
	admin.fails(`"xml" is neither table nor json`, "dr", "links", "-o", "xml")
	doctor, err := admin.run("dr", "doctor")
	if err != nil && !strings.Contains(err.Error(), "not as") {
		d.t.Fatalf("%v\n%s", err, doctor)
	}
	own.fails("Only an administrator", "dr", "doctor", "--fix")
	if _, err := admin.run("dr", "doctor", "--last"); err != nil &&
		!strings.Contains(err.Error(), "not looked by itself") {
		d.t.Fatal(err)
	}
}

// keeps are pins and holds, and verification.
func keeps(d *desk, volume string) {
	here := d.at(second, zonetest.Alice)
	var pin, hold client.Keep
	here.json(&pin, "dr", "pin", first, volume, "newest", "--name", "before the upgrade")
	here.shows("before the upgrade", "dr", "keeps")
	here.says("^$", "dr", "unpin", pin.ID)
	here.fails("could not be found", "dr", "unpin", pin.ID)
	here.json(&hold, "dr", "hold", first, volume, "newest", "--for", "1h")
	here.says("until", "dr", "hold", "--keep", hold.ID, "--for", "2h")
	here.fails("", "dr", "hold", "--keep", hold.ID, "--for", "1m")
	here.fails("or --keep alone", "dr", "hold", first, "--for", "1m")
	here.fails("", "dr", "unpin", hold.ID)
	here.fails("", "dr", "dismiss", first, volume)
	here.shows("status +. succeeded", "dr", "verify", volume, "--wait", "--key", "v1")
	here.fails("another request", "dr", "verify", volume, "--zone", first, "--key", "v1")
}

// drills are drills, their schedules and reports.
func drills(d *desk, volume string) {
	here := d.at(second, zonetest.Alice)
	here.fails("at least one of the flags", "dr", "drill", "start")
	here.fails("are no seconds", "dr", "drill", "start", "--volume", volume, "--probe", "fsck@soon")
	report, err := here.run("dr", "drill", "start", "--volume", volume, "--watch", "1", "--wait", "--key", "d1")
	if !regexp.MustCompile(`(?s)verdict +. (pass|fail).*clones made, left +. 1, 0`).MatchString(report) ||
		(err == nil) != strings.Contains(report, "| pass") { // on a busy machine replication may be disturbed
		d.t.Fatalf("%v\n%s", err, report)
	}
	var list []client.Durable
	here.json(&list, "dr", "drill", "list")
	id := list[0].ID
	here.says(id, "dr", "drill", "list")
	here.shows(id, "dr", "drill", "show", id)
	here.shows("RPO median", "dr", "drill", "report", id)
	page := filepath.Join(d.t.TempDir(), "page.html")
	here.says("^$", "dr", "drill", "report", id, "--page", page)
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("<html")) {
		d.t.Errorf("%v: %s", err, text)
	}
	here.fails("", "dr", "drill", "cancel", id)
	here.says("nightly", "dr", "drill", "schedule", "create", "nightly", "--when", "30 3 * * *", "--volume", volume)
	here.fails("", "dr", "drill", "schedule", "create", "other", "--when", "now and then", "--volume", volume)
	here.shows("nightly", "dr", "drill", "schedule", "list")
	here.says("enabled +. false", "dr", "drill", "schedule", "disable", "nightly")
	here.says("enabled +. true", "dr", "drill", "schedule", "enable", "nightly")
	here.shows("30 3", "dr", "drill", "schedule", "show", "nightly")
	here.says("^$", "dr", "drill", "schedule", "delete", "nightly")
	here.fails("could not be found", "dr", "drill", "schedule", "show", "nightly")
}

// plans are recovery plans.
func plans(d *desk, volume string) {
	here := d.at(second, zonetest.Alice)
	text := `{"name": "shop", "waves": [{"name": "databases", "scope": {"volumes": ["` + volume + `"]}}]}`
	here.says("databases", "dr", "plan", "create", d.file(text))
	here.fails("unknown field", "dr", "plan", "create", d.file(`{"nam": "shop"}`))
	here.shows("shop", "dr", "plan", "list")
	here.says(
		"late",
		"dr",
		"plan",
		"update",
		"shop",
		d.file(strings.Replace(text, `"waves"`, `"description": "late", "waves"`,
			1)),
	)
	here.shows("late.*databases", "dr", "plan", "show", "shop")
	here.says("Loses.*"+volume+".*needs --accept-loss", "dr", "recover", "--plan", "shop", "--dry-run")
	here.json(new(client.Forecast), "dr", "recover", "--plan", "shop", "--dry-run")
	here.says("^$", "dr", "plan", "delete", "shop")
	here.fails("could not be found", "dr", "plan", "show", "shop")
}

// audits are about the audit log.
func audits(d *desk) {
	admin, file := d.at(second, zonetest.Admin), filepath.Join(d.t.TempDir(), "log")
	admin.shows("Asked for.*plan create", "dr", "audit", "list", "--call", "plan")
	admin.says("It is what was written", "dr", "audit", "verify")
	admin.says("last record", "dr", "audit", "export", file)
	admin.says("records 1 to", "dr", "audit", "verify", file)
	admin.fails("Nothing is wrong", "dr", "audit", "accept", first)
	d.at(second, zonetest.Alice).fails("dministrator", "dr", "audit", "list")
}

// copies is a volume in another zone from a snapshot, by the kvol API.
func copies(d *desk, volume string) {
	own := d.at(first, zonetest.Alice)
	s := d.c.Session(first, zonetest.Alice)
	snap, err := s.CreateSnapshot(d.t.Context(), client.NewSnapshot{VolumeID: volume, Name: "named"})
	if err != nil {
		d.t.Fatal(err)
	}
	there := d.c.Session(second, zonetest.Admin)
	err = client.Poll(d.t.Context(), 20*time.Millisecond, func() (bool, error) {
		replicas, err := there.ReplicasOf(d.t.Context(), first, volume)
		return err == nil &&
			slices.ContainsFunc(replicas[0].Points, func(p client.Point) bool { return p.ID == snap.ID }), err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	to := []string{"--from", first, "--from-type", zonetest.TypeID(first), "--to", second, "--to-type",
		zonetest.TypeID(second), "--project", d.c.Projects[zonetest.Alice]}
	own.says("status +. SUCCESS", append([]string{"dr", "create", snap.ID, "--wait"}, to...)...)
	own.shows("SUCCESS", "dr", "createlist")
	own.fails("required flag", "dr", "create", snap.ID)
}

// moves are a planned failover and the way back.
func moves(d *desk, j *zonetest.Journey) {
	own := d.at(first, zonetest.Alice)
	own.fails("", "dr", "failback", j.Volume)
	own.fails("could not be found", "dr", "failover", "11111111-1111-4111-8111-111111111111", "--to", second)
	var begun, again client.Failover
	own.patiently(&begun, "dr", "failover", j.Volume, "--to", second, "--key", "f1", "--wait")
	own.json(&again, "dr", "failover", j.Volume, "--to", second, "--key", "f1")
	if begun.Status != "success" || again.ID != begun.ID || again.Status != "success" {
		d.t.Fatalf("%+v, then %+v", begun, again)
	}
	own.fails(
		"The idempotency key was used for another request.",
		"dr",
		"failover",
		j.Volume,
		"--to",
		third,
		"--key",
		"f1",
	)
	own.shows("phase +. done|done", "dr", "status", begun.ID)
	own.shows(second+".*"+begun.NewVolume, "dr", "stale")
	j.Zone, j.Volume = second, begun.NewVolume
	j.WriteHere(0, 2)
	j.AwaitReplica(first)
	back := d.at(second, zonetest.Alice)
	back.patiently(&again, "dr", "failback", j.Volume, "--wait", "--key", "f1") // keys are of a zone
	if again.Status != "success" {
		d.t.Errorf("%+v", again)
	}
}

// disaster is the loss of a zone, and recoveries of what it had.
func disaster(d *desk, volume string) {
	d.c.Kill(first)
	admin := d.at(third, zonetest.Admin)
	admin.fails("at least one of the flags", "dr", "recover", "--accept-loss")
	admin.fails("accept_loss", "dr", "recover", "--volume", volume)
	var op client.Durable
	admin.json(&op, "dr", "recover", "--volume", volume, "--accept-loss", "--key", "night")
	if op.Status != "waiting for consent" {
		d.t.Fatalf("%+v", op)
	}
	admin.says("kvol dr operation consent "+op.ID, "dr", "operation", "show", op.ID)
	admin.fails("Another person", "dr", "operation", "consent", op.ID)
	d.at(third, zonetest.Alice).fails("could not be found", "dr", "operation", "consent", op.ID)
	d.at(third, witness).says("consent by", "dr", "operation", "consent", op.ID)
	admin.shows("status +. succeeded", "dr", "operation", "show", op.ID, "--wait")
	admin.shows("succeeded", "dr", "operation", "list", "--kind", "recover")
	admin.fails("no step of it can be canceled", "dr", "operation", "cancel", op.ID)
	admin.fails("lives on as volume", "dr", "recover", "--volume", volume, "--accept-loss")
	to := []string{"--from", first, "--from-type", zonetest.TypeID(first), "--to", second, "--to-type",
		zonetest.TypeID(second), "--project", d.c.Projects[zonetest.Alice]}
	d.at(second, zonetest.Alice).fails("Zone "+third+" has taken volume",
		append([]string{"dr", "recovery", volume, "--wait"}, to...)...)
	d.at(second, zonetest.Alice).shows("FAIL", "dr", "recoverylist")
}
