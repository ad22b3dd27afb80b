package cinder

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"kvol/internal/block"
	"kvol/internal/control"
)

// listPools is GET /scheduler-stats/get_pools: filters from 3.28, by volume
// type from 3.35 (cinder/api/contrib/scheduler_stats.py).
func listPools(c *call) error {
	ps, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	detail, err := ps.flag("detail")
	if err != nil {
		return err
	}
	pools, err := c.s.cfg.Control.Pools(c.r.Context(), c.caller)
	if err != nil {
		return err
	}
	if err := c.refusePoolFilters(ps); err != nil {
		return err
	}
	var wanted *block.VolumeType
	if name, ok := ps.get("volume_type"); ok && c.view.since(35) {
		t, err := c.s.cfg.Control.Type(c.r.Context(), c.caller, name)
		if err != nil {
			return err
		}
		wanted = &t
	}
	rows := []map[string]any{}
	for _, p := range pools {
		name := c.host(p.Backend) + "#" + p.Backend
		if asked, ok := ps.get("name"); ok && c.view.since(28) && asked != name || wanted != nil && !p.Takes(*wanted) {
			continue
		}
		row := map[string]any{"name": name}
		if detail {
			row["capabilities"] = capabilities(p)
		}
		rows = append(rows, row)
	}
	return c.answer(http.StatusOK, map[string]any{"pools": rows})
}

// refusePoolFilters refuses filters that are not known from 3.31 on, to
// administrators too (cinder/api/common.py, reject_invalid_filters).
func (c *call) refusePoolFilters(ps params) error {
	var refused []string
	for _, p := range ps {
		if !slices.Contains([]string{"detail", "name", "volume_type", "all_tenants"}, p.name) {
			refused = append(refused, p.name)
		}
	}
	if len(refused) > 0 && c.view.since(31) {
		return invalid("Invalid filters %s are found in query options.", strings.Join(refused, ","))
	}
	return nil
}

const (
	vendor        = "kvol"
	driverVersion = "1.0"
)

// capabilities are what the scheduler knows of a pool, and goes by. Stores keep
// what was written only; what backends have beside what all have is told as it is
// configured.
func capabilities(p control.Pool) map[string]any {
	shown := map[string]any{}
	for name, value := range p.Extra {
		shown[name] = value
	}
	var ratio any = "infinite" // nothing bounds what volumes promise
	if bound := p.Ratio(); bound > 0 {
		ratio = bound
	}
	maps.Copy(shown, map[string]any{
		"pool_name": p.Backend, "volume_backend_name": p.Name, "vendor_name": vendor, "driver_version": driverVersion,
		"storage_protocol": "iSCSI", "total_capacity_gb": p.Total, "free_capacity_gb": p.Free,
		"allocated_capacity_gb": p.Allocated, "provisioned_capacity_gb": p.Promised, "reserved_percentage": p.Reserved,
		"max_over_subscription_ratio": ratio, "thin_provisioning_support": true, "thick_provisioning_support": false,
		"QoS_support": true, "multiattach": true, "consistencygroup_support": false, "replication_enabled": p.Replicated,
		"filter_function": nil, "goodness_function": nil, "timestamp": p.At.UTC().Format(timeForm),
	})
	return shown
}

// showCapabilities is GET /capabilities/{host}.
func showCapabilities(c *call) error {
	host := c.r.PathValue("host")
	name := c.backend(host)
	if err := c.s.cfg.Control.Capabilities(c.r.Context(), c.caller, name, host); err != nil {
		return err
	}
	property := func(title, description string) map[string]any {
		return map[string]any{"title": title, "description": description, "type": "boolean"}
	}
	return c.answer(http.StatusOK, map[string]any{
		"namespace": "OS::Storage::Capabilities::" + host, "vendor_name": vendor, "volume_backend_name": name,
		"pool_name": nil, "driver_version": driverVersion, "storage_protocol": "iSCSI", "display_name": nil,
		"description": nil, "visibility": nil, "replication_targets": []any{},
		"properties": map[string]any{
			"thin_provisioning":   property("Thin Provisioning", "Sets thin provisioning."),
			"compression":         property("Compression", "Enables compression."),
			"qos":                 property("QoS", "Enables QoS."),
			"replication_enabled": property("Replication", "Enables replication."),
		}})
}

func listHosts(c *call) error {
	hosts, err := c.s.cfg.Control.Hosts(c.r.Context(), c.caller)
	if err != nil {
		return err
	}
	zone, byZone := "", false
	if ps, err := parseQuery(c.r.URL.RawQuery); err == nil {
		zone, byZone = ps.get("zone")
	}
	rows := []map[string]any{}
	for _, h := range hosts {
		if byZone && zone != "" && zone != h.Zone {
			continue
		}
		status := "available"
		if !h.Up {
			status = "unavailable"
		}
		rows = append(rows, map[string]any{"host_name": c.hostOf(h), "service": h.Kind, "zone": h.Zone,
			"service-status": status, "service-state": enabled(h.Disabled), "last-update": h.UpdatedAt.UTC().Format(timeForm)})
	}
	return c.answer(http.StatusOK, map[string]any{"hosts": rows})
}

func showHost(c *call) error {
	host := c.r.PathValue("host")
	uses, err := c.s.cfg.Control.HostUses(c.r.Context(), c.caller, c.backend(host), host)
	if err != nil {
		return err
	}
	total := control.HostUse{Project: "(total)"}
	for _, u := range uses {
		total.Volumes, total.VolumeGiB = total.Volumes+u.Volumes, total.VolumeGiB+u.VolumeGiB
		total.Snapshots, total.SnapshotGiB = total.Snapshots+u.Snapshots, total.SnapshotGiB+u.SnapshotGiB
	}
	text := func(n int64) string { return strconv.FormatInt(n, 10) }
	rows := []map[string]any{}
	for _, u := range append([]control.HostUse{total}, uses...) {
		rows = append(rows, map[string]any{"resource": map[string]any{"host": host, "project": u.Project,
			"volume_count": text(u.Volumes), "total_volume_gb": text(u.VolumeGiB), "snapshot_count": text(u.Snapshots),
			"total_snapshot_gb": text(u.SnapshotGiB)}})
	}
	return c.answer(http.StatusOK, map[string]any{"host": rows})
}
