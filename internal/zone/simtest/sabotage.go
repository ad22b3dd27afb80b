package simtest

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"modernc.org/sqlite"
)

// Sabotage is a rule that is broken on purpose, to see that stories notice. What
// is broken is what the code stands on, so that the code does as if it had a
// bug: the catalog forgets what it is told, or the disk does.
type Sabotage string

// The sabotages.
const (
	NoSnapshot Sabotage = "a point is committed without a snapshot of it"
	ShortDiff  Sabotage = "the difference leaves something out"
	NoRevert   Sabotage = "a step that was cut is not taken back"
	NoChanges  Sabotage = "some changes are not counted"
	NoFlush    Sabotage = "progress is noted before it is flushed"
	LateClock  Sabotage = "points are dated later than they were cut"
	ShortKeep  Sabotage = "retention lets points go that it should keep"
	Deaf       Sabotage = "the source is not told of a promotion"
	NoPin      Sabotage = "pins are not written down"
	LeakPin    Sabotage = "pins are not taken off"
	NoCut      Sabotage = "cuts are not written down"
	NoFence    Sabotage = "a promotion raises no epoch"
	NoPending  Sabotage = "the pending step is forgotten"
	NoRow      Sabotage = "points are announced and not written down"
	OneByOne   Sabotage = "the volumes of a group are cut one after the other"
	NoInstant  Sabotage = "points forget the instant that they are of"
	OldInstant Sabotage = "what a group has in common is forgotten with the next point"
)

// Sabotages lists all of them.
var Sabotages = []Sabotage{NoSnapshot, ShortDiff, NoRevert, NoChanges, LateClock, ShortKeep, Deaf, NoPin,
	LeakPin, NoCut, NoFence, NoPending, NoRow, OneByOne, NoInstant, OldInstant}

// GroupSabotages are those that only stories of groups can notice.
var GroupSabotages = []Sabotage{OneByOne, NoInstant, OldInstant}

// triggers are what makes a catalog forget.
var triggers = map[Sabotage][]string{
	NoPin:   {"BEFORE INSERT ON pins BEGIN SELECT RAISE(IGNORE); END"},
	LeakPin: {"BEFORE DELETE ON pins BEGIN SELECT RAISE(IGNORE); END"},
	NoCut:   {"BEFORE INSERT ON cuts BEGIN SELECT RAISE(IGNORE); END"},
	NoFence: {"BEFORE INSERT ON fences BEGIN SELECT RAISE(IGNORE); END",
		"AFTER UPDATE OF epoch ON replicas WHEN NEW.epoch > 1 BEGIN UPDATE replicas SET epoch = 1 WHERE id = NEW.id; END"},
	NoPending: {"AFTER UPDATE OF pending ON replicas WHEN NEW.pending IS NOT NULL AND OLD.pending IS NOT NULL " +
		"BEGIN UPDATE replicas SET pending = OLD.pending WHERE id = NEW.id; END"},
	NoRow: {"BEFORE INSERT ON points WHEN NEW.sequence % 3 = 0 BEGIN SELECT RAISE(IGNORE); END"},
	NoInstant: {"AFTER INSERT ON points WHEN NEW.cut_id IS NOT NULL " +
		"BEGIN UPDATE points SET cut = NULL, cut_id = NULL WHERE id = NEW.id; END"},
	OldInstant: {"AFTER INSERT ON points WHEN NEW.cut_id IS NOT NULL " +
		"BEGIN UPDATE points SET cut = NULL, cut_id = NULL WHERE replica_id = NEW.replica_id AND id <> NEW.id; END"},
}

// spoil puts a sabotage's triggers into a catalog.
func (s Sabotage) spoil(image []byte) (spoiled []byte, err error) {
	if len(triggers[s]) == 0 {
		return image, nil
	}
	conn, err := (&sqlite.Driver{}).Open("file::memory:")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	db, ok := conn.(interface {
		driver.ExecerContext
		Serialize() ([]byte, error)
		Deserialize(image []byte) error
	})
	if !ok {
		return nil, fmt.Errorf("the driver's connections are %T", conn)
	}
	if err := db.Deserialize(image); err != nil {
		return nil, err
	}
	for i, body := range triggers[s] {
		statement := fmt.Sprintf("CREATE TRIGGER sabotage%d %s", i, body)
		if _, err := db.ExecContext(context.Background(), statement, nil); err != nil {
			return nil, err
		}
	}
	return db.Serialize()
}
