package control

import (
	"context"
	"strconv"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Types returns a page of the volume types that the caller may use:
// administrators see private ones too.
func (s *Service) Types(ctx context.Context, c block.Caller, q block.ListQuery) (list []block.VolumeType, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		list, err = tx.Types(q, c.Admin())
		return err
	})
	return list, err
}

// Type returns a volume type by id or name.
func (s *Service) Type(ctx context.Context, c block.Caller, idOrName string) (t block.VolumeType, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		t, err = typeOf(tx, c, idOrName)
		return err
	})
	return t, err
}

// typeOf finds a type that the caller may use. Names may look like ids; an id
// comes first, as in cinder/volume/volume_types.py get_by_name_or_id.
func typeOf(tx *catalog.Tx, c block.Caller, idOrName string) (block.VolumeType, error) {
	if id, ok := block.ParseID(idOrName); ok {
		t, err := tx.Type(block.TypeID(id))
		if err == nil && !t.Public && !c.Admin() {
			err = block.Errorf(block.NotFound, "Volume type %s could not be found.", id)
		}
		if !block.Is(err, block.NotFound) {
			return t, err
		}
		if named, err := tx.TypeNamed(idOrName); err == nil && (named.Public || c.Admin()) {
			return named, nil
		}
		return block.VolumeType{}, err
	}
	t, err := tx.TypeNamed(idOrName)
	if block.Is(err, block.NotFound) || err == nil && !t.Public && !c.Admin() {
		return block.VolumeType{}, block.Errorf(block.NotFound, "Volume type with name %s could not be found.", idOrName)
	}
	return t, err
}

// checkTypeSize keeps a type's smallest and largest size
// (cinder/volume/volume_types.py provision_filter_on_size).
func checkTypeSize(t *block.VolumeType, size int64) error {
	if t == nil {
		return nil
	}
	low, high := t.ExtraSpecs["provisioning:min_vol_size"], t.ExtraSpecs["provisioning:max_vol_size"]
	if n, err := strconv.ParseInt(low, 10, 64); err == nil && size < n {
		return invalidInput("Specified volume size of '%d' is less than the minimum required size of '%s' "+
			"for volume type '%s'.", size, low, t.Name)
	}
	if n, err := strconv.ParseInt(high, 10, 64); err == nil && size > n {
		return invalidInput("Specified volume size of '%d' is greater than the maximum allowable size of '%s' "+
			"for volume type '%s'.", size, high, t.Name)
	}
	return nil
}

// typeByID returns a volume's type; nil for a volume without one.
func typeByID(tx *catalog.Tx, id block.TypeID) (*block.VolumeType, error) {
	if id == "" {
		return nil, nil
	}
	t, err := tx.Type(id)
	if err != nil {
		return nil, ignoring(block.NotFound, err)
	}
	return &t, nil
}

// backendOf is where volumes of a type lie.
func (s *Service) backendOf(t *block.VolumeType) (string, error) {
	name := s.cfg.DefaultBackend
	if t != nil && t.BackendName() != "" {
		name = t.BackendName()
	}
	if name == "" {
		if all := s.backends.Backends(); len(all) == 1 {
			name = all[0].Name
		}
	}
	if _, ok := s.backends.Backend(name); !ok {
		return "", block.Errorf(block.Unavailable, "No backend of this zone can hold the volume.")
	}
	return name, nil
}

// AvailabilityZones returns the names that tenants may ask for.
func (s *Service) AvailabilityZones(context.Context, block.Caller) []AvailabilityZone {
	var zones []AvailabilityZone
	for _, name := range s.cfg.AvailabilityZones {
		zones = append(zones, AvailabilityZone{Name: name, Available: true})
	}
	return zones
}
