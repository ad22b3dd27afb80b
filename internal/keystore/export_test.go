package keystore

import "context"

// Round does what there is to do once, as Run does again and again.
func (p *Placer) Round(ctx context.Context) error { return p.round(ctx) }
