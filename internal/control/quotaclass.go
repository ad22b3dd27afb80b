package control

import (
	"context"
	"maps"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// QuotaClass returns the limits of a class, for administrators: those of the
// class "default" hold for every project without its own, others for nobody. A
// class has the default's limits where it has none.
func (s *Service) QuotaClass(ctx context.Context, c block.Caller, class string) (map[string]int64, error) {
	if err := mustAdminister(c, "volume_extension:quota_classes:get"); err != nil {
		return nil, err
	}
	return s.quotaClass(ctx, class)
}

func (s *Service) quotaClass(ctx context.Context, class string) (map[string]int64, error) {
	limits := map[string]int64{}
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		names, err := resources(tx)
		if err != nil {
			return err
		}
		for _, name := range names {
			limits[name] = unset(name)
		}
		for _, layer := range []string{catalog.DefaultQuotaClass, class} {
			set, err := tx.QuotaClass(layer)
			if err != nil {
				return err
			}
			for name, limit := range set {
				if _, known := limits[name]; known {
					limits[name] = limit
				}
			}
		}
		return nil
	})
	return limits, err
}

// SetQuotaClass sets some limits of a class, for administrators.
func (s *Service) SetQuotaClass(ctx context.Context, c block.Caller, class string, limits map[string]int64) error {
	if err := mustAdminister(c, "volume_extension:quota_classes:update"); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if err := checkLimits(tx, "quota class set", limits); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(limits)) {
			if err := tx.SetQuotaClass(class, name, limits[name]); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkLimits refuses limits of nothing and such as can't be.
func checkLimits(tx *catalog.Tx, what string, limits map[string]int64) error {
	known, err := resources(tx)
	if err != nil {
		return err
	}
	var bad []string
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		switch {
		case !slices.Contains(known, name):
			bad = append(bad, name)
		case limits[name] < block.Unlimited:
			return block.Errorf(block.Invalid, "%s must be >= -1", name)
		case limits[name] > maxSize:
			return block.Errorf(block.Invalid, "%s must be <= %d", name, maxSize)
		}
	}
	if len(bad) > 0 {
		return invalidInput("Bad key(s) in %s: %s", what, strings.Join(bad, ", "))
	}
	return nil
}
