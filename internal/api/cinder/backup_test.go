package cinder_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/backups"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// filled makes a volume that has bytes.
func (f *fixture) filled() string {
	f.Helper()
	v, err := volumes.Create(f.Context(), f.client3("member", newest), volumes.CreateOpts{Size: 1, Name: "v"}, nil).
		Extract()
	f.must(err)
	f.status("volumes/"+v.ID, "volume.status", "available")
	return v.ID
}

// keys lists an object's members, sorted.
func keys(m map[string]any) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// TestBackupKeys: each microversion has exactly its keys.
func TestBackupKeys(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client3("admin", newest)
	v := f.filled()
	b, err := backups.Create(ctx, c, backups.CreateOpts{VolumeID: v, Name: "b", Metadata: map[string]string{"k": "x"}}).
		Extract()
	f.must(err)
	f.status("backups/"+b.ID, "backup.status", "available")
	base := []string{"availability_zone", "container", "created_at", "data_timestamp", "description", "fail_reason",
		"has_dependent_backups", "id", "is_incremental", "links", "name", "object_count", "size", "snapshot_id", "status",
		"updated_at", "volume_id"}
	for _, x := range []struct {
		minor int
		token string
		more  []string
	}{
		{0, "admin", nil},
		{17, "admin", nil},
		{18, "admin", []string{"os-backup-project-attr:project_id"}},
		{18, "member", nil},
		{43, "member", []string{"metadata"}},
		{56, "member", []string{"metadata", "user_id"}},
		{67, "admin", []string{"metadata", "os-backup-project-attr:project_id", "user_id"}},
	} {
		var body struct {
			Backup map[string]any `json:"backup"`
		}
		c := f.client3(x.token, fmt.Sprintf("3.%d", x.minor))
		_, err := c.Get(ctx, c.ServiceURL("backups", b.ID), &body, nil)
		f.must(err)
		want := slices.Sorted(slices.Values(append(slices.Clone(base), x.more...)))
		if got := keys(body.Backup); !slices.Equal(got, want) {
			t.Errorf("3.%d, %s: %v, want %v", x.minor, x.token, got, want)
		}
	}
}

// refused checks an answer's status and sentence.
func refused(t *testing.T, what string, err error, code int, sentence string) {
	t.Helper()
	if !gophercloud.ResponseCodeIs(err, code) || !strings.Contains(err.Error(), sentence) {
		t.Errorf("%s: %v, want %d %s", what, err, code, sentence)
	}
}

