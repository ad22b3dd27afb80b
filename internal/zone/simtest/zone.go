package simtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"kvol/internal/api/peer"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/job"
	"kvol/internal/replication"
)

// whole is the rest of a zone's process in stories of whole zones: its rules, its
// jobs, and the handler that its peers reach.
type whole struct {
	control *control.Service
	peer    http.Handler
	started time.Time
}

// assembleWhole makes all of a zone but its front ends.
func (l *life) assembleWhole(set *driver.Set) (err error) {
	c := l.cloud
	others := slices.DeleteFunc(slices.Clone(c.names), func(z block.Zone) bool { return z == l.name })
	l.whole = &whole{started: l.clock.now()}
	nowhere := func() string { return "" }
	l.control, err = control.New(control.Config{Catalog: l.catalog, Backends: set, Zone: l.name, Region: string(l.name),
		ZoneIndex: int(l.name[0] - 'a'), DefaultType: string(typeName), DefaultBackend: backend,
		AvailabilityZones: []string{string(l.name)}, ExportAddress: func() string { return "host:10809" },
		UnixSocket: nowhere, ISCSIAddress: nowhere, Protections: func() []block.Protection { return c.from(l.name) },
		OnChange: func(v block.VolumeID) { l.sender.Kick(v) },
		OnRemove: func(v block.VolumeID) { l.sender.Leave(v) }, Now: l.clock.now, Log: c.log.With("zone", string(l.name)),
		DR: control.DR{Peers: l, URL: "http://" + string(l.name), Replicating: l.replicating}})
	if err != nil {
		return err
	}
	runner := job.New(
		job.Config{Catalog: l.catalog, Handlers: l.control.Handlers(), Log: l.cloud.log, Owner: string(l.name),
			Now: l.clock.now},
	)
	l.sender = replication.NewSender(replication.SenderConfig{Catalog: l.catalog, Backends: set, Zone: l.name,
		Protections: l.control.KnownProtections, Dialer: l, Fenced: l.control.Fence, SealKey: l.control.SealKey,
		Limits: l.control.LimitsTo, Observe: l.control.ObserveSource, Now: l.clock.now,
		Rand: func() float64 { return 0.5 }, Sessions: 2})
	l.receiver = replication.NewReceiver(replication.ReceiverConfig{Catalog: l.catalog, Backends: set, Zone: l.name,
		Box: l.control.Sealer().Box(), Protections: l.control.KnownProtections, Fenced: l.control.Fence,
		Now: l.clock.now, KeepEvery: 10 * time.Second, Observe: func(a replication.Advance) {
			l.control.ObserveTarget(a)
			l.committed(a)
		}})
	l.peer = peer.NewServer(peer.ServerConfig{Service: l.control, Zones: others, Log: c.log})
	l.control.HoldExports(l.held(nil))
	l.runs = []func(context.Context) error{l.sender.Run, l.receiver.Run, runner.Run, l.control.RunPeers,
		l.control.RunHealth, l.control.RunLeases, l.learn}
	return nil
}

func (l *life) replicating() []replication.LinkStatus { return l.sender.Status() }

// held says of a volume whether its export waits, as zone.Server does.
func (l *life) held(answered []block.Zone) func(block.Volume) bool {
	return func(v block.Volume) bool {
		if !v.CreatedAt.Before(l.started) {
			return false
		}
		return slices.ContainsFunc(l.cloud.from(l.name), func(p block.Protection) bool {
			return p.SourceType == v.TypeID && !slices.Contains(answered, p.Destination)
		})
	}
}

// learn asks the peers what they recovered, as zone.Server does.
func (l *life) learn(ctx context.Context) error {
	for {
		answered, err := l.control.LearnFences(ctx)
		if err == nil {
			l.control.HoldExports(l.held(answered))
		}
		if len(answered) == len(l.cloud.names)-1 {
			l.control.ReleaseExports()
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// Zones implements control.Peers.
func (l *life) Zones() []block.Zone {
	return slices.DeleteFunc(slices.Clone(l.cloud.names), func(z block.Zone) bool { return z == l.name })
}

// Call implements control.Peers: a request, which may be lost, come twice, or be
// answered in vain.
func (l *life) Call(ctx context.Context, zone block.Zone, method, path string, in, out any) error {
	c, label := l.cloud, fmt.Sprintf("%s asks %s %s", l.name, zone, path)
	c.schedule.waitAmong(label)
	if err := l.point("before call"); err != nil {
		return err
	}
	p := c.nodes[zone].now()
	if p == nil || c.isCut(l.name, zone) || ctx.Err() != nil {
		return unreachable(zone)
	}
	if c.chance(3) {
		c.happened(Refuse, label)
		return unreachable(zone)
	}
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	times, answer := 1, make(chan *httptest.ResponseRecorder, 1)
	if c.chance(3) {
		c.happened(Duplicate, label)
		times = 2
	}
	lost := c.chance(3)
	p.tasks.Go(func() {
		c.schedule.waitAmong(string(zone) + " hears " + label)
		var res *httptest.ResponseRecorder
		for range times {
			req := httptest.NewRequestWithContext(p.ctx, method, "https://"+string(zone)+path, bytes.NewReader(text))
			req.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{
				{{Subject: pkix.Name{CommonName: string(l.name)}}},
			}}
			res = httptest.NewRecorder()
			p.peer.ServeHTTP(res, req)
		}
		if lost {
			c.happened(Drop, "the answer when "+label)
		} else if p.alive() && !c.isCut(l.name, zone) {
			answer <- res
		}
	})
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	select {
	case res := <-answer:
		c.schedule.waitAmong(string(l.name) + " is answered, it " + label)
		if err := l.point("after call"); err != nil {
			return err
		}
		return answered(zone, res, out)
	case <-ctx.Done():
	case <-patience.C:
	}
	return unreachable(zone)
}

// answered reads an answer as peer.Client does.
func answered(zone block.Zone, res *httptest.ResponseRecorder, out any) error {
	if res.Code == http.StatusOK {
		if out == nil {
			return nil
		}
		return json.Unmarshal(res.Body.Bytes(), out)
	}
	var fault struct{ Kind, Message string }
	if err := json.Unmarshal(res.Body.Bytes(), &fault); err != nil {
		return err
	}
	for kind := block.Invalid; kind <= block.Unsupported; kind++ {
		if kind.String() == fault.Kind {
			return block.Errorf(kind, "%s", fault.Message)
		}
	}
	return unreachable(zone)
}

// from are the protections of a zone's own volumes.
func (c *cloud) from(zone block.Zone) []block.Protection {
	return slices.DeleteFunc(c.policies(), func(p block.Protection) bool { return p.SourceZone != zone })
}

// configure gives a zone's catalog its volume type.
func (n *node) configure() error {
	return n.catalog.Update(context.Background(), func(tx *catalog.Tx) error {
		return tx.Configure([]block.VolumeType{{ID: typeName, Name: string(typeName), Public: true,
			ExtraSpecs: map[string]string{"volume_backend_name": backend, "replication_enabled": "<is> True"}}}, nil)
	})
}
