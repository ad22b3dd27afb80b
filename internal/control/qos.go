package control

import (
	"strconv"

	"kvol/internal/block"
	"kvol/internal/export/qos"
)

// QoS is the limits on hosts, by Cinder's keys (see qos.Check): for each volume
// of a type, and for single volumes, which then have those and not their type's.
type QoS struct {
	Types   map[block.TypeID]map[string]int64
	Volumes map[block.VolumeID]map[string]int64
}

// specs are the limits of a volume at its size; nil for none.
func (q QoS) specs(v block.Volume) map[string]int64 {
	specs, ok := q.Volumes[v.ID]
	if !ok {
		specs = q.Types[v.TypeID]
	}
	return qos.Resolve(specs, v.Size)
}

// qosSpecs is what connection_info says: Cinder's values are strings.
func (q QoS) qosSpecs(v block.Volume) any {
	specs := q.specs(v)
	if len(specs) == 0 {
		return nil
	}
	out := map[string]any{}
	for key, value := range specs {
		out[key] = strconv.FormatInt(value, 10)
	}
	return out
}

// limiter is the one of all exports of a volume; nil where nothing limits it.
// It outlives them, so that nobody gains a burst by connecting again.
func (e *Exports) limiter(v block.Volume) *qos.Limiter {
	specs := e.s.cfg.QoS.specs(v)
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(specs) == 0 {
		return nil
	}
	l, ok := e.limiters[v.ID]
	if !ok {
		l = qos.NewLimiter(e.s.cfg.Now)
		e.limiters[v.ID] = l
	}
	l.Set(qos.LimitsOf(specs))
	return l
}

// forget drops what is kept for a volume that is gone.
func (e *Exports) forget(v block.VolumeID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.limiters, v)
}
