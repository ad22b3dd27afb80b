package client

import (
	"context"
	"net/http"
	"time"
)

// Finding is one thing that is not as it should be.
type Finding struct {
	Kind       string `json:"kind"`
	Text       string `json:"text"`
	Advice     string `json:"advice"`
	Mends      string `json:"mends"` // what mending would do; "" where only people can
	Mended     bool   `json:"mended"`
	VolumeID   string `json:"volume_id"`
	SourceZone string `json:"source_zone"`
	Peer       string `json:"peer"`
	Protection int64  `json:"protection"`
	Point      string `json:"point"`
	Holder     string `json:"holder"`
	Store      string `json:"store"`
}

// Doctor is what was found in a zone.
type Doctor struct {
	AsOf     time.Time `json:"as_of"`
	Findings []Finding `json:"findings"`
	LeftOut  int       `json:"left_out"`
}

// Doctor looks for what is not as it should be in the zone, and with mend mends
// what can be mended without losing anything.
func (s *Session) Doctor(ctx context.Context, mend bool) (Doctor, error) {
	method := http.MethodGet
	if mend {
		method = http.MethodPost
	}
	var out struct {
		Doctor Doctor `json:"doctor"`
	}
	err := s.drCall(ctx, method, "/doctor", nil, &out)
	return out.Doctor, err
}

// Audit is a call, or an action of the zone itself, that was noted.
type Audit struct {
	ID     int64     `json:"id"`
	At     time.Time `json:"at"`
	User   string    `json:"user"`
	Remote string    `json:"remote"`
	Call   string    `json:"call"`
	Params string    `json:"params"`
	Code   int       `json:"code"`
}

// Audits lists what was noted in the zone, the newest first.
func (s *Session) Audits(ctx context.Context) ([]Audit, error) {
	var out struct {
		Audit []Audit `json:"audit"`
	}
	err := s.dr(ctx, "/audit", &out)
	return out.Audit, err
}
