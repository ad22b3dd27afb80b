package control

import (
	"context"
	"maps"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// isTrue is how extra specs say yes (cinder/scheduler/filters/extra_specs_ops.py).
const isTrue = "<is> True"

// maxSpecs is how many extra specs or keys of QoS specs there are at most; Cinder
// has no bound.
const maxSpecs = 1000

// VisibleSpecs are the extra specs that every tenant sees; the others are the
// operator's (cinder/policies/type_extra_specs.py, USER_VISIBLE_EXTRA_SPECS).
var VisibleSpecs = []string{"RESKEY:availability_zones", "multiattach", "replication_enabled"}

// SeesSpecs reports whether a caller sees all extra specs.
func (s *Service) SeesSpecs(c block.Caller) bool {
	return mustAdminister(c, "volume_extension:types_extra_specs:read_sensitive") == nil
}

// ExtraSpecs returns those extra specs of a type that the caller sees.
func (s *Service) ExtraSpecs(ctx context.Context, c block.Caller, id block.TypeID) (map[string]string, error) {
	return s.extraSpecs(ctx, c, id, "volume_extension:types_extra_specs:index")
}

func (s *Service) extraSpecs(ctx context.Context, c block.Caller, id block.TypeID, rule string) (map[string]string,
	error) {
	var t block.VolumeType
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		t, err = usableType(tx, c, id)
		return err
	})
	if err := first(err, mayRead(c, rule)); err != nil || s.SeesSpecs(c) {
		return t.ExtraSpecs, err
	}
	seen := map[string]string{}
	for _, key := range VisibleSpecs {
		if value, ok := t.ExtraSpecs[key]; ok {
			seen[key] = value
		}
	}
	return seen, nil
}

// ExtraSpec returns one extra spec of a type.
func (s *Service) ExtraSpec(ctx context.Context, c block.Caller, id block.TypeID, key string) (string, error) {
	specs, err := s.extraSpecs(ctx, c, id, "volume_extension:types_extra_specs:show")
	if err != nil {
		return "", err
	}
	value, ok := specs[key]
	if !ok {
		return "", noSpec(id, key)
	}
	return value, nil
}

func noSpec(id block.TypeID, key string) error {
	return block.Errorf(block.NotFound, "Volume Type %s has no extra specs with key %s.", id, key)
}

// SetExtraSpecs adds to a type's extra specs, under one of Cinder's rules
// ("create" or "update"), for administrators. While volumes of the type exist,
// which lie where the specs said, it is Invalid.
func (s *Service) SetExtraSpecs(ctx context.Context, c block.Caller, id block.TypeID, rule string,
	specs map[string]string) error {
	return s.changeSpecs(ctx, c, id, rule, func(have map[string]string) error {
		maps.Copy(have, specs)
		return checkSpecs(have)
	})
}

// DeleteExtraSpec forgets one extra spec of a type; the rest is as for
// SetExtraSpecs.
func (s *Service) DeleteExtraSpec(ctx context.Context, c block.Caller, id block.TypeID, key string) error {
	return s.changeSpecs(ctx, c, id, "delete", func(have map[string]string) error {
		if _, ok := have[key]; !ok {
			return noSpec(id, key)
		}
		delete(have, key)
		return nil
	})
}

func (s *Service) changeSpecs(ctx context.Context, c block.Caller, id block.TypeID, rule string,
	change func(map[string]string) error) error {
	rule = "volume_extension:types_extra_specs:" + rule
	return s.changeType(ctx, c, id, rule, func(tx *catalog.Tx, t block.VolumeType) error {
		used, err := tx.TypeInUse(id)
		switch {
		case err != nil:
			return err
		case used:
			return block.Errorf(block.Invalid, "Volume Type is currently in use.")
		case t.Configured:
			return ofConfiguration(t)
		}
		if t.ExtraSpecs == nil {
			t.ExtraSpecs = map[string]string{}
		}
		if err := change(t.ExtraSpecs); err != nil {
			return err
		}
		return tx.UpdateType(t)
	})
}

// checkSpecs refuses extra specs that can't be together.
func checkSpecs(specs map[string]string) error {
	if len(specs) > maxSpecs {
		return invalidInput("A volume type has at most %d extra specs.", maxSpecs)
	}
	if specs["multiattach"] == isTrue && specs["cacheable"] == isTrue {
		return block.Errorf(block.Invalid, "cacheable cannot be set with multiattach.")
	}
	return nil
}
