package zone

import (
	"strings"
	"testing"

	"kvol/internal/block"
)

func TestRelaysThatLeadNowhereAreRefused(t *testing.T) {
	c := Config{Zone: "b"}
	good := RelayConfig{Seq: 9, SourceZone: "a", Follows: 2, Destination: "c", BackupBackend: BackendConfig{Name: "bak"}}
	for name, one := range map[string]struct {
		change func(*RelayConfig)
		want   string // "" for none
	}{
		"good":              {func(*RelayConfig) {}, ""},
		"back to its zone":  {func(r *RelayConfig) { r.Destination = "a" }, "sent back"},
		"own volumes":       {func(r *RelayConfig) { r.SourceZone = "b" }, "source_zone"},
		"to nobody":         {func(r *RelayConfig) { r.Destination = "d" }, "not among the peers"},
		"follows itself":    {func(r *RelayConfig) { r.Follows = 9 }, "follows"},
		"follows its own":   {func(r *RelayConfig) { r.Follows = 5 }, "follows"},
		"a seq that is had": {func(r *RelayConfig) { r.Seq = 5 }, "seq"},
		"no backend":        {func(r *RelayConfig) { r.BackupBackend.Name = "" }, "backup_backend"},
	} {
		r := good
		one.change(&r)
		c.Relays = []RelayConfig{r}
		err := c.checkRelays(map[block.Zone]bool{"a": true, "c": true}, map[int64]bool{5: true})
		if (err == nil) != (one.want == "") || err != nil && !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
