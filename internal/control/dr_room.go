package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/lag"
)

// DocumentRoom is how full a backend of the telling zone is.
type DocumentRoom struct {
	Backend string  `json:"backend"`
	Total   int64   `json:"total"` // bytes
	Free    int64   `json:"free"`
	Fills   float64 `json:"fills"` // bytes a second, over the last hour
	Known   bool    `json:"known"` // Fills is
}

// lowRoom is the share of a store's room under which it counts as low.
const lowRoom = 20

// markRooms notes how full this zone's stores are. One that does not answer is
// left out; its own alarms say so.
func (s *Service) markRooms(ctx context.Context) {
	ask, cancel := context.WithTimeout(ctx, capacityTimeout)
	defer cancel()
	rooms := s.backends.Rooms(ask)
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	for backend, room := range rooms {
		if room.Err != nil {
			continue
		}
		if s.watch.rooms[backend] == nil {
			s.watch.rooms[backend] = &lag.Room{}
		}
		s.watch.rooms[backend].Mark(s.now(), room.Total, room.Free)
	}
}

// ownRooms is what other zones are told of this one's room.
func (s *Service) ownRooms() (out []DocumentRoom) {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	for _, b := range s.backends.Backends() {
		r := s.watch.rooms[b.Name]
		if r == nil {
			continue
		}
		d := DocumentRoom{Backend: b.Name, Total: r.Total, Free: r.Free()}
		d.Fills, d.Known = r.Fills()
		out = append(out, d)
	}
	return out
}

// roomOf is the room of a policy's backup backend: this zone's own, or what the
// destination last told.
func (s *Service) roomOf(p block.Protection, d Document, role string) RoomState {
	rooms := d.Rooms
	if role == RoleTarget {
		rooms = s.ownRooms()
	}
	for _, r := range rooms {
		if r.Backend != p.Backup.Name {
			continue
		}
		out := RoomState{Known: true, Total: r.Total, Free: r.Free, Fills: r.Fills, FullIn: lag.Never}
		if r.Known {
			out.FullIn = lag.FullIn(r.Free, r.Fills)
		}
		// A store without a bound tells no total.
		out.Low = r.Total > 0 && r.Free < r.Total/lowRoom || out.FullIn >= 0 && out.FullIn < roomSoon
		return out
	}
	return RoomState{FullIn: lag.Never}
}
