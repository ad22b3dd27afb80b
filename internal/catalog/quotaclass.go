package catalog

import "kvol/internal/block"

// DefaultQuotaClass is the class whose limits hold for projects without their
// own (cinder/quota.py, DEFAULT_QUOTA_CLASS).
const DefaultQuotaClass = "default"

// QuotaClass returns the limits that were set for a class, by resource name;
// what was never set is missing.
func (tx *Tx) QuotaClass(class string) (map[string]int64, error) {
	return tx.limits("SELECT resource, max FROM quota_classes WHERE class = $1", class)
}

// SetQuotaClass sets a limit of a class; block.Unlimited is one too.
func (tx *Tx) SetQuotaClass(class, resource string, limit int64) error {
	_, err := tx.exec(`INSERT INTO quota_classes (class, resource, max) VALUES ($1, $2, $3)
		ON CONFLICT (class, resource) DO UPDATE SET max = excluded.max`, class, resource, limit)
	return err
}

// perType are the resources that are also counted for each type.
var perType = []string{"volumes", "gigabytes", "snapshots"}

// renameQuotas lets the limits on a type follow its name.
func (tx *Tx) renameQuotas(from, to string) error {
	if err := tx.deleteTypeQuotas(to); err != nil {
		return err
	}
	for _, resource := range perType {
		for _, table := range []string{"quotas", "quota_classes"} {
			_, err := tx.exec("UPDATE "+table+" SET resource = $2 WHERE resource = $1", resource+"_"+from, resource+"_"+to)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (tx *Tx) deleteTypeQuotas(name string) error {
	for _, resource := range perType {
		for _, table := range []string{"quotas", "quota_classes"} {
			if _, err := tx.exec("DELETE FROM "+table+" WHERE resource = $1", resource+"_"+name); err != nil {
				return err
			}
		}
	}
	return nil
}

// limits reads pairs of a resource and its limit.
func (tx *Tx) limits(query string, args ...any) (map[string]int64, error) {
	all := map[string]int64{}
	_, err := collect(tx, func(row scanner) (struct{}, error) {
		var name string
		var limit int64
		err := row.Scan(&name, &limit)
		all[name] = limit
		return struct{}{}, err
	}, query, args...)
	return all, err
}

// projectLimits is what holds for a project: its own limits, and those of the
// default class where it has none, with one query.
const projectLimits = `SELECT resource, max FROM quotas WHERE project_id = $1
	UNION ALL SELECT resource, max FROM quota_classes WHERE class = $2 AND NOT EXISTS (
		SELECT 1 FROM quotas WHERE project_id = $1 AND quotas.resource = quota_classes.resource)`

// EffectiveQuotas returns the limits that were set for a project or for all
// that have none of their own; what was never set is missing.
func (tx *Tx) EffectiveQuotas(project block.ProjectID) (map[string]int64, error) {
	return tx.limits(projectLimits, project, DefaultQuotaClass)
}
