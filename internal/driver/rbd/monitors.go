package rbd

import (
	"context"
	"encoding/json"
	"time"

	"kvol/internal/block"
)

// monitors are where hosts find the cluster.
type monitors struct {
	hosts, ports []string
	at           time.Time // when the cluster told
}

const monitorsAge = 10 * time.Minute

// refreshMonitors asks the cluster where its monitors are, now and then. Where
// it doesn't answer, what was known is used.
func (d *Driver) refreshMonitors(ctx context.Context) {
	d.mu.Lock()
	last := d.monitors.at
	d.mu.Unlock()
	if !last.IsZero() && d.o.Now().Sub(last).Abs() < monitorsAge {
		return
	}
	out, err := d.run(ctx, command{"ceph", []string{"--conf", d.o.Conf, "--id", d.o.User,
		"--connect-timeout", seconds(d.o.Timeout), "mon", "dump", "--format", "json"}})
	if err != nil {
		d.o.Log.Error("where the storage cluster's monitors are could not be asked", "err", err)
		return
	}
	m, err := parseMonitors(out)
	if err != nil {
		d.o.Log.Error("where the storage cluster's monitors are could not be read", "err", err)
		return
	}
	m.at = d.o.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.monitors = m
}

// parseMonitors reads what `ceph mon dump` prints. Of a monitor with several
// addresses it takes the one of the older protocol, as Cinder does
// (cinder/volume/drivers/rbd.py, _get_mon_addrs).
func parseMonitors(text []byte) (m monitors, err error) {
	var dump struct {
		Mons []struct {
			Addr string `json:"addr"`
		} `json:"mons"`
	}
	if err := json.Unmarshal(text, &dump); err != nil {
		return m, block.Wrap(block.Internal, err, "The storage cluster's answer could not be read.")
	}
	for _, mon := range dump.Mons {
		host, port, err := splitAddress(mon.Addr)
		if err != nil {
			return m, block.Wrap(block.Internal, err, "The address %q of a monitor could not be read.", mon.Addr)
		}
		m.hosts, m.ports = append(m.hosts, host), append(m.ports, port)
	}
	if len(m.hosts) == 0 {
		return m, block.Errorf(block.Internal, "The storage cluster named no monitors.")
	}
	return m, nil
}