// TestGophercloud3Backups takes the whole life of a chain of backups.
func TestGophercloud3Backups(t *testing.T) {
	f := newClientFixture(t)
	ctx, c, admin := t.Context(), f.client3("member", newest), f.client3("admin", newest)
	v := f.filled()
	_, err := backups.Create(ctx, c, backups.CreateOpts{VolumeID: v, Incremental: true}).Extract()
	refused(t, "an increment of nothing", err, 400,
		"Invalid backup: No backups available to do an incremental backup.")
	full, err := backups.Create(ctx, c, backups.CreateOpts{VolumeID: v, Name: "full", Container: "c",
		AvailabilityZone: "kr-pub-a"}).Extract()
	f.must(err)
	f.status("backups/"+full.ID, "backup.status", "available")
	next, err := backups.Create(ctx, c, backups.CreateOpts{VolumeID: v, Name: "next", Incremental: true}).Extract()
	f.must(err)
	f.status("backups/"+next.ID, "backup.status", "available")
	full, err = backups.Get(ctx, c, full.ID).Extract()
	f.must(err)
	next, err = backups.Get(ctx, c, next.ID).Extract()
	f.must(err)
	if !full.HasDependentBackups || full.IsIncremental || !next.IsIncremental || next.HasDependentBackups ||
		full.Container != "c" || *full.AvailabilityZone != "kr-pub-a" || full.Size != 1 || full.ObjectCount != 1 {
		t.Errorf("%+v\n%+v", full, next)
	}
	refused(t, "the middle of a chain", backups.Delete(ctx, c, full.ID).ExtractErr(), 400,
		"Invalid backup: Incremental backups exist for this backup.")

	var changed map[string]map[string]any // gophercloud's Update sends no envelope, which Cinder refuses
	_, err = c.Put(ctx, c.ServiceURL("backups", full.ID), map[string]any{"backup": map[string]any{"name": "renamed",
		"description": "d", "metadata": map[string]string{"a": "b"}}}, &changed,
		&gophercloud.RequestOpts{OkCodes: []int{200}})
	f.must(err)
	if got := changed["backup"]; got["name"] != "renamed" || len(got) != 4 {
		t.Errorf("changed: %v", got)
	}

	r, err := backups.RestoreFromBackup(ctx, c, full.ID, backups.RestoreOpts{VolumeID: v}).Extract()
	f.must(err)
	f.status("volumes/"+v, "volume.status", "available")
	f.status("backups/"+full.ID, "backup.status", "available")
	if r.VolumeID != v || r.BackupID != full.ID || r.VolumeName != "v" {
		t.Errorf("restored: %+v", r)
	}
	r, err = backups.RestoreFromBackup(ctx, c, full.ID, backups.RestoreOpts{}).Extract()
	f.must(err)
	f.status("volumes/"+r.VolumeID, "volume.status", "available")
	f.status("backups/"+full.ID, "backup.status", "available")
	if r.VolumeName != "restore_backup_"+full.ID {
		t.Errorf("restored to a new volume: %+v", r)
	}
	made, err := volumes.Create(ctx, c, volumes.CreateOpts{BackupID: next.ID, Size: 2}, nil).Extract()
	f.must(err)
	f.status("volumes/"+made.ID, "volume.status", "available")
	f.status("backups/"+next.ID, "backup.status", "available")

	_, err = backups.Export(ctx, c, next.ID).Extract()
	refused(t, "a member exports", err, 403, "Policy doesn't allow backup:export-import to be performed.")
	record, err := backups.Export(ctx, admin, next.ID).Extract()
	f.must(err)
	_, err = backups.Import(ctx, admin, backups.ImportOpts(*record)).Extract()
	refused(t, "an import of what is there", err, 400, "Invalid backup: Backup already exists in database.")
	for what, url := range map[string][]byte{"nothing": []byte("x"), "no record": []byte(`{"id":"1"}`)} {
		_, err = backups.Import(ctx, admin, backups.ImportOpts{BackupService: record.BackupService, BackupURL: url}).Extract()
		refused(t, "an import of "+what, err, 400, "Invalid input received: Can't parse backup record.")
	}

	refused(t, "a member resets", backups.ResetStatus(ctx, c, next.ID, backups.ResetStatusOpts{Status: "error"}).
		ExtractErr(), 403, "Policy doesn't allow volume_extension:backup_admin_actions:reset_status to be performed.")
	f.must(backups.ResetStatus(ctx, admin, next.ID, backups.ResetStatusOpts{Status: "error"}).ExtractErr())
	f.status("backups/"+next.ID, "backup.status", "error")
	for _, b := range []string{next.ID, full.ID} {
		if b == full.ID {
			f.must(backups.ForceDelete(ctx, admin, b).ExtractErr())
		} else {
			f.must(backups.Delete(ctx, c, b).ExtractErr())
		}
		f.until(func() bool { return gophercloud.ResponseCodeIs(backups.Get(ctx, c, b).Err, http.StatusNotFound) })
	}
}

// TestBackupLists: filters, order, pages with their links, and counts.
func TestBackupLists(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client3("member", newest)
	v := f.filled()
	for _, name := range []string{"c", "a", "b"} {
		b, err := backups.Create(ctx, c, backups.CreateOpts{VolumeID: v, Name: name}).Extract()
		f.must(err)
		f.status("backups/"+b.ID, "backup.status", "available")
	}
	for query, want := range map[string]string{
		"":                             "b a c",
		"?sort=name:asc":               "a b c",
		"?limit=2&sort=name:asc":       "a b",
		"?name=a":                      "a",
		"?status=error":                "",
		"?volume_id=" + v + "&limit=1": "b",
		"?offset=1":                    "a c",
		"?limit=0":                     "",
	} {
		var body struct {
			Backups []struct {
				Name string `json:"name"`
			} `json:"backups"`
			Links []map[string]string `json:"backups_links"`
			Count *int                `json:"count"`
		}
		for _, path := range []string{"backups", "backups/detail"} {
			counted := path + query + "&with_count=true"
			if query == "" {
				counted = path + "?with_count=true"
			}
			_, err := c.Get(ctx, c.ServiceURL(counted), &body, nil)
			f.must(err)
			var names []string
			for _, b := range body.Backups {
				names = append(names, b.Name)
			}
			if got := strings.Join(names, " "); got != want || body.Count == nil {
				t.Errorf("%s: %q, want %q; count %v", counted, got, want, body.Count)
			}
			if full := strings.Contains(query, "limit=") && want != ""; full != (len(body.Links) == 1) {
				t.Errorf("%s: links %v", counted, body.Links)
			}
			body.Links, body.Backups, body.Count = nil, nil, nil
		}
	}
	for query, sentence := range map[string]string{
		"?size=1":    "Invalid filters size are found in query options.",
		"?sort=junk": "Invalid sort key",
		"?limit=-1":  "limit param must be positive",
	} {
		_, err := c.Get(ctx, c.ServiceURL("backups"+query), nil, nil)
		refused(t, query, err, 400, sentence)
	}
	pages := 0
	f.must(backups.List(c, backups.ListOpts{Limit: 2}).EachPage(ctx, func(context.Context, pagination.Page) (bool, error) {
		pages++
		return true, nil
	}))
	if pages != 2 {
		t.Errorf("%d pages", pages)
	}
}

