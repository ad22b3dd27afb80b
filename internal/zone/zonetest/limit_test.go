package zonetest_test

import (
	"slices"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// TestAFirstCopyNeverStarvesTheOthers: while volumes that are too big for the
// link's limit are copied for the first time, the points of small ones keep
// going out, one after the other; the copies tell how far they are, the limit is
// shown and survives a restart, and taken off it holds nobody any more.
func TestAFirstCopyNeverStarvesTheOthers(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	small := protect(t, c, 3)
	admin := c.Session(source, zonetest.Admin)
	set := client.Limit{Zone: to, Rate: 64 << 10, CopyRate: 32 << 10}
	if _, err := admin.SetLimit(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	c.Cut(source, to)
	var big []*zonetest.Journey
	for i := range 5 { // more than there are places for first copies
		j := zonetest.NewJourney(t, c, source, 512, uint64(100+i))
		j.WriteHere(0, 512) // 2 MiB: minutes, at the limit
		big = append(big, j)
	}
	c.Mend(source, to)
	for round := range 3 {
		for _, j := range small {
			j.WriteHere(round, 1)
		}
		for _, j := range small {
			j.AwaitReplica(to)
		}
	}
	first := func() (found []client.Link) {
		t.Helper()
		links, err := admin.Links(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(links, func(l client.Link) bool {
			return l.Destination != to || !slices.Contains(ids(big), l.VolumeID)
		})
	}
	for _, l := range first() {
		if l.Confirmed != nil && l.Confirmed.Root == big[slices.Index(ids(big), l.VolumeID)].Root() {
			t.Errorf("3 rounds of points took longer than the first copy of volume %s: %+v", l.VolumeID, l)
		}
	}
	tells := func(l client.Link) bool {
		x := l.Transfer
		return x != nil && x.First && x.Total == 512*zonetest.BlockSize && x.Done > 0 && x.Done < x.Total && x.ETA != nil
	}
	if err := client.Poll(t.Context(), 10*time.Millisecond, func() (bool, error) {
		return slices.ContainsFunc(first(), tells), nil
	}); err != nil {
		t.Errorf("no first copy tells how far it is: %v; %+v", err, first())
	}
	c.Stop(source)
	c.Start(source)
	admin = c.Session(source, zonetest.Admin)
	all, err := admin.Limits(t.Context())
	if err != nil || len(all) != 1 || all[0].Now != 64<<10 || all[0].CopyRate != 32<<10 {
		t.Errorf("after a restart the limits are %+v, %v", all, err)
	}
	if err := admin.DeleteLimit(t.Context(), to, 0); err != nil {
		t.Fatal(err)
	}
	for _, j := range big {
		j.AwaitReplica(to)
	}
}

// TestALimitIsKeptToTheByte counts what goes out under a limit: never more than
// the limit's rate times the time that passed, and a burst.
func TestALimitIsKeptToTheByte(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	admin := c.Session(source, zonetest.Admin)
	const rate = 128 << 10
	if _, err := admin.SetLimit(t.Context(), client.Limit{Zone: to, Rate: rate}); err != nil {
		t.Fatal(err)
	}
	before := c.Sent(source, to)
	began := time.Now()
	j := zonetest.NewJourney(t, c, source, 128, 9)
	j.WriteHere(0, 128) // 512 KiB
	j.AwaitReplica(to)
	sent := c.Sent(source, to) - before
	// Beside the stream there are the zones' documents, of some KiB a second.
	most := int64(time.Since(began).Seconds()*(rate+64<<10)) + 512<<10
	if sent < 512<<10 || sent > most {
		t.Errorf("%d bytes went out in %s at %d bytes a second", sent, time.Since(began), rate)
	}
}
