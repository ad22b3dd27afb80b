package dr

import (
	"net/http"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

// relayBody is how far a replica was sent on.
type relayBody struct {
	SourceZone   block.Zone     `json:"source_zone"`
	VolumeID     block.VolumeID `json:"volume_id"`
	Destination  block.Zone     `json:"destination"`
	Relay        int64          `json:"relay"`   // its seq
	Follows      int64          `json:"follows"` // the seq by which the points come here
	Confirmed    *pointBody     `json:"confirmed"`
	ReplicatedTo *time.Time     `json:"replicated_up_to"` // on the source's clock
	LastError    string         `json:"last_error"`
	BytesSent    int64          `json:"bytes_sent"`
}

func (s *Server) relays(r *http.Request, c block.Caller) (any, error) {
	list, err := s.cfg.Service.RelayStates(r.Context(), c)
	return map[string]any{"relays": each(list, relayView)}, err
}

func relayView(r control.RelayState) relayBody {
	b := relayBody{SourceZone: r.SourceZone, VolumeID: r.Source, Destination: r.Destination, Relay: r.Seq,
		Follows: r.Follows, ReplicatedTo: when(r.Current), LastError: r.Error, BytesSent: r.BytesSent}
	if r.Confirmed.ID != "" {
		p := pointView(r.Confirmed, r.Confirmed.ID)
		b.Confirmed = &p
	}
	return b
}
