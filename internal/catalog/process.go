package catalog

import (
	"time"

	"kvol/internal/block"
)

// Process is one of those that serve a zone together.
type Process struct {
	ID      string // of this run
	Name    string // of the process, the same after a restart
	Host    string // the machine's name
	Place   string // what tells whether a pid is of the same machine and container
	PID     int
	URL     string // where the others reach its APIs
	Version string
	State   string // ProcessServing or ProcessStopping
	Started time.Time
	Seen    time.Time // when it last showed itself, by the database's clock
	Ends    time.Time // when it counts as dead, if it does not show itself
	Live    bool
}

// The states of a process.
const (
	ProcessServing  = "serving"
	ProcessStopping = "stopping"
)

const processColumns = "id, name, host, place, pid, url, version, state, started_at, seen_at, ends_at"

// EnterProcess adds a process for as long as a lease, in the place of an earlier
// run under the same name.
func (tx *Tx) EnterProcess(p Process, lease time.Duration) error {
	now, err := tx.clock()
	if err != nil {
		return err
	}
	if _, err := tx.exec("DELETE FROM processes WHERE name = $1", p.Name); err != nil {
		return err
	}
	tx.stirs = true
	_, err = tx.exec(`INSERT INTO processes (`+processColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)`, p.ID, p.Name, p.Host, p.Place, p.PID, p.URL, p.Version,
		ProcessServing, micros(now), micros(now.Add(lease)))
	return err
}

// ShowProcess says that a process lives, and how it is. Jobs whose processes are
// dead can be claimed again from then on. It is Stale where the process is not
// among the zone's any more.
func (tx *Tx) ShowProcess(id, name, state string, lease time.Duration) error {
	now, err := tx.clock()
	if err != nil {
		return err
	}
	res, err := tx.exec("UPDATE processes SET state = $2, seen_at = $3, ends_at = $4 WHERE id = $1",
		id, state, micros(now), micros(now.Add(lease)))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return orElse(err, errRestarted(name))
	}
	return tx.reclaimDead(now)
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// reclaimDead makes the jobs of processes that are gone or silent due at once.
// What these still do finds the token of the next claim. The attempts stay counted.
func (tx *Tx) reclaimDead(now time.Time) error {
	res, err := tx.exec(`UPDATE jobs SET state = $1, owner = '', due_at = $2 WHERE ended_at IS NULL AND state = $3
		AND owner NOT IN (SELECT id FROM processes WHERE ends_at > $4)`,
		block.JobReady, micros(tx.Now), block.JobRunning, micros(now))
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if n > 0 {
		tx.jobs = true
	}
	return err
}

// LeaveProcess removes a process that ends, and gives its duties back.
func (tx *Tx) LeaveProcess(id string) error {
	if _, err := tx.exec("UPDATE duties SET holder = '', said = '' WHERE holder = $1", id); err != nil {
		return err
	}
	if _, err := tx.exec("DELETE FROM processes WHERE id = $1", id); err != nil {
		return err
	}
	tx.stirs = true
	now, err := tx.clock()
	if err != nil {
		return err
	}
	return tx.reclaimDead(now)
}

// PruneProcesses forgets processes that died before a time.
func (tx *Tx) PruneProcesses(before time.Time) error {
	_, err := tx.exec("DELETE FROM processes WHERE ends_at < $1", micros(before))
	return err
}

// Processes lists the processes of the zone, by name.
func (tx *Tx) Processes() ([]Process, error) {
	now, err := tx.clock()
	if err != nil {
		return nil, err
	}
	return collect(tx, func(row scanner) (p Process, err error) {
		err = row.Scan(&p.ID, &p.Name, &p.Host, &p.Place, &p.PID, &p.URL, &p.Version, &p.State, asTime(&p.Started),
			asTime(&p.Seen), asTime(&p.Ends))
		p.Live = now.Before(p.Ends)
		return p, err
	}, "SELECT "+processColumns+" FROM processes ORDER BY name, id")
}
