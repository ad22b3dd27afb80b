package zone

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/identity"
)

// checkValues refuses single values that would do something else than whoever wrote
// them can have meant, and things of one kind that can't be told from each other.
func (c *Config) checkValues() error {
	return cmp.Or(c.checkZones(), c.checkTypeNames(), c.checkRetentions(), c.checkExports(), c.checkUsers())
}

// checkZones refuses names of zones that can't be part of a path or a list, and peers
// of one name.
func (c *Config) checkZones() error {
	if err := checkZoneName("zone", c.Zone); err != nil {
		return err
	}
	seen := map[block.Zone]bool{}
	for _, p := range c.Peers {
		if p.Zone == "" {
			return fmt.Errorf("peers: the zone at %q has no name: zone is missing", p.URL)
		}
		if err := checkZoneName("peers: zone", p.Zone); err != nil {
			return err
		}
		if seen[p.Zone] {
			return fmt.Errorf("peers: zone %s is there twice", p.Zone)
		}
		seen[p.Zone] = true
	}
	if slices.Contains(c.AvailabilityZones, "") {
		return errors.New("availability_zones: one has no name")
	}
	return nil
}

func checkZoneName(key string, name block.Zone) error {
	bad := strings.IndexFunc(string(name), func(r rune) bool {
		return !unicode.IsPrint(r) || r == ' ' || strings.ContainsRune("/\\?#%&,;\"'", r)
	})
	if bad >= 0 || strings.HasPrefix(string(name), ".") {
		return fmt.Errorf("%s: %q can't be the name of a zone: it is part of paths, so that it begins with no dot and has "+
			"neither blanks nor any of / \\ ? # %% & , ; \" '", key, name)
	}
	return nil
}

// checkTypeNames refuses volume types that have one id, or one name.
func (c *Config) checkTypeNames() error {
	ids, names := map[block.TypeID]string{}, map[string]bool{}
	for _, t := range c.VolumeTypes {
		other, taken := ids[t.ID]
		switch {
		case t.Name == "":
			return fmt.Errorf("volume_types: the type with the id %q has no name", t.ID)
		case names[t.Name]:
			return fmt.Errorf("volume_types: name: %s is there twice", t.Name)
		case taken:
			return fmt.Errorf("volume_types: %s: id %s is that of %s too", t.Name, t.ID, other)
		}
		ids[t.ID], names[t.Name] = t.Name, true
	}
	return nil
}

func (c *Config) checkRetentions() error {
	for _, p := range c.Protections {
		if err := checkRetention("protections", p.Seq, p.Retention); err != nil {
			return err
		}
	}
	for _, r := range c.Relays {
		if err := checkRetention("relays", r.Seq, r.Retention); err != nil {
			return err
		}
	}
	return nil
}

// checkRetention refuses tiers that keep nothing. A step of 0 keeps each point.
func checkRetention(key string, seq int64, tiers []RetentionConfig) error {
	for _, t := range tiers {
		if t.For <= 0 {
			return fmt.Errorf("%s: seq %d: retention: for: how long points are kept, every %s of them, is missing or less "+
				"than 0", key, seq, t.Step)
		}
		if t.Step < 0 {
			return fmt.Errorf("%s: seq %d: retention: step: %s is less than 0", key, seq, t.Step)
		}
	}
	return nil
}

func (c *Config) checkExports() error {
	if c.Exports.RequireTLS && c.Exports.TLS == nil {
		return errors.New("exports.require_tls: no host could connect: exports.tls, with cert and key, is missing")
	}
	l := c.Exports.Limits
	return cmp.Or(notBelow0("exports.limits.connections", l.Connections),
		notBelow0("exports.limits.client_connections", l.ClientConnections),
		notBelow0("exports.limits.export_connections", l.ExportConnections),
		notBelow0("exports.limits.memory_mib", l.MemoryMiB), notBelow0("exports.limits.stall", l.Stall))
}

func notBelow0[N int | int64 | time.Duration](key string, n N) error {
	if n < 0 {
		return fmt.Errorf("%s: %v is less than 0", key, n)
	}
	return nil
}

// sizes refuses a store's numbers that are none.
func (c *StoreConfig) sizes() error {
	key := "stores: " + c.Name + ": "
	return cmp.Or(notBelow0(key+"max_gib", c.MaxGiB), notBelow0(key+"segment_mib", c.SegmentMiB),
		notBelow0(key+"cache_mib", c.CacheMiB), notBelow0(key+"scrub_mib_s", c.ScrubMiB))
}

// checkUsers refuses people who could never log in, or be told from each other.
func (c *Config) checkUsers() error {
	err := cmp.Or(notBelow0("identity.token_ttl", c.Identity.TokenTTL),
		notBelow0("kvol_api.token_ttl", c.KvolAPI.TokenTTL))
	if err != nil {
		return err
	}
	projects, users, ofKvol := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range c.Identity.Projects {
		if p.Name == "" || projects[p.Name] {
			return fmt.Errorf("identity.projects: each needs a name of its own, and %q is none", p.Name)
		}
		projects[p.Name] = true
	}
	for _, u := range c.Identity.Users {
		if err := checkUser("identity.users", u.Name, u.Password+u.PasswordHash, users); err != nil {
			return err
		}
	}
	for _, u := range c.KvolAPI.Users {
		name := cmp.Or(u.Name, identity.DefaultKvolUser)
		if err := checkUser("kvol_api.users", name, u.Password+u.PasswordHash, ofKvol); err != nil {
			return err
		}
	}
	return nil
}

func checkUser(key, name, secret string, names map[string]bool) error {
	switch {
	case name == "" || names[name]:
		return fmt.Errorf("%s: each needs a name of its own, and %q is none", key, name)
	case secret == "":
		return fmt.Errorf("%s: %s: without a password or a password_hash nobody can log in", key, name)
	}
	names[name] = true
	return nil
}

// readIDs takes ids of types and volumes in any form of a UUID, and has them in the one
// in which they are looked for.
func (c *Config) readIDs() {
	for text, specs := range maps.Clone(c.Exports.VolumeQoS) {
		if id, ok := block.ParseID(string(text)); ok && id != string(text) {
			delete(c.Exports.VolumeQoS, text)
			c.Exports.VolumeQoS[block.VolumeID(id)] = specs
		}
	}
	for i, t := range c.VolumeTypes {
		if id, ok := block.ParseID(string(t.ID)); ok {
			c.VolumeTypes[i].written, c.VolumeTypes[i].ID = t.ID, block.TypeID(id)
		}
	}
}

// keepTypeIDs leaves types the ids that they have in the catalog: a zone that has used
// one of another form has volumes and protections by it.
func (c *Config) keepTypeIDs(tx *catalog.Tx) error {
	c.VolumeTypes = slices.Clone(c.VolumeTypes) // other copies of the configuration have it too
	for i, t := range c.VolumeTypes {
		if t.written == "" || t.written == t.ID {
			continue
		}
		_, err := tx.Type(t.written)
		if err == nil {
			c.VolumeTypes[i].ID = t.written
		} else if !block.Is(err, block.NotFound) {
			return err
		}
	}
	return nil
}
