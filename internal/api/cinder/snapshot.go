package cinder

import (
	"net/http"

	"kvol/internal/block"
	"kvol/internal/control"
)

func listSnapshots(c *call) error { return c.snapshots("snapshots", false) }

func listSnapshotsDetail(c *call) error { return c.snapshots("snapshots/detail", true) }

func (c *call) snapshots(collection string, extended bool) error {
	p, err := c.page(snapshotList)
	if err != nil {
		return err
	}
	p.collection = collection
	var snapshots []block.Snapshot
	if !p.none {
		if snapshots, err = c.s.cfg.Control.Snapshots(c.r.Context(), c.caller, p.query); err != nil {
			return err
		}
	}
	count, counted, err := c.count(p, c.s.cfg.Control.CountSnapshots)
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("snapshots")
		e.open('[')
		for _, s := range snapshots {
			if c.view.v3 {
				c.view.snapshot3(e, s, extended, extended)
			} else {
				c.view.snapshot(e, s, extended)
			}
		}
		e.close(']')
		if len(snapshots) > 0 {
			p.links(e, len(snapshots), string(snapshots[len(snapshots)-1].ID))
		}
		if counted {
			e.wholeMember("count", count)
		}
		e.close('}')
	})
}

// showSnapshotAs answers with a snapshot.
func (c *call) showSnapshotAs(status int, extended bool, s block.Snapshot, err error) error {
	if err != nil {
		return err
	}
	return c.document(status, func(e *encoder) {
		e.open('{')
		e.key("snapshot")
		c.view.snapshot(e, s, extended)
		e.close('}')
	})
}

func showSnapshot(c *call) error {
	s, err := c.s.cfg.Control.Snapshot(c.r.Context(), c.caller, c.snapshotID())
	return c.showSnapshotAs(http.StatusOK, true, s, err)
}

func createSnapshot(c *call) error {
	o, err := c.checked("snapshot", createSnapshotBodyOf(c.view.edition))
	if err != nil {
		return err
	}
	o = o.object("snapshot")
	req := control.NewSnapshot{
		Name:        o.stripped("name", "display_name"),
		Description: o.stripped("description", "display_description"),
		Force:       o.flag("force"),
		Metadata:    o.texts("metadata"),
	}
	if c.view.since(66) {
		if v, given := o.get("force"); given && !o.flag("force") && v != nil {
			return invalid("Since microversion 3.66 the 'force' flag is invalid for this request.  For backward " +
				"compatability, however, when the 'force' flag is passed with a value evaluating to True, it is " +
				"silently ignored.")
		}
		req.Force = true
	}
	if volume := id[block.VolumeID](o, "volume_id"); volume != nil {
		req.VolumeID = *volume
	} else {
		return invalid("Invalid input for field/attribute volume_id. Value: None. " +
			"None is not valid under any of the given schemas")
	}
	s, err := c.s.cfg.Control.CreateSnapshot(c.r.Context(), c.caller, req)
	return c.showSnapshotAs(http.StatusAccepted, false, s, err)
}

func updateSnapshot(c *call) error {
	o, err := c.checked("snapshot", updateSnapshotBodyOf(c.view.edition))
	if err != nil {
		return err
	}
	o = o.object("snapshot")
	s, err := c.s.cfg.Control.UpdateSnapshot(c.r.Context(), c.caller, c.snapshotID(), control.SnapshotChange{
		Name:        o.change("name", "display_name"),
		Description: o.change("description", "display_description"),
	})
	return c.showSnapshotAs(http.StatusOK, false, s, err)
}

func deleteSnapshot(c *call) error {
	return c.accepted(c.s.cfg.Control.DeleteSnapshot(c.r.Context(), c.caller, c.snapshotID()))
}
