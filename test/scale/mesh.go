package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/replication"
)

// mesh is zones that all replicate to each other, in one process.
type mesh struct {
	size
	paper    *paper
	members  []*member
	policies []block.Protection // of all
	running  context.Context    //nolint:containedctx // replication ends with it
	stop     context.CancelFunc
	ended    sync.WaitGroup
}

// member is a zone of a mesh: a lab with both ends of replication.
type member struct {
	*lab
	mesh     *mesh
	n        int // its place in the mesh
	name     block.Zone
	at       net.Listener
	sender   *replication.Sender
	receiver *replication.Receiver
	wired    atomic.Int64 // bytes on connections that it made, both ways
	dialled  atomic.Int64 // connections that it made
	ahead    atomic.Int64 // by which its rules' clock is ahead
	told     int          // bytes of its document
}

// typeTo is the type of volumes that are replicated to a member.
func typeTo(n int) block.TypeID {
	return block.TypeID(fmt.Sprintf("11111111-1111-4111-8111-%012d", n))
}

func zoneName(n int) block.Zone { return block.Zone(fmt.Sprintf("zone-%02d", n)) }

// join makes the zones, with their volumes, and has each hear of the others.
func join(ctx context.Context, s size, dir string, p *paper) (m *mesh, err error) {
	m = &mesh{size: s, paper: p}
	m.running, m.stop = context.WithCancel(ctx)
	for from := range s.zones {
		for to := range s.zones {
			if from != to {
				m.policies = append(m.policies, block.Protection{Seq: int64(1 + from*s.zones + to), SourceZone: zoneName(from),
					SourceType: typeTo(to), Destination: zoneName(to), Enabled: true, Backup: block.Backend{Name: "backup"},
					Interval: s.interval, RPOTarget: s.target})
			}
		}
	}
	began, used := time.Now(), processor()
	for n := range s.zones {
		one, err := m.member(ctx, n, dir)
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		m.members = append(m.members, one)
	}
	n := time.Duration(max(1, s.zones*(s.zones-1)*s.each))
	p.note("inserting a volume", milliseconds(time.Since(began)/n), "ms")
	p.note("processor for that", milliseconds((processor()-used)/n), "ms")
	if err := m.exchange(ctx); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *mesh) member(ctx context.Context, n int, dir string) (_ *member, err error) {
	s := m.size
	s.protected = (s.zones - 1) * s.each
	s.volumes, s.sample, s.projects = s.protected, 0, min(s.projects, 20) // each project has some
	one := &member{mesh: m, n: n, name: zoneName(n), lab: &lab{size: s, paper: &paper{quiet: true}, seen: &statements{},
		path: filepath.Join(dir, string(zoneName(n))+".db")}}
	l := one.lab
	if l.catalog, err = catalog.Open(ctx, catalog.Options{Path: l.path, Observe: l.seen.saw}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.catalog.Close())
		}
	}()
	l.stores, err = driver.NewSet(
		map[string]driver.Driver{"safe": mem.New(mem.Options{}), "backup": mem.New(mem.Options{})},
		[]block.Backend{{Name: "safe", Store: "safe"}, {Name: "backup", Store: "backup"}},
	)
	if err != nil {
		return nil, err
	}
	err = l.catalog.Update(ctx, func(tx *catalog.Tx) error {
		for to := range s.zones {
			if to == n {
				continue
			}
			l.safe = append(l.safe, typeTo(to))
			if err := tx.UpsertType(block.VolumeType{ID: typeTo(to), Name: "to-" + string(zoneName(to)), Public: true,
				ExtraSpecs: map[string]string{"volume_backend_name": "safe"}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(l.insert(ctx), l.half(ctx)); err != nil {
		return nil, err
	}
	if one.at, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	return one, one.assemble()
}

// assemble makes what works in a zone.
func (one *member) assemble() (err error) {
	all := func() []block.Protection { return one.mesh.policies }
	quiet := slog.New(slog.DiscardHandler)
	one.sender = replication.NewSender(replication.SenderConfig{Catalog: one.catalog, Backends: one.stores, Zone: one.name,
		Protections: all, Dialer: one, Log: quiet})
	one.receiver = replication.NewReceiver(replication.ReceiverConfig{Catalog: one.catalog, Backends: one.stores,
		Zone: one.name, Protections: all, Log: quiet})
	one.sending = one.sender.Status
	one.rules, err = control.New(control.Config{Catalog: one.catalog, Backends: one.stores, Zone: one.name,
		Region: string(one.name), AvailabilityZones: []string{"z"}, Key: [32]byte{1}, DR: control.DR{Replicating: one.status},
		Now:     func() time.Time { return time.Now().Add(time.Duration(one.ahead.Load())) },
		TempDir: filepath.Join(filepath.Dir(one.path), "tmp"), Protections: func() (own []block.Protection) {
			for _, p := range one.mesh.policies {
				if p.SourceZone == one.name {
					own = append(own, p)
				}
			}
			return own
		}})
	return err
}

// exchange has each zone hear the documents of all others.
func (m *mesh) exchange(ctx context.Context) error {
	began, used := time.Now(), processor()
	for _, from := range m.members {
		d, err := from.rules.Document(ctx)
		if err != nil {
			return err
		}
		text, err := json.Marshal(d)
		if err != nil {
			return err
		}
		from.told = len(text)
		for _, to := range m.members {
			if to == from {
				continue
			}
			if _, err := to.rules.ExchangeDocument(ctx, from.name, d); err != nil {
				return err
			}
		}
	}
	n := time.Duration(len(m.members) * (len(m.members) - 1))
	m.paper.note("exchanging documents, one with one", milliseconds(time.Since(began)/n), "ms")
	m.paper.note("processor for that", milliseconds((processor()-used)/n), "ms")
	return nil
}

// start has replication run until close, or halt.
func (m *mesh) start() {
	for _, one := range m.members {
		m.ended.Go(one.accept)
		m.ended.Go(func() { _ = one.sender.Run(m.running) })
		m.ended.Go(func() { _ = one.receiver.Run(m.running) })
	}
}

// halt ends replication, and returns when it has ended.
func (m *mesh) halt() {
	m.stop()
	for _, one := range m.members {
		one.at.Close()
	}
	m.ended.Wait()
}

func (m *mesh) close() error {
	m.halt()
	var errs []error
	for _, one := range m.members {
		errs = append(errs, one.catalog.Close())
	}
	return errors.Join(errs...)
}

// Replicate implements replication.PeerDialer. Who calls is said in the first byte.
func (one *member) Replicate(ctx context.Context, zone block.Zone) (net.Conn, error) {
	for _, to := range one.mesh.members {
		if to.name != zone {
			continue
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", to.at.Addr().String())
		if err != nil {
			return nil, err
		}
		if _, err := conn.Write([]byte{byte(one.n)}); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		one.dialled.Add(1)
		return &metered{conn, &one.wired}, nil
	}
	return nil, block.Errorf(block.NotFound, "There is no zone %s.", zone)
}

// accept serves connections until the listener is closed.
func (one *member) accept() {
	for {
		conn, err := one.at.Accept()
		if err != nil {
			return
		}
		one.mesh.ended.Go(func() {
			who := make([]byte, 1)
			if _, err := conn.Read(who); err != nil {
				conn.Close()
				return
			}
			_ = one.receiver.ServeConn(one.mesh.running, conn, zoneName(int(who[0])))
		})
	}
}

// metered counts what goes over a connection.
type metered struct {
	net.Conn
	bytes *atomic.Int64
}

// Read implements net.Conn.
func (c *metered) Read(p []byte) (n int, err error) {
	n, err = c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// Write implements net.Conn.
func (c *metered) Write(p []byte) (n int, err error) {
	n, err = c.Conn.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}
