package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Placement is a volume for which no backend was found, or another one than at
// first. It is for administrators.
type Placement struct {
	At      time.Time        `json:"at"`
	Volume  string           `json:"volume"`
	Project string           `json:"project"`
	What    string           `json:"what"` // create, extend, retype or migrate
	Size    int64            `json:"size"` // GiB that were wanted
	Type    string           `json:"type"`
	Backend string           `json:"backend"` // "" for none
	Failed  string           `json:"failed"`  // the backend where it was before
	Error   string           `json:"error"`   // of that one
	Refused []BackendRefusal `json:"refused"`
}

// BackendRefusal says why a backend was not chosen.
type BackendRefusal struct {
	Backend string `json:"backend"`
	Filter  string `json:"filter"`
	Reason  string `json:"reason"`
}

// Placements lists them, the newest first; of one volume where that is not "".
func (s *Session) Placements(ctx context.Context, volume string) ([]Placement, error) {
	path := "placements"
	if volume != "" {
		path += "?volume=" + url.QueryEscape(volume)
	}
	var out struct {
		Placements []Placement `json:"placements"`
	}
	err := s.storesAPI(ctx, http.MethodGet, path, nil, &out)
	return out.Placements, err
}
