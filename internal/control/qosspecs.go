package control

import (
	"context"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// The rules of QoS specs (cinder/policies/qos_specs.py); what is done stands
// behind.
const qosRule = "volume_extension:qos_specs_manage:"

// ListQoS returns a page of the QoS specs, for administrators.
func (s *Service) ListQoS(ctx context.Context, c block.Caller, q block.ListQuery) (all []block.QoSSpecs, err error) {
	if err := mustAdminister(c, qosRule+"get_all"); err != nil {
		return nil, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err = tx.ListQoS(q)
		return err
	})
	return all, err
}

// QoS returns QoS specs, for administrators.
func (s *Service) QoS(ctx context.Context, c block.Caller, id string) (q block.QoSSpecs, err error) {
	if err := mustAdminister(c, qosRule+"get"); err != nil {
		return q, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		q, err = tx.QoS(id)
		return err
	})
	return q, err
}

// CreateQoS makes QoS specs, for administrators; an empty consumer is the back
// end. A name that others have is a Conflict. (cinder/volume/qos_specs.py)
func (s *Service) CreateQoS(ctx context.Context, c block.Caller, q block.QoSSpecs) (block.QoSSpecs, error) {
	if err := mustAdminister(c, qosRule+"create"); err != nil {
		return q, err
	}
	if q.Consumer == "" {
		q.Consumer = block.QoSBackEnd
	}
	if strings.HasPrefix(q.Name, catalog.ConfiguredQoSName) {
		return q, invalidQoS("names that begin with %s are of the zone's configuration.", catalog.ConfiguredQoSName)
	}
	made := block.QoSSpecs{ID: block.NewID(), Name: q.Name, Consumer: q.Consumer, Specs: q.Specs}
	if err := checkQoS(made); err != nil {
		return q, err
	}
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		have, err := tx.ListQoS(block.ListQuery{Limit: -1})
		if err != nil {
			return err
		}
		if len(have) >= maxTypes {
			return invalidQoS("this zone has %d already, and no more are possible.", maxTypes)
		}
		if err := tx.InsertQoS(made); err != nil {
			return err
		}
		made, err = tx.QoS(made.ID)
		return err
	})
	return made, err
}

func invalidQoS(format string, args ...any) error {
	return block.Errorf(block.Invalid, "Invalid qos specs: "+format, args...)
}

func checkQoS(q block.QoSSpecs) error {
	if !slices.Contains([]string{block.QoSFrontEnd, block.QoSBackEnd, block.QoSBoth}, q.Consumer) {
		return invalidQoS("Valid consumer of QoS specs are: ['front-end', 'back-end', 'both']")
	}
	if len(q.Specs) > maxSpecs {
		return invalidQoS("there are at most %d keys.", maxSpecs)
	}
	return nil
}

// UpdateQoS adds to QoS specs, for administrators; "consumer" among the keys is
// who keeps to them. Exports that are open and limited follow.
func (s *Service) UpdateQoS(ctx context.Context, c block.Caller, id string,
	specs map[string]string) (block.QoSSpecs, error) {
	var changed block.QoSSpecs
	err := s.changeQoS(ctx, c, id, "update", func(tx *catalog.Tx, q block.QoSSpecs) error {
		if q.Specs == nil {
			q.Specs = map[string]string{}
		}
		for key, value := range specs {
			if key == "consumer" {
				q.Consumer = value
			} else {
				q.Specs[key] = value
			}
		}
		changed = q
		return first(checkQoS(q), tx.UpdateQoS(q))
	})
	return changed, err
}

// DeleteQoSKeys forgets keys of QoS specs, for administrators: those up to the
// first that isn't there, which is NotFound (cinder/volume/qos_specs.py,
// delete_keys).
func (s *Service) DeleteQoSKeys(ctx context.Context, c block.Caller, id string, keys []string) error {
	var missing error
	err := s.changeQoS(ctx, c, id, "delete", func(tx *catalog.Tx, q block.QoSSpecs) error {
		missing = nil
		for _, key := range keys {
			if _, ok := q.Specs[key]; !ok {
				missing = block.Errorf(block.NotFound, "QoS spec %s has no spec with key %s.", id, key)
				break
			}
			delete(q.Specs, key)
		}
		return tx.UpdateQoS(q)
	})
	return first(err, missing)
}

// DeleteQoS forgets QoS specs, for administrators. Those that types have are
// Invalid, unless force takes them from these.
func (s *Service) DeleteQoS(ctx context.Context, c block.Caller, id string, force bool) error {
	return s.changeQoS(ctx, c, id, "delete", func(tx *catalog.Tx, _ block.QoSSpecs) error {
		types, err := tx.TypesOfQoS(id)
		if err != nil {
			return err
		}
		if len(types) > 0 && !force {
			return block.Errorf(block.Invalid, "Qos specs still in use.")
		}
		return tx.DeleteQoS(id)
	})
}

// TypesOfQoS lists the types that have QoS specs, for administrators.
func (s *Service) TypesOfQoS(ctx context.Context, c block.Caller, id string) (types []block.VolumeType, err error) {
	if err := mustAdminister(c, qosRule+"get_all"); err != nil {
		return nil, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.QoS(id); err != nil {
			return err
		}
		types, err = tx.TypesOfQoS(id)
		return err
	})
	return types, err
}

// AssociateQoS gives QoS specs to a type, for administrators. It is Invalid for
// a type that has others.
func (s *Service) AssociateQoS(ctx context.Context, c block.Caller, id string, to block.TypeID) error {
	return s.changeQoS(ctx, c, id, "update", func(tx *catalog.Tx, _ block.QoSSpecs) error {
		t, err := tx.Type(to)
		switch {
		case err != nil:
			return err
		case t.QoSSpecsID == nil:
			return tx.AssociateQoS(id, to)
		case *t.QoSSpecsID != id:
			return invalidType("Type %s is already associated with another qos specs: %s", to, *t.QoSSpecsID)
		}
		return nil
	})
}

// DisassociateQoS takes QoS specs from a type, for administrators; from all
// types for "". A type that hasn't them stays as it is.
func (s *Service) DisassociateQoS(ctx context.Context, c block.Caller, id string, from block.TypeID) error {
	return s.changeQoS(ctx, c, id, "update", func(tx *catalog.Tx, _ block.QoSSpecs) error {
		if from != "" {
			if _, err := tx.Type(from); err != nil {
				return err
			}
		}
		return tx.DisassociateQoS(id, from)
	})
}

// changeQoS runs fn on QoS specs that an administrator changes, and lets open
// exports follow. Those of the configuration change there only.
func (s *Service) changeQoS(ctx context.Context, c block.Caller, id, what string,
	fn func(*catalog.Tx, block.QoSSpecs) error) error {
	if err := mustAdminister(c, qosRule+what); err != nil {
		return err
	}
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		q, err := tx.QoS(id)
		if err != nil {
			return err
		}
		if q.Configured {
			return invalidQoS("%s is of the zone's configuration; it can be changed there only.", q.Name)
		}
		return fn(tx, q)
	})
	if err != nil {
		return err
	}
	return s.exports.retune(ctx)
}