// TestBackupRefusals are the sentences of what is not allowed.
func TestBackupRefusals(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client3("member", newest)
	v := f.filled()
	post := func(minor, path, body string) error {
		client := f.client3("member", "3."+minor)
		_, err := client.Post(ctx, client.ServiceURL(path), json.RawMessage(body), nil,
			&gophercloud.RequestOpts{OkCodes: []int{202}})
		return err
	}
	for body, sentence := range map[string]string{
		`{}`:            "'backup' is a required property",
		`{"backup":{}}`: "'volume_id' is a required property",
		`{"backup":{"volume_id":"x"}}`: "Invalid input for field/attribute volume_id. Value: x. " +
			"'x' is not a 'uuid'",
		`{"backup":{"volume_id":"` + v + `","junk":1}}`:                   "('junk' was unexpected)",
		`{"backup":{"volume_id":"` + v + `","force":"maybe"}}`:            "attribute force. Value: maybe.",
		`{"backup":{"volume_id":"` + v + `","availability_zone":"mars"}}`: "Availability zone 'mars' is invalid.",
	} {
		refused(t, body, post("67", "backups", body), 400, sentence)
	}
	refused(t, "metadata before 3.43", post("42", "backups", `{"backup":{"volume_id":"`+v+`","metadata":{}}}`), 400,
		"('metadata' was unexpected)")
	refused(t, "a zone before 3.51", post("50", "backups", `{"backup":{"volume_id":"`+v+`","availability_zone":"x"}}`),
		400, "('availability_zone' was unexpected)")
	refused(t, "no such volume", post("67", "backups", `{"backup":{"volume_id":"`+noSuchID+`"}}`), 404,
		"Volume "+noSuchID+" could not be found.")
	refused(t, "another's volume", func() error {
		o := f.client3("other", newest)
		o.Endpoint = strings.Replace(o.Endpoint, project, other, 1)
		_, err := backups.Create(ctx, o, backups.CreateOpts{VolumeID: v}).Extract()
		return err
	}(), 404, "could not be found.")
	refused(t, "a reader", func() error {
		_, err := backups.Create(ctx, f.client3("reader", newest), backups.CreateOpts{VolumeID: v}).Extract()
		return err
	}(), 403, "Policy doesn't allow backup:create to be performed.")

	f.must(volumes.Attach(ctx, c, v, volumes.AttachOpts{HostName: "h", MountPoint: "/dev/vdb"}).ExtractErr())
	_, err := backups.Create(ctx, c, backups.CreateOpts{VolumeID: v}).Extract()
	refused(t, "in use", err, 400, "Invalid volume: Backing up an in-use volume must use the force flag.")
	b, err := backups.Create(ctx, c, backups.CreateOpts{VolumeID: v, Force: true}).Extract()
	f.must(err)
	f.status("backups/"+b.ID, "backup.status", "available")
	f.status("volumes/"+v, "volume.status", "in-use")
	_, err = backups.RestoreFromBackup(ctx, c, b.ID, backups.RestoreOpts{VolumeID: v}).Extract()
	refused(t, "a restore to a volume in use", err, 400, "Invalid volume: Volume to be restored to must be available")
	refused(t, "a volume before 3.9", func() error {
		_, err := backups.Update(ctx, f.client3("member", "3.8"), b.ID, backups.UpdateOpts{}).Extract()
		return err
	}(), 404, "")
}
