package nbd

import (
	"cmp"
	"time"

	"kvol/internal/export/line"
)

// Limits bound what clients can make the server hold. Zero means the default.
type Limits struct {
	Connections       int           // at once, over all listeners; 1024
	ClientConnections int           // at once, of one host by its IP address; as many as Connections
	ExportConnections int           // at once, to one export; 64
	Handshake         time.Duration // from accept to transmission; 15 s
	Options           int           // in one handshake; 64
	OptionBytes       int           // of one option's data; 16 KiB
	Requests          int           // under way in one connection; 128
	InFlightBytes     int           // of requests under way in one connection; 64 MiB, at least MaxRequest
	// ServerBytes is what the requests of all connections may hold together: a
	// connection's part of it is the same for each that is open. One request of
	// any size is always taken, so that the bound is ServerBytes and one request
	// for each connection; 1 GiB.
	ServerBytes int
	Workers     int           // of one connection; 16
	Grace       time.Duration // for what is under way when the server stops; 5 s
	// Stall is how long a client may take to begin to read replies, or to send
	// what it said it would, before it is cut off; above it, a second for each
	// MiB is granted. A client without requests under way may stay idle for
	// ever, as long as its host answers; 30 s.
	Stall time.Duration
}

// MaxRequest is the most bytes that one read or write may have: what the
// protocol says clients may count on.
const MaxRequest = line.MaxBuffer

func (l Limits) withDefaults() Limits {
	l.Connections = cmp.Or(l.Connections, 1024)
	l.ClientConnections = cmp.Or(l.ClientConnections, l.Connections)
	l.ExportConnections = cmp.Or(l.ExportConnections, 64)
	l.Handshake = cmp.Or(l.Handshake, 15*time.Second)
	l.Options = cmp.Or(l.Options, 64)
	l.OptionBytes = cmp.Or(l.OptionBytes, 16<<10)
	l.Requests = cmp.Or(l.Requests, 128)
	l.InFlightBytes = max(l.InFlightBytes, cmp.Or(l.InFlightBytes, 64<<20), MaxRequest)
	l.ServerBytes = cmp.Or(l.ServerBytes, 1<<30)
	l.Workers = cmp.Or(l.Workers, 16)
	l.Grace = cmp.Or(l.Grace, 5*time.Second)
	l.Stall = cmp.Or(l.Stall, 30*time.Second)
	return l
}
