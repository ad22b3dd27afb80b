package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

const (
	doctorSetting = "doctor.last"
	// lookedOver is of how many records the audit log is gone over whenever a doctor
	// looks; of more, only where it looks by itself.
	lookedOver = 100000
	// firstVisit is how long after the start the doctor first looks by itself: what
	// begins has begun by then.
	firstVisit = time.Minute
)

func (d DR) doctorEvery() time.Duration { return orDefault(d.DoctorEvery, 10*time.Minute) }

// RunDoctor looks after the zone every DR.DoctorEvery and keeps what it found, and
// lets go of what is kept for too long, until ctx ends.
func (s *Service) RunDoctor(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.runKeeping(ctx) })
	if s.cfg.DR.doctorEvery() > 0 {
		g.Go(func() error { return s.runVisits(ctx) })
	}
	return g.Wait()
}

func (s *Service) runVisits(ctx context.Context) error {
	rest := min(firstVisit, s.cfg.DR.doctorEvery())
	for {
		if err := pause(ctx, rest); err != nil {
			return nil //nolint:nilerr // it is over
		}
		rest = s.cfg.DR.doctorEvery()
		if err := s.Visit(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("the doctor could not look", "err", err)
		}
	}
}

// Visit is one look of the doctor by itself: what it finds is kept, and what is new
// or gone since the one before is logged.
func (s *Service) Visit(ctx context.Context) error {
	e, err := s.examineTwice(ctx)
	if err != nil {
		return err
	}
	if err := e.ownAudit(ctx); err != nil {
		return err
	}
	now := Findings{At: s.now().UTC(), LeftOut: e.left}
	for _, a := range e.found {
		now.All = append(now.All, a.Finding)
	}
	before, _, err := s.lastVisit(ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.SetSetting(doctorSetting, text) })
	if err != nil {
		return err
	}
	for _, f := range now.All {
		if !slices.ContainsFunc(before.All, func(b block.Finding) bool { return sameFinding(b, f) }) {
			s.log.Warn("the doctor found something", "kind", f.Kind, "volume", f.Volume, "text", f.Text)
		}
	}
	return nil
}

func sameFinding(a, b block.Finding) bool {
	return a.Kind == b.Kind && a.Volume == b.Volume && a.Point == b.Point && a.Holder == b.Holder && a.Store == b.Store &&
		a.Peer == b.Peer && a.Protection == b.Protection
}

func (s *Service) lastVisit(ctx context.Context) (f Findings, ok bool, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		var text []byte
		if text, ok, err = tx.Setting(doctorSetting); err != nil || !ok {
			return err
		}
		return json.Unmarshal(text, &f)
	})
	return f, ok, err
}

// LastVisit is what the doctor found when it last looked by itself, for who may
// see it; ok is false before the first time.
func (s *Service) LastVisit(ctx context.Context, c block.Caller) (f Findings, ok bool, err error) {
	f, ok, err = s.lastVisit(ctx)
	if !c.Admin() {
		f.LeftOut = 0
		f.All = slices.DeleteFunc(f.All, func(f block.Finding) bool {
			return !(ailment{Finding: f}).forTenants() || !sees(c, f.Project)
		})
	}
	return f, ok, err
}

// foreignAudits looks at the audit logs of other zones that are not believed.
func (e *examination) foreignAudits(tx *catalog.Tx) error {
	broken, err := tx.AuditBroken()
	for _, b := range broken {
		e.add(ailment{Finding: block.Finding{Kind: block.FindAuditBroken, Peer: b.Zone,
			Text: fmt.Sprintf("The audit log of zone %s is not what that zone told before: %s", b.Zone, b.Why),
			Advice: "Ask who works on that zone's catalog, and compare it with an export. If the zone was restored from a " +
				"copy, say `kvol dr audit accept " + string(
				b.Zone,
			) + "`."}})
	}
	return err
}

// ownAudit goes over this zone's audit log.
func (e *examination) ownAudit(ctx context.Context) error {
	r, err := e.s.verifyAudit(ctx)
	for _, p := range r.Problems {
		e.add(ailment{Finding: block.Finding{Kind: block.FindAuditBroken, SourceZone: e.s.cfg.Zone,
			Holder: fmt.Sprintf("record %d", p.Record), Text: "The audit log of this zone is not what was written: " + p.Text,
			Advice: "Look at `kvol dr audit verify` and at exports from before; somebody changed catalog.db by hand, or it " +
				"was restored from a copy."}})
	}
	return err
}

// shortAudit reports whether the audit log can be gone over while somebody waits.
func (e *examination) shortAudit(ctx context.Context) (short bool, err error) {
	err = e.s.catalog.View(ctx, func(tx *catalog.Tx) error {
		base, err := auditBase(tx)
		if err != nil {
			return err
		}
		head, err := tx.AuditHead()
		short = head.Seq-base.Seq <= lookedOver
		return err
	})
	return short, err
}
