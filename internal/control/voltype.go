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
	if err := mayRead(c, "volume_extension:type_get_all"); err != nil {
		return nil, err
	}
	q.Project = c.Own()
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

// TypeByID returns a volume type by id alone.
func (s *Service) TypeByID(ctx context.Context, c block.Caller, id block.TypeID) (t block.VolumeType, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		t, err = usableType(tx, c, id)
		return err
	})
	return t, first(err, mayRead(c, ruleShowType))
}

const ruleShowType = "volume_extension:type_get"

func usableType(tx *catalog.Tx, c block.Caller, id block.TypeID) (block.VolumeType, error) {
	t, err := tx.Type(id)
	if err != nil {
		return block.VolumeType{}, err
	}
	ok, err := mayUse(tx, c, t)
	if err == nil && !ok {
		err = block.Errorf(block.NotFound, "Volume type %s could not be found.", id)
	}
	return t, err
}

// typeOf finds a type that the caller may use. Names may look like ids; an id
// comes first, as in cinder/volume/volume_types.py get_by_name_or_id.
func typeOf(tx *catalog.Tx, c block.Caller, idOrName string) (block.VolumeType, error) {
	id, isID := block.ParseID(idOrName)
	if isID {
		t, err := usableType(tx, c, block.TypeID(id))
		if !block.Is(err, block.NotFound) {
			return t, err
		}
	}
	t, err := tx.TypeNamed(idOrName)
	if err == nil {
		var ok bool
		if ok, err = mayUse(tx, c, t); err == nil && ok {
			return t, nil
		}
	}
	switch {
	case err != nil && !block.Is(err, block.NotFound):
		return block.VolumeType{}, err
	case isID:
		return block.VolumeType{}, block.Errorf(block.NotFound, "Volume type %s could not be found.", id)
	}
	return block.VolumeType{}, block.Errorf(block.NotFound, "Volume type with name %s could not be found.", idOrName)
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

// AvailabilityZones returns the names that tenants may ask for.
func (s *Service) AvailabilityZones(context.Context, block.Caller) []AvailabilityZone {
	var zones []AvailabilityZone
	for _, name := range s.cfg.AvailabilityZones {
		zones = append(zones, AvailabilityZone{Name: name, Available: true})
	}
	return zones
}
