package rivals

import (
	"time"

	"kvol/internal/block"
)

// MaxBids is how many bids one Ask may have.
const MaxBids = 10000

// Ask is one zone's question to another whether it may take volumes over.
type Ask struct {
	Index int   `json:"index"`          // by which the asking zone draws epochs
	Look  bool  `json:"look,omitempty"` // tell what you would say, and write nothing down
	Bids  []Bid `json:"bids"`           // MaxBids at most
}

// Bid is for one volume. Its Epoch is 0 in a look.
type Bid struct {
	SourceZone block.Zone     `json:"source_zone"`
	Volume     block.VolumeID `json:"volume"`
	Epoch      uint64         `json:"epoch,omitempty"`
}

// Answers are to the bids of an Ask, in their order.
type Answers struct {
	Answers []Answer `json:"answers"`
}

// Answer is what a zone says to a bid: it is granted, or one of the others says
// why not.
type Answer struct {
	Granted bool `json:"granted,omitempty"`
	// Taken says that the volume lives on elsewhere: in the zone that answers, or
	// in another one, of which it has heard.
	Taken *block.Recovered `json:"taken,omitempty"`
	// Busy says that the zone that answers takes it over right now.
	Busy *Busy `json:"busy,omitempty"`
	// Above is an epoch that a higher bid was granted under; one above it is needed.
	Above uint64 `json:"above,omitempty"`
	// Refused is why nothing of the kind can be said.
	Refused string `json:"refused,omitempty"`
}

// Busy is a takeover that is under way.
type Busy struct {
	Volume block.VolumeID `json:"volume,omitempty"` // that it makes; "" before that is known
	Since  time.Time      `json:"since"`
}
