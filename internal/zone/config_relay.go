package zone

import (
	"cmp"
	"fmt"
	"time"

	"kvol/internal/block"
)

// RelayConfig is a policy by which this zone sends the replicas that it has under
// a protection of another zone on to a third one.
type RelayConfig struct {
	Seq           int64             `yaml:"seq"`         // that no protection of the source zone has, nor any of this one
	SourceZone    block.Zone        `yaml:"source_zone"` // of the volumes
	Follows       int64             `yaml:"follows"`     // the protection, or relay, by which they come here
	Destination   block.Zone        `yaml:"destination"`
	BackupBackend BackendConfig     `yaml:"backup_backend"`
	Interval      time.Duration     `yaml:"interval"`   // how often news are looked for; 1s if absent
	RPOTarget     time.Duration     `yaml:"rpo_target"` // as of a protection
	Retention     []RetentionConfig `yaml:"retention"`
	Disabled      bool              `yaml:"disabled"`
}

// checkRelays refuses relays that lead nowhere, or back to where the volumes
// come from.
func (c *Config) checkRelays(peers map[block.Zone]bool, seqs map[int64]bool) error {
	for _, r := range c.Relays {
		switch {
		case !peers[r.Destination]:
			return fmt.Errorf("relays: seq %d: destination %q is not among the peers", r.Seq, r.Destination)
		case r.SourceZone == c.Zone || r.SourceZone == "":
			return fmt.Errorf("relays: seq %d: source_zone is the other zone whose volumes are sent on", r.Seq)
		case r.Destination == r.SourceZone:
			return fmt.Errorf("relays: seq %d: volumes of zone %s would be sent back to it", r.Seq, r.SourceZone)
		case r.BackupBackend.Name == "":
			return fmt.Errorf("relays: seq %d: backup_backend.name is missing", r.Seq)
		case r.Seq <= 0 || seqs[r.Seq]:
			return fmt.Errorf("relays: seq %d: a seq is a number from 1 that no other protection or relay has", r.Seq)
		case r.Follows <= 0 || r.Follows == r.Seq || seqs[r.Follows]:
			return fmt.Errorf("relays: seq %d: follows is the seq by which volumes of zone %s come here", r.Seq, r.SourceZone)
		case r.Interval < 0 || r.Interval > 0 && r.Interval < 100*time.Millisecond:
			return fmt.Errorf("relays: seq %d: an interval under 100ms is not supported", r.Seq)
		case r.RPOTarget < 0 || r.RPOTarget > 0 && r.RPOTarget < r.Interval:
			return fmt.Errorf("relays: seq %d: rpo_target %s can't be kept", r.Seq, r.RPOTarget)
		}
		seqs[r.Seq] = true
	}
	return nil
}

// relays are the configured relays as the other rooms know them.
func (c *Config) relays() (out []block.Protection) {
	for _, r := range c.Relays {
		out = append(out, block.Protection{Seq: r.Seq, SourceZone: r.SourceZone, Via: c.Zone, Follows: r.Follows,
			Destination: r.Destination, Backup: r.BackupBackend.backend(), Interval: cmp.Or(r.Interval, time.Second),
			Retention: retentionOf(r.Retention), Enabled: !r.Disabled, RPOTarget: r.RPOTarget})
	}
	return out
}

func retentionOf(tiers []RetentionConfig) (r block.Retention) {
	for _, tier := range tiers {
		r.Tiers = append(r.Tiers, block.RetentionTier{Step: tier.Step, For: tier.For})
	}
	if len(r.Tiers) == 0 {
		return DefaultRetention
	}
	return r
}
