package mem

import (
	"context"
	"maps"
	"net"
	"slices"

	"kvol/internal/block"
	"kvol/internal/driver"
)

var _ driver.Lender = (*Store)(nil)

// Lending implements driver.Lender.
func (s *Store) Lending(block.VolumeID) (how driver.Lending, ok bool) {
	if s.lending == nil {
		return driver.Lending{}, false
	}
	return driver.Lending{Protocol: s.lending.Protocol, Data: maps.Clone(s.lending.Data)}, true
}

// Lend implements driver.Lender.
func (s *Store) Lend(_ context.Context, id block.VolumeID) error {
	return s.lent(id, func(v *volume) { v.withheld = false })
}

// Reclaim implements driver.Lender.
func (s *Store) Reclaim(_ context.Context, id block.VolumeID) error {
	return s.lent(id, func(v *volume) { v.withheld = false })
}

// Withhold implements driver.Lender.
func (s *Store) Withhold(_ context.Context, id block.VolumeID) error {
	return s.lent(id, func(v *volume) {
		v.withheld = true
		for address := range v.borrowers {
			v.borrowers[address] = false
		}
	})
}

// Borrowers implements driver.Lender.
func (s *Store) Borrowers(_ context.Context, id block.VolumeID) (who []driver.Borrower, err error) {
	err = s.lent(id, func(v *volume) {
		for _, address := range slices.Sorted(maps.Keys(v.borrowers)) {
			if host, _, err := net.SplitHostPort(address); err == nil && v.borrowers[address] {
				who = append(who, driver.Borrower{Address: address, Host: host})
			}
		}
	})
	return who, err
}

// Cut implements driver.Lender.
func (s *Store) Cut(_ context.Context, id block.VolumeID, who []driver.Borrower) error {
	return s.lent(id, func(v *volume) {
		for _, b := range who {
			v.borrowers[b.Address] = false
		}
	})
}

// lent runs do while no borrower writes.
func (s *Store) lent(id block.VolumeID, do func(*volume)) error {
	v, err := s.volume(id)
	if err != nil {
		return err
	}
	v.hosts.Lock()
	defer v.hosts.Unlock()
	if v.borrowers == nil {
		v.borrowers = map[string]bool{}
	}
	do(v)
	return nil
}

// Borrow opens a volume as a host does that uses it past whoever lends it, from
// an address, "192.0.2.7:1": tests are such hosts. One that was cut off is
// refused, and so are writes to a volume that is withheld.
func (s *Store) Borrow(id block.VolumeID, address string) (driver.Device, error) {
	b := &borrowed{address: address}
	err := s.lent(id, func(v *volume) {
		b.device = &device{v: v}
		if _, known := v.borrowers[address]; !known {
			v.borrowers[address] = true
		}
	})
	return b, err
}

// borrowed is a host's use of a volume.
type borrowed struct {
	*device
	address string
}

func (b *borrowed) WriteAt(p []byte, off int64) (n int, err error) {
	err = b.may(func() error { n, err = b.device.WriteAt(p, off); return err })
	return n, err
}

func (b *borrowed) Zero(off, length int64) error {
	return b.may(func() error { return b.device.Zero(off, length) })
}

func (b *borrowed) may(do func() error) error {
	b.v.hosts.RLock()
	defer b.v.hosts.RUnlock()
	if !b.v.borrowers[b.address] || b.v.withheld {
		return block.Errorf(block.Forbidden, "%s was cut off", b.address)
	}
	return do()
}

// Close ends the host's use.
func (b *borrowed) Close() error {
	b.v.hosts.Lock()
	defer b.v.hosts.Unlock()
	if b.v.borrowers[b.address] {
		delete(b.v.borrowers, b.address)
	}
	b.closed.Store(true)
	return nil
}
