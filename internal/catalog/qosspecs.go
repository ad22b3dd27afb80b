package catalog

import (
	"maps"
	"slices"

	"github.com/google/uuid"

	"kvol/internal/block"
)

const selectQoS = `SELECT qos_specs.id, qos_specs.name, qos_specs.consumer, qos_specs.specs, qos_specs.configured,
	qos_specs.created_at, qos_specs.updated_at FROM qos_specs`

var qosList = lister{
	table: "qos_specs", shared: true, missing: "No such QoS spec %s.",
	columns: map[string]listColumn{
		"id":         {sql: "qos_specs.id"},
		"name":       {sql: "qos_specs.name"},
		"consumer":   {sql: "qos_specs.consumer"},
		"created_at": {sql: "qos_specs.created_at", kind: timeColumn},
		"updated_at": {sql: "qos_specs.updated_at", kind: timeColumn, nullable: true},
	},
}

// ConfiguredQoSName begins the names of QoS specs that are made of the
// configuration; a type's name follows. No others have such names.
const ConfiguredQoSName = "configured:"

// InsertQoS adds QoS specs. A name that others have is a Conflict.
func (tx *Tx) InsertQoS(q block.QoSSpecs) error {
	_, err := tx.exec(`INSERT INTO qos_specs (id, name, consumer, specs, configured, created_at)
		VALUES ($1, $2, $3, $4, $5, $6)`, q.ID, q.Name, q.Consumer, pairs(q.Specs), q.Configured, micros(tx.Now))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "QoS Specs %s already exists.", q.Name)
	}
	return err
}

// UpdateQoS writes the name, consumer and keys of QoS specs.
func (tx *Tx) UpdateQoS(q block.QoSSpecs) error {
	res, err := tx.exec("UPDATE qos_specs SET name = $2, consumer = $3, specs = $4, updated_at = $5 WHERE id = $1",
		q.ID, q.Name, q.Consumer, pairs(q.Specs), micros(tx.Now))
	return changed(res, err, qosList.missing, q.ID)
}

// DeleteQoS forgets QoS specs, and takes them from the types that have them.
func (tx *Tx) DeleteQoS(id string) error {
	if err := tx.DisassociateQoS(id, ""); err != nil {
		return err
	}
	res, err := tx.exec("DELETE FROM qos_specs WHERE id = $1", id)
	return changed(res, err, qosList.missing, id)
}

// QoS returns the QoS specs with an id.
func (tx *Tx) QoS(id string) (block.QoSSpecs, error) {
	q, err := scanQoS(tx.queryRow(selectQoS+" WHERE id = $1", id))
	return q, notFound(err, qosList.missing, id)
}

// QoSOfType returns the QoS specs of a type; ok is false if it has none.
func (tx *Tx) QoSOfType(id block.TypeID) (q block.QoSSpecs, ok bool, err error) {
	q, err = scanQoS(tx.queryRow(selectQoS+` JOIN volume_types ON volume_types.qos_id = qos_specs.id
		WHERE volume_types.id = $1`, id))
	err = notFound(err, "The type has no QoS specs.")
	if block.Is(err, block.NotFound) {
		return block.QoSSpecs{}, false, nil
	}
	return q, err == nil, err
}

// ListQoS lists QoS specs. Its errors are those of Volumes.
func (tx *Tx) ListQoS(q block.ListQuery) ([]block.QoSSpecs, error) {
	query, args, err := qosList.page(tx, q, selectQoS)
	if err != nil {
		return nil, err
	}
	return collect(tx, scanQoS, query, args...)
}

// AssociateQoS gives QoS specs to a type, instead of those that it has.
func (tx *Tx) AssociateQoS(id string, to block.TypeID) error {
	_, err := tx.exec("UPDATE volume_types SET qos_id = $1, updated_at = $3 WHERE id = $2", id, to, micros(tx.Now))
	return err
}

// DisassociateQoS takes QoS specs from a type that has them; from all types for
// "".
func (tx *Tx) DisassociateQoS(id string, from block.TypeID) error {
	_, err := tx.exec(`UPDATE volume_types SET qos_id = NULL, updated_at = $3
		WHERE qos_id = $1 AND ($2 = '' OR id = $2)`, id, from, micros(tx.Now))
	return err
}

// TypesOfQoS lists the types that have QoS specs.
func (tx *Tx) TypesOfQoS(id string) ([]block.VolumeType, error) {
	return collect(tx, scanType, selectTypes+" WHERE qos_id = $1 ORDER BY created_at, id", id)
}

// configureQoS makes QoS specs of what the configuration says about types, and
// associates them; those of types that it says nothing about any more go.
func (tx *Tx) configureQoS(types []block.VolumeType, limits map[block.TypeID]map[string]string) error {
	var kept []string
	for _, t := range types {
		if len(limits[t.ID]) > 0 {
			kept = append(kept, configuredQoSID(t.ID))
		}
	}
	made, err := collect(tx, func(row scanner) (id string, err error) { return id, row.Scan(&id) },
		"SELECT id FROM qos_specs WHERE configured = TRUE")
	if err != nil {
		return err
	}
	for _, id := range made {
		if slices.Contains(kept, id) {
			continue
		}
		if err := tx.DeleteQoS(id); err != nil {
			return err
		}
	}
	for _, t := range types {
		if len(limits[t.ID]) == 0 {
			continue
		}
		if err := tx.limitType(t, limits[t.ID]); err != nil {
			return err
		}
	}
	return nil
}

// limitType gives a type the limits of the configuration.
func (tx *Tx) limitType(t block.VolumeType, limits map[string]string) error {
	q := block.QoSSpecs{ID: configuredQoSID(t.ID), Name: ConfiguredQoSName + t.Name, Consumer: block.QoSBoth,
		Specs: limits, Configured: true}
	if err := tx.upsertQoS(q); err != nil {
		return err
	}
	have, ok, err := tx.QoSOfType(t.ID)
	if err != nil || ok && have.ID == q.ID {
		return err
	}
	return tx.AssociateQoS(q.ID, t.ID)
}

func (tx *Tx) upsertQoS(q block.QoSSpecs) error {
	have, err := tx.QoS(q.ID)
	switch {
	case block.Is(err, block.NotFound):
		return tx.InsertQoS(q)
	case err != nil:
		return err
	case have.Name == q.Name && maps.Equal(have.Specs, q.Specs):
		return nil
	}
	return tx.UpdateQoS(q)
}

// configuredQoSID is the id of the QoS specs that the configuration gives to a
// type: the same at each start.
func configuredQoSID(t block.TypeID) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("qos:"+t)).String()
}

func scanQoS(row scanner) (block.QoSSpecs, error) {
	var q block.QoSSpecs
	err := row.Scan(&q.ID, &q.Name, &q.Consumer, asJSON(&q.Specs), &q.Configured, asTime(&q.CreatedAt),
		asTime(&q.UpdatedAt))
	return q, err
}
