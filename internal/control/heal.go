package control

import (
	"context"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// healCall is how long one zone is waited for when it is asked for a block.
const healCall = 4 * time.Second

// healSilence is how long a zone that gave no answer is not asked for blocks
// again, unless it is heard of before. Who reads waits for each of them.
const healSilence = time.Minute

// BlockWanted asks another zone for a block of which this one has no whole
// copy.
type BlockWanted struct {
	Zone   block.Zone     `json:"zone"`   // of the volume, not of a replica
	Volume block.VolumeID `json:"volume"` // in that zone
	Off    int64          `json:"offset"` // in bytes, a multiple of 4 KiB
	CRC    uint32         `json:"crc32c"` // of its 4 KiB
}

// BlockFound answers it.
type BlockFound struct {
	Data   []byte    `json:"data,omitempty"`  // nothing where no moment that the zone knows has such a block
	Newest time.Time `json:"newest,omitzero"` // the newest moment that it looked at
}

// healing is what blocks are looked for right now. A zone that looks for a
// block on behalf of another one must not ask that one in turn, however
// damaged its own copy is.
type healing struct {
	mu      sync.Mutex
	serving map[BlockWanted]int      // guarded by mu, as the next
	silent  map[block.Zone]time.Time // until when a zone is not asked
	turns   chan struct{}            // holds a token for each request of a peer that is worked on
}

// maxHealing is how many requests of peers are worked on at once.
const maxHealing = 4

func newHealing() *healing {
	return &healing{serving: map[BlockWanted]int{}, silent: map[block.Zone]time.Time{},
		turns: make(chan struct{}, maxHealing)}
}

func (h *healing) enter(ctx context.Context, want BlockWanted) (leave func(), err error) {
	if err := waitTurn(ctx, h.turns); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serving[want]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.serving[want]--; h.serving[want] == 0 {
			delete(h.serving, want)
		}
		<-h.turns
	}, nil
}

func waitTurn(ctx context.Context, turns chan<- struct{}) error {
	select {
	case turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return block.Wrap(block.Unavailable, ctx.Err(), "Too many blocks are looked for.")
	}
}

func (h *healing) busy(want BlockWanted) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.serving[want] > 0
}

func (h *healing) isSilent(zone block.Zone, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Before(h.silent[zone])
}

// heard notes whether a zone answered.
func (h *healing) heard(zone block.Zone, answered bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if delete(h.silent, zone); !answered {
		h.silent[zone] = now.Add(healSilence)
	}
}

var crc32c = crc32.MakeTable(crc32.Castagnoli)

// Heal gets a block of which this zone's store has no whole copy from another
// zone: 4 KiB at an offset of one of these volumes or replicas, with this
// CRC32C. The error's sentence says who was asked and what they had.
func (s *Service) Heal(ctx context.Context, volumes []block.VolumeID, off int64, crc uint32) ([]byte, error) {
	zones := s.otherZones()
	if len(zones) == 0 {
		return nil, block.Errorf(block.NotFound, "This zone has no other zone to ask for a copy.")
	}
	wanted, err := s.blocksWanted(ctx, volumes, off, crc)
	if err != nil {
		return nil, err
	}
	var said []string
	for _, want := range wanted {
		if s.healing.busy(want) {
			continue
		}
		for _, zone := range zones {
			data, why := s.askForBlock(ctx, zone, want)
			if data != nil {
				return data, nil
			}
			said = append(said, why)
		}
	}
	if said == nil {
		return nil, block.Errorf(block.NotFound, "No volume is known that the bytes belong to.")
	}
	return nil, block.Errorf(block.NotFound, "No other zone gave a copy: %s", strings.Join(said, " "))
}

// blocksWanted says of what volume, in what zone, a block is that lies in one of
// these volumes or replicas of this zone.
func (s *Service) blocksWanted(
	ctx context.Context,
	ids []block.VolumeID,
	off int64,
	crc uint32,
) (all []BlockWanted, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all = nil
		for _, id := range ids {
			want := BlockWanted{Zone: s.cfg.Zone, Volume: id, Off: off, CRC: crc}
			r, err := tx.Replica(id)
			if err == nil {
				want.Zone, want.Volume = r.SourceZone, r.Source
			} else if !block.Is(err, block.NotFound) {
				return err
			}
			all = append(all, want)
		}
		return nil
	})
	return all, err
}

// askForBlock asks one zone, and says why it did not help.
func (s *Service) askForBlock(ctx context.Context, zone block.Zone, want BlockWanted) (data []byte, why string) {
	if s.healing.isSilent(zone, s.now()) {
		return nil, fmt.Sprintf("zone %s could not be asked a moment ago.", zone)
	}
	limited, cancel := context.WithTimeout(ctx, healCall)
	defer cancel()
	var found BlockFound
	err := s.cfg.DR.Peers.Call(limited, zone, http.MethodPost, PathBlock, want, &found)
	if silent := block.Is(err, block.Unavailable); !silent || ctx.Err() == nil {
		s.healing.heard(zone, !silent, s.now())
	}
	switch {
	case block.Is(err, block.NotFound) || block.Is(err, block.Forbidden):
		return nil, fmt.Sprintf("zone %s has no copy of volume %s.", zone, want.Volume)
	case err != nil:
		s.log.Warn("a zone could not be asked for a block", "peer", zone, "volume", want.Volume, "err", err)
		return nil, fmt.Sprintf("zone %s could not be asked.", zone)
	case len(found.Data) == blockBytes && crc32.Checksum(found.Data, crc32c) == want.CRC:
		return found.Data, ""
	case len(found.Data) != 0:
		return nil, fmt.Sprintf("what zone %s gave does not match the checksum.", zone)
	case found.Newest.IsZero():
		return nil, fmt.Sprintf("zone %s has no whole recovery point of volume %s.", zone, want.Volume)
	}
	return nil, fmt.Sprintf("zone %s has volume %s up to %s, and these bytes in no recovery point of it: "+
		"they are newer, or were let go.", zone, want.Volume, found.Newest.UTC().Format(time.RFC3339))
}
