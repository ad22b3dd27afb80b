package catalog

import "kvol/internal/block"

const noPlan = "Recovery plan %s could not be found."

// InsertPlan writes a new plan; its times become Now. A name that another plan
// of the project has is a Conflict.
func (tx *Tx) InsertPlan(p *block.RecoveryPlan) error {
	p.CreatedAt, p.UpdatedAt = tx.Now, tx.Now
	_, err := tx.exec(`INSERT INTO dr_plans (id, project_id, name, plan) VALUES ($1, $2, $3, $4)`, p.ID,
		string(p.Project), p.Name, jsonText(*p))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "A recovery plan called %s exists.", p.Name)
	}
	return err
}

// UpdatePlan writes a plan anew; UpdatedAt becomes Now.
func (tx *Tx) UpdatePlan(p *block.RecoveryPlan) error {
	p.UpdatedAt = tx.Now
	res, err := tx.exec(`UPDATE dr_plans SET name = $2, plan = $3 WHERE id = $1`, p.ID, p.Name, jsonText(*p))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "A recovery plan called %s exists.", p.Name)
	}
	return changed(res, err, noPlan, p.ID)
}

// Plan returns a plan by its id.
func (tx *Tx) Plan(id string) (block.RecoveryPlan, error) {
	p, err := scanPlan(tx.queryRow(`SELECT plan FROM dr_plans WHERE id = $1`, id))
	return p, notFound(err, noPlan, id)
}

// PlanNamed returns a project's plan by its name.
func (tx *Tx) PlanNamed(project block.ProjectID, name string) (block.RecoveryPlan, error) {
	p, err := scanPlan(tx.queryRow(`SELECT plan FROM dr_plans WHERE project_id = $1 AND name = $2`, string(project), name))
	return p, notFound(err, noPlan, name)
}

// Plans lists plans by name, at most limit: of a project, or all for "".
func (tx *Tx) Plans(project block.ProjectID, limit int) ([]block.RecoveryPlan, error) {
	return collect(tx, scanPlan, `SELECT plan FROM dr_plans WHERE $1 = '' OR project_id = $1
		ORDER BY project_id, name LIMIT $2`, string(project), limit)
}

// DeletePlan removes a plan.
func (tx *Tx) DeletePlan(id string) error {
	res, err := tx.exec(`DELETE FROM dr_plans WHERE id = $1`, id)
	return changed(res, err, noPlan, id)
}

func scanPlan(row scanner) (p block.RecoveryPlan, err error) {
	err = row.Scan(asJSON(&p))
	return p, err
}
