package block

import "time"

// Placement is for operators: a volume for which no backend was found, or
// another one than at first.
type Placement struct {
	ID      int64     `json:"-"` // given by the catalog
	At      time.Time `json:"at"`
	Volume  VolumeID  `json:"volume"`
	Project ProjectID `json:"project"`
	// What was to be done: create, extend, retype or migrate.
	What    string `json:"what"`
	Size    int64  `json:"size"`              // GiB that were wanted
	Type    string `json:"type,omitempty"`    // its name
	Backend string `json:"backend,omitempty"` // the one that was chosen; "" for none
	// Failed is the backend that was chosen before and could not do it, and Error
	// what it said.
	Failed  string           `json:"failed,omitempty"`
	Error   string           `json:"error,omitempty"`
	Refused []BackendRefusal `json:"refused"` // by backend
}

// BackendRefusal says why a backend was not chosen.
type BackendRefusal struct {
	Backend string `json:"backend"`
	Filter  string `json:"filter"` // by Cinder's name where it has such a filter
	Reason  string `json:"reason"`
}
