package cinder

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"kvol/internal/block"
	"kvol/internal/control"
)

func (c *call) target() block.ProjectID { return block.ProjectID(c.r.PathValue("target")) }

// showQuotas shows limits, or limits with what is in use where usage is asked.
func showQuotas(c *call) error {
	usage, err := c.queryFlag("usage")
	if err != nil {
		return err
	}
	quotas, err := c.s.cfg.Control.Quotas(c.r.Context(), c.caller, c.target())
	if err != nil {
		return err
	}
	set := map[string]any{"id": c.target()}
	for name, q := range quotas {
		if usage {
			set[name] = map[string]int64{"limit": q.Limit, "in_use": q.InUse, "reserved": q.Reserved}
		} else {
			set[name] = q.Limit
		}
	}
	return c.answer(http.StatusOK, map[string]any{"quota_set": set})
}

func showQuotaDefaults(c *call) error {
	defaults, err := c.s.cfg.Control.QuotaDefaults(c.r.Context(), c.caller, c.target())
	if err != nil {
		return err
	}
	set := map[string]any{"id": c.target()}
	for name, limit := range defaults {
		set[name] = limit
	}
	return c.answer(http.StatusOK, map[string]any{"quota_set": set})
}

// updateQuotas sets limits. tenant_id and id may stand among them and mean
// nothing (quotas.py, NON_QUOTA_KEYS). The answer has no id.
func updateQuotas(c *call) error {
	o, err := c.checked("quota_set", updateQuotasBody)
	if err != nil {
		return err
	}
	limits := map[string]int64{}
	for _, m := range o.object("quota_set").members {
		if m.name == "tenant_id" || m.name == "id" {
			continue
		}
		if limits[m.name], err = quotaLimit(m); err != nil {
			return err
		}
	}
	control := c.s.cfg.Control
	if err = control.SetQuotas(c.r.Context(), c.caller, c.target(), limits); err != nil {
		return err
	}
	quotas, err := control.Quotas(c.r.Context(), c.caller, c.target())
	if err != nil {
		return err
	}
	set := map[string]int64{}
	for name, q := range quotas {
		set[name] = q.Limit
	}
	return c.answer(http.StatusOK, map[string]any{"quota_set": set})
}

// quotaLimit reads a limit, a number or digits (cinder utils.validate_integer).
// A name that is no quota is control's to refuse.
func quotaLimit(m member) (int64, error) {
	switch m.value.(type) {
	case json.Number, string:
		n, err := strconv.ParseInt(pyStr(m.value), 10, 64)
		if err == nil && n < block.Unlimited {
			return 0, invalid("%s must be >= -1", m.name)
		}
		if err == nil && n > maxInt {
			return 0, invalid("%s must be <= %d", m.name, maxInt)
		}
		if err == nil {
			return n, nil
		}
	}
	return 0, invalid("%s must be an integer", m.name)
}

func deleteQuotas(c *call) error {
	if err := c.s.cfg.Control.DeleteQuotas(c.r.Context(), c.caller, c.target()); err != nil {
		return err
	}
	return c.empty(http.StatusOK)
}

// limitNames are the members of absolute limits: what bounds a resource, and
// what is in use of it.
var limitNames = map[string][2]string{
	"volumes":          {"maxTotalVolumes", "totalVolumesUsed"},
	"snapshots":        {"maxTotalSnapshots", "totalSnapshotsUsed"},
	"gigabytes":        {"maxTotalVolumeGigabytes", "totalGigabytesUsed"},
	"backups":          {"maxTotalBackups", "totalBackupsUsed"},
	"backup_gigabytes": {"maxTotalBackupGigabytes", "totalBackupGigabytesUsed"},
}

func showLimits(c *call) error {
	asked := c.caller
	if c.view.since(39) && c.caller.Admin() { // whose limits
		ps, err := parseQuery(c.r.URL.RawQuery)
		if err != nil {
			return err
		}
		if project, given := ps.get("project_id"); given {
			asked.Project = block.ProjectID(project)
		}
	}
	limits, err := c.s.cfg.Control.Limits(c.r.Context(), asked)
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("limits")
		e.open('{')
		e.key("rate")
		e.open('[')
		e.close(']')
		e.key("absolute")
		c.writeAbsolute(e, limits)
		e.close('}')
		e.close('}')
	})
}

// writeAbsolute says what is in use to those who may know.
func (c *call) writeAbsolute(e *encoder, limits control.Limits) {
	e.open('{')
	for _, resource := range slices.Sorted(maps.Keys(limitNames)) {
		names := limitNames[resource]
		e.wholeMember(names[0], limits[resource].Limit)
		if c.view.shows.see(partUse) {
			e.wholeMember(names[1], limits[resource].InUse)
		}
	}
	e.close('}')
}
