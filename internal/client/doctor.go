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

// LastVisit is what the doctor found when it last looked by itself; 404 before the
// first time.
func (s *Session) LastVisit(ctx context.Context) (Doctor, error) {
	var out struct {
		Doctor Doctor `json:"doctor"`
	}
	err := s.dr(ctx, "/doctor?last=1", &out)
	return out.Doctor, err
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
