package control

import (
	"context"
	"strconv"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/export/qos"
)

// qosOf returns the limits on a volume's hosts: those that the configuration
// gives to the volume itself, else the QoS specs of its type. The zero QoSSpecs
// limit nothing.
func (s *Service) qosOf(tx *catalog.Tx, v block.Volume) (block.QoSSpecs, error) {
	if own, ok := s.cfg.VolumeQoS[v.ID]; ok {
		return block.QoSSpecs{Consumer: block.QoSBoth, Specs: QoSTexts(own)}, nil
	}
	if v.TypeID == "" {
		return block.QoSSpecs{}, nil
	}
	q, _, err := tx.QoSOfType(v.TypeID)
	return q, err
}

// QoSTexts writes limits as QoS specs have them, whose values are texts.
func QoSTexts(limits map[string]int64) map[string]string {
	texts := map[string]string{}
	for key, value := range limits {
		texts[key] = strconv.FormatInt(value, 10)
	}
	return texts
}

// qosNumbers are the limits among QoS specs. The API takes any keys and values:
// what is no whole number above 0 limits nothing.
func qosNumbers(specs map[string]string) map[string]int64 {
	limits := map[string]int64{}
	for key, text := range specs {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
			limits[key] = n
		}
	}
	return limits
}

// hostQoS is what connection_info says about a volume's limits: all specs if
// hosts keep them, else nil (cinder/volume/manager.py, _parse_connection_options).
func (s *Service) hostQoS(tx *catalog.Tx, v block.Volume) (any, error) {
	q, err := s.qosOf(tx, v)
	if err != nil || q.Consumer == block.QoSBackEnd || len(q.Specs) == 0 {
		return nil, err
	}
	limits, out := qosNumbers(q.Specs), map[string]any{}
	for key, text := range q.Specs {
		if _, ok := limits[key]; !ok {
			out[key] = text
		}
	}
	for key, text := range QoSTexts(qos.Resolve(limits, v.Size)) {
		out[key] = text
	}
	return out, nil
}

// exportQoS are the limits that this zone's exports of a volume keep.
func (s *Service) exportQoS(ctx context.Context, v block.Volume) (limits map[string]int64, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		q, err := s.qosOf(tx, v)
		if limits = nil; q.Consumer != block.QoSFrontEnd {
			limits = qos.Resolve(qosNumbers(q.Specs), v.Size)
		}
		return err
	})
	return limits, err
}

// limiter is the one of all exports of a volume; nil where nothing limits it.
// It outlives them, so that nobody gains a burst by connecting again.
func (e *Exports) limiter(v block.VolumeID, specs map[string]int64) *qos.Limiter {
	limits := qos.LimitsOf(specs)
	e.mu.Lock()
	defer e.mu.Unlock()
	l, ok := e.limiters[v]
	if limits == (qos.Limits{}) {
		if ok { // exports from before keep to the same
			l.Set(limits)
		}
		return nil
	}
	if !ok {
		l = qos.NewLimiter(e.s.cfg.Now)
		e.limiters[v] = l
	}
	l.Set(limits)
	return l
}

// retune lets the exports that are open and limited keep to QoS specs as they
// are now. Those that nothing limited when they were opened stay so.
func (e *Exports) retune(ctx context.Context) error {
	e.tell(ofLimits)
	e.mu.Lock()
	var volumes []block.VolumeID
	for id := range e.limiters {
		volumes = append(volumes, id)
	}
	e.mu.Unlock()
	for _, id := range volumes {
		var v block.Volume
		err := e.s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
			v, err = tx.Volume(id)
			return err
		})
		if block.Is(err, block.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		limits, err := e.s.exportQoS(ctx, v)
		if err != nil {
			return err
		}
		e.limiter(id, limits)
	}
	return nil
}

// forget drops what is kept for a volume that is gone.
func (e *Exports) forget(v block.VolumeID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.limiters, v)
}
