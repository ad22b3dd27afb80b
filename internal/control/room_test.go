package control

import (
	"context"
	"errors"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/catalog/catalogtest"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// slowToTell is a store that takes its time to tell its room.
type slowToTell struct {
	driver.Driver
	asked, answer chan struct{}
}

func (s slowToTell) Unwrap() driver.Driver { return s.Driver }

func (s slowToTell) Capacity(ctx context.Context) (driver.Capacity, error) {
	s.asked <- struct{}{}
	<-s.answer
	if err := ctx.Err(); err != nil {
		return driver.Capacity{}, err
	}
	return s.Driver.Capacity(ctx)
}

// TestRoomIsKnownWhenWhoAskedIsGone: what a store answers is of use to others,
// whatever became of the client for which it was asked.
func TestRoomIsKnownWhenWhoAskedIsGone(t *testing.T) {
	store := slowToTell{mem.New(mem.Options{Capacity: 10 * block.GiB}), make(chan struct{}), make(chan struct{})}
	c, err := catalog.Open(t.Context(), catalog.Options{Image: catalogtest.Empty()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	set, err := driver.NewSet(map[string]driver.Driver{"s": store}, []block.Backend{{Name: "b", Store: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Catalog: c, Backends: set, Zone: "b"})
	if err != nil {
		t.Fatal(err)
	}
	client, hangUp := context.WithCancel(t.Context())
	measured := make(chan error, 1)
	go func() { measured <- s.measureRooms(client) }()
	<-store.asked
	hangUp()
	close(store.answer)
	if err := <-measured; !errors.Is(err, context.Canceled) {
		t.Errorf("who hung up is told %v", err)
	}
	if r := s.stock.get("s"); !r.known || r.capacity.Total != 10*block.GiB {
		t.Errorf("the store's room is %+v", r)
	}
}
