package catalog

import (
	"database/sql"
	"errors"
	"time"

	"kvol/internal/block"
)

// Duty is work that one of a zone's processes does at a time, for as long as it
// shows that it is alive. Times of duties are the database's, so that the clocks
// of machines need not agree.
type Duty struct {
	Name   string
	Token  int64     // of the holder; higher with each
	Holder string    // id of a process; "" for none
	Ends   time.Time // when another may take it
	Live   bool      // it is held, and its time is not over
	// Asked numbers what others wanted the holder to look at again, Done what it
	// has looked at.
	Asked, Done int64
	Said        string // what the holder tells the others, in its own words
}

const dutyColumns = "name, token, holder, ends_at, asked, done, said"

// TakeDuty gives a duty to a process for a time, if nobody holds it; ok is false if
// somebody does.
func (tx *Tx) TakeDuty(name, holder string, lease time.Duration) (h Hold, ok bool, err error) {
	now, err := tx.clock()
	if err != nil {
		return Hold{}, false, err
	}
	h = Hold{Duty: name, Holder: holder}
	err = tx.queryRow(`INSERT INTO duties (`+dutyColumns+`) VALUES ($1, 1, $2, $3, 0, 0, '')
		ON CONFLICT (name) DO UPDATE SET token = duties.token + 1, holder = excluded.holder,
			ends_at = excluded.ends_at, said = '', done = duties.asked
		WHERE duties.holder = '' OR duties.ends_at <= $4 RETURNING token`,
		name, holder, micros(now.Add(lease)), micros(now)).Scan(&h.Token)
	if errors.Is(err, sql.ErrNoRows) {
		return Hold{}, false, nil
	}
	tx.stirs = true
	if err == nil { // what was asked of the one before is nothing that this one has looked at
		_, err = tx.exec("DELETE FROM duty_asks WHERE duty = $1", name)
	}
	return h, err == nil, err
}

// RenewDuty lets its holder keep a duty for another while, and say something. It
// is Stale where somebody else took it.
func (tx *Tx) RenewDuty(h Hold, lease time.Duration, said string) error {
	now, err := tx.clock()
	if err != nil {
		return err
	}
	return h.kept(tx.exec("UPDATE duties SET ends_at = $4, said = $5 WHERE name = $1 AND holder = $2 AND token = $3",
		h.Duty, h.Holder, h.Token, micros(now.Add(lease)), said))
}

// ReleaseDuty lets another process take a duty at once.
func (tx *Tx) ReleaseDuty(h Hold) error {
	tx.stirs = true
	return h.kept(tx.exec("UPDATE duties SET holder = '', said = '' WHERE name = $1 AND holder = $2 AND token = $3",
		h.Duty, h.Holder, h.Token))
}

// AskDuty wants the holder of a duty to look again at some of what it serves, by
// name, or at all of it where nothing is named. It returns the duty as it is then;
// one that nobody holds has nothing to look at.
func (tx *Tx) AskDuty(name string, about ...string) (d Duty, err error) {
	tx.stirs = true
	if _, err := tx.exec("UPDATE duties SET asked = asked + 1 WHERE name = $1", name); err != nil {
		return Duty{}, err
	}
	if d, err = tx.Duty(name); err != nil || d.Holder == "" {
		return d, err
	}
	if len(about) == 0 {
		about = []string{""}
	}
	for _, one := range about {
		_, err := tx.exec(`INSERT INTO duty_asks (duty, about, asked) VALUES ($1, $2, $3)
			ON CONFLICT (duty, about) DO UPDATE SET asked = excluded.asked`, name, one, d.Asked)
		if err != nil {
			return Duty{}, err
		}
	}
	return d, nil
}

// DutyAsks lists what the holder of a duty is to look at again; all says that it
// is everything.
func (tx *Tx) DutyAsks(name string) (about []string, all bool, err error) {
	about, err = collect(tx, func(row scanner) (one string, err error) { return one, row.Scan(&one) },
		"SELECT about FROM duty_asks WHERE duty = $1 ORDER BY about", name)
	return about, len(about) > 0 && about[0] == "", err
}

// AnswerDuty says that the holder has looked at all that it was asked up to a
// number.
func (tx *Tx) AnswerDuty(h Hold, asked int64) error {
	tx.stirs = true
	err := h.kept(tx.exec("UPDATE duties SET done = $4 WHERE name = $1 AND holder = $2 AND token = $3",
		h.Duty, h.Holder, h.Token, asked))
	if err == nil {
		_, err = tx.exec("DELETE FROM duty_asks WHERE duty = $1 AND asked <= $2", h.Duty, asked)
	}
	return err
}

// kept turns an exec that touched no duty into a Stale error.
func (h Hold) kept(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return h.lost()
}

// Duty returns a duty; one that was never taken has no holder and token 0.
func (tx *Tx) Duty(name string) (Duty, error) {
	all, err := tx.duties("WHERE name = $1", name)
	if err != nil || len(all) == 0 {
		return Duty{Name: name}, err
	}
	return all[0], nil
}

// Duties returns all duties that ever were taken, by name.
func (tx *Tx) Duties() ([]Duty, error) { return tx.duties("ORDER BY name") }

func (tx *Tx) duties(which string, args ...any) ([]Duty, error) {
	now, err := tx.clock()
	if err != nil {
		return nil, err
	}
	return collect(tx, func(row scanner) (d Duty, err error) {
		err = row.Scan(&d.Name, &d.Token, &d.Holder, asTime(&d.Ends), &d.Asked, &d.Done, &d.Said)
		d.Live = d.Holder != "" && now.Before(d.Ends)
		return d, err
	}, "SELECT "+dutyColumns+" FROM duties "+which, args...)
}

// clock is the time by which leases run: the database's where several processes
// may use it, else that of the transaction.
func (tx *Tx) clock() (time.Time, error) {
	query := tx.time()
	if query == "" {
		return tx.Now, nil
	}
	var now time.Time
	err := tx.queryRow(query).Scan(asTime(&now))
	return now, err
}

// errRestarted is for who lost its place to a later run of the same name.
func errRestarted(name string) error {
	return block.Errorf(
		block.Stale,
		"this process is not among the zone's any more: it did not show itself for too long, "+
			"or another one was started under its name %q",
		name,
	)
}
