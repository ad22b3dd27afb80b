package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/proof"
)

// ofKind is the finding of a kind; false for none.
func ofKind(all []block.Finding, kind block.FindingKind) (block.Finding, bool) {
	i := slices.IndexFunc(all, func(f block.Finding) bool { return f.Kind == kind })
	if i < 0 {
		return block.Finding{}, false
	}
	return all[i], true
}

// TestDoctorTellsWhatReadingShowed: damage at either end and replicas that were
// not read are found, the owner is told of damage, what can be repaired is read
// again if asked to, and a volume is never written over.
func TestDoctorTellsWhatReadingShowed(t *testing.T) {
	z := newHealthZone(t)
	z.well()
	z.cfg.DR.Prover = proof.New(
		proof.Config{Catalog: z.catalog, Backends: z.set, Within: 24 * time.Hour, Now: z.clock.now},
	)
	kinds := []block.FindingKind{block.FindDamagedReplica, block.FindDamagedSource, block.FindUnverified}
	none := func(what string) {
		t.Helper()
		for _, kind := range kinds {
			if f, ok := ofKind(z.findings(everybody), kind); ok {
				t.Errorf("%s: %+v", what, f)
			}
		}
	}
	none("a replica that was just begun")
	note := func(p block.Proof, why string) {
		z.update(func(tx *catalog.Tx) error {
			return first(tx.MarkPoint("replica", "point", why), tx.SetProof("replica", p))
		})
	}
	wants := func(kind block.FindingKind, tenant, mends bool, says ...string) {
		t.Helper()
		f, ok := ofKind(z.findings(everybody), kind)
		if !ok || f.Volume != theirVolume || f.SourceZone != "a" || f.Protection != 2 || (f.Mends != "") != mends {
			t.Fatalf("%s: %+v", kind, f)
		}
		for _, text := range says {
			if !strings.Contains(f.Text+" "+f.Advice, text) {
				t.Errorf("%s does not say %q: %s %s", kind, text, f.Text, f.Advice)
			}
		}
		_, owner := ofKind(z.findings(block.Caller{Project: "q", Roles: []string{"member"}}), kind)
		_, stranger := ofKind(z.findings(block.Caller{Project: "p", Roles: []string{"member"}}), kind)
		if owner != tenant || stranger {
			t.Errorf("%s: the owner is told: %v, another tenant: %v", kind, owner, stranger)
		}
	}
	note(block.Proof{State: block.ProofDamaged, Note: "Zone a does not answer."}, "It can't be read.")
	wants(block.FindDamagedReplica, true, true, "1 of 1 recovery points", "none is whole", "Zone a does not answer.",
		"kvol dr verify "+string(theirVolume))
	if done, err := z.Mend(t.Context(), everybody); err != nil {
		t.Fatal(err)
	} else if f, _ := ofKind(done.All, block.FindDamagedReplica); !f.Mended {
		t.Errorf("%+v", f)
	}
	wrong := &block.WrongSource{At: z.clock.now(), Point: "point", PointAt: z.clock.now(), Root: block.RootHash{1}}
	note(block.Proof{Last: block.Verified{At: z.clock.now()}, Source: wrong}, "")
	wants(block.FindDamagedSource, true, false, "other bytes in its own zone a", "kvol dr failover "+string(theirVolume),
		"Nothing is written over by itself")
	note(block.Proof{Last: block.Verified{At: z.clock.now()}}, "")
	none("a replica that is whole at both ends")
	z.clock.pass(25 * time.Hour)
	z.hear("a")
	wants(block.FindUnverified, false, true, "was last found whole", "within 24h")
	note(block.Proof{Last: block.Verified{At: z.clock.now()}}, "")
	none("a replica that was read again")
}
