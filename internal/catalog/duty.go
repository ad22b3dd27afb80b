package catalog

import (
	"database/sql"
	"errors"
	"slices"
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
	// Asked numbers what others wanted the holder to look at again. It has looked at
	// all up to Done, and may have at some that came later; see DutyAnswered.
	Asked, Done int64
	Said        string // what the holder tells the others, in its own words
}

// DutyAsk is something that the holder of a duty is to look at again.
type DutyAsk struct {
	About  string // its name, or "" for all that the holder serves
	Asked  int64  // the last number with which it was wanted
	Looked int64  // the last one for which it has been looked at
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
	for _, one := range subjects(about) { // what is not there yet has been looked at whenever it was asked before
		_, err := tx.exec(`INSERT INTO duty_asks (duty, about, asked, looked) VALUES ($1, $2, $3, $4)
			ON CONFLICT (duty, about) DO UPDATE SET asked = excluded.asked`, name, one, d.Asked, d.Asked-1)
		if err != nil {
			return Duty{}, err
		}
	}
	return d, nil
}

// subjects are the names by which is asked about something, or about all.
func subjects(about []string) []string {
	if len(about) == 0 {
		return []string{""}
	}
	return about
}

// DutyAsks lists what the holder of a duty is to look at again.
func (tx *Tx) DutyAsks(name string) ([]DutyAsk, error) {
	return collect(tx, func(row scanner) (a DutyAsk, err error) {
		return a, row.Scan(&a.About, &a.Asked, &a.Looked)
	}, "SELECT about, asked, looked FROM duty_asks WHERE duty = $1 ORDER BY about", name)
}

// DutyAnswered reports whether the holder of a duty has looked at what AskDuty wanted,
// which returned d, whatever else it was asked; so it has when it is not the holder any
// more.
func (tx *Tx) DutyAnswered(d Duty, about ...string) (yes bool, err error) {
	now, err := tx.Duty(d.Name)
	if err != nil || now.Holder == "" || now.Token != d.Token || now.Done >= d.Asked {
		return err == nil, err
	}
	open, err := tx.DutyAsks(d.Name)
	return err == nil && !slices.ContainsFunc(open, func(a DutyAsk) bool {
		return a.Looked < d.Asked && slices.Contains(subjects(about), a.About)
	}), err
}

// AnswerDuty says that the holder has looked at something, whenever it was asked to up
// to a number.
func (tx *Tx) AnswerDuty(h Hold, about string, asked int64) error {
	tx.stirs = true
	_, err := tx.exec("DELETE FROM duty_asks WHERE duty = $1 AND about = $2 AND asked <= $3", h.Duty, about, asked)
	if err == nil { // it was asked again meanwhile
		_, err = tx.exec("UPDATE duty_asks SET looked = $3 WHERE duty = $1 AND about = $2 AND looked < $3",
			h.Duty, about, asked)
	}
	if err != nil {
		return err
	}
	return h.kept(tx.exec(`UPDATE duties
		SET done = COALESCE((SELECT MIN(looked) FROM duty_asks WHERE duty = duties.name), asked)
		WHERE name = $1 AND holder = $2 AND token = $3`, h.Duty, h.Holder, h.Token))
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
